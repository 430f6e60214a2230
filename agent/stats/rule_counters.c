// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/stats/rule_counters.h"

#include <errno.h>

#include "loop.h"
#include "agent/ns/ns.h"
#include "agent/ns/offload.h"

/*
 * Who handed the socket out of a container may hold a copy and read the answers away. The control
 * thread does not wait for them again and again.
 */
#define AGAIN_MS 60000

/* A counter of the kernel's that begins again from zero with its table. */
static void step_counter(uint64_t *total, uint64_t *last, uint64_t raw)
{
	*total += raw >= *last ? raw - *last : raw;
	*last = raw;
}

static void step_count(struct stats_step steps[2], const struct shm_count *count)
{
	step_counter(&steps[0].total, &steps[0].raw, count->packets);
	step_counter(&steps[1].total, &steps[1].raw, count->bytes);
}

static void read_denied(struct stats_last *last, const struct offload_counts *counts)
{
	static const enum nsgate_counter of_protocol[SHM_PROTO_MAX] = {
		[SHM_PROTO_TCP] = NSGATE_COUNTER_DENIED_TCP,
		[SHM_PROTO_UDP] = NSGATE_COUNTER_DENIED_UDP,
		[SHM_PROTO_OTHER] = NSGATE_COUNTER_DENIED_OTHER,
	};

	for (int i = 0; i < SHM_DIRECTION_MAX; i++)
		if (counts->found[NSGATE_COUNTER_DENIED_IN + i])
			step_count(last->denied[i], &counts->of[NSGATE_COUNTER_DENIED_IN + i]);
	for (int i = 0; i < SHM_PROTO_MAX; i++)
		if (of_protocol[i] && counts->found[of_protocol[i]])
			step_counter(&last->denied_protocol[i].total, &last->denied_protocol[i].raw,
				     counts->of[of_protocol[i]].packets);
}

bool rule_counters_read(struct ns *ns)
{
	struct shm_control *control = &ns->shm[0]->control;
	struct offload_counts counts;
	int err;

	if (ns->aux_fd < 0 || loop_now_ms() < ns->last.ask_again_at_ms)
		return false;
	err = offload_read(ns->aux_fd, ns->record.table_inet, &counts);
	if (err == -ETIMEDOUT)
		ns->last.ask_again_at_ms = loop_now_ms() + AGAIN_MS;
	if (err)
		return false;
	for (int i = 0; i < SHM_DIRECTION_MAX; i++)
		if (counts.found[NSGATE_COUNTER_OFFLOADED_IN + i])
			step_count(ns->last.offloaded[i],
				   &counts.of[NSGATE_COUNTER_OFFLOADED_IN + i]);
	read_denied(&ns->last, &counts);
	if (counts.found[NSGATE_COUNTER_NOTICES])
		step_counter(&ns->last.notices.total, &ns->last.notices.raw,
			     counts.of[NSGATE_COUNTER_NOTICES].packets);
	if (counts.found[NSGATE_COUNTER_AGENT_DOWN])
		step_counter(&control->passed_down, &control->passed_down_raw,
			     counts.of[NSGATE_COUNTER_AGENT_DOWN].packets);
	if (counts.found[NSGATE_COUNTER_ASKED])
		step_counter(&control->asked, &control->asked_raw,
			     counts.of[NSGATE_COUNTER_ASKED].packets);
	return counts.found[NSGATE_COUNTER_ASKED];
}

void rule_counters_begin(struct ns *ns)
{
	struct shm_control *control = &ns->shm[0]->control;

	(void)rule_counters_read(ns);
	control->passed_down = 0;
	control->asked = 0;
	for (int i = 0; i < SHM_DIRECTION_MAX; i++)
		for (int unit = 0; unit < 2; unit++) {
			ns->last.offloaded[i][unit].total = 0;
			ns->last.denied[i][unit].total = 0;
		}
	ns->last.notices.total = 0;
	for (int i = 0; i < SHM_PROTO_MAX; i++)
		ns->last.denied_protocol[i].total = 0;
}

void rule_counters_read_guard(struct ns *ns)
{
	struct offload_guard guard;

	if (ns->aux_fd < 0 || offload_read_guard(ns->aux_fd, ns->record.table_inet,
						 ns->record.table_netdev, &guard) < 0)
		return;
	for (int i = 0; i < OFFLOAD_GUARDS; i++)
		if (guard.found[i])
			step_count(ns->last.guard[i], &guard.of[i]);
}
