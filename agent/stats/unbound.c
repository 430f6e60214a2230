// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * The kernel counts nowhere what it drops because nobody has bound the queue, nor what waited in
 * one when its last socket was closed. But the rules count every packet right before the queue,
 * each time that it comes there, and that counter outlives both daemons. So
 *
 *     asked = taken by the queues + unbound
 *
 * where a queue that lives has taken what it has numbered and what found it full; one that is gone
 * has taken what the shared counters account for, as far as anybody has read it. A packet that
 * goes round its hook again is asked about again and numbered again.
 *
 * The counter is read first and the queues second, so packets that come in meanwhile make the
 * difference smaller. One that was counted and has no number yet makes it larger, but not for
 * long: a difference counts if it is still there when the queues are read again some milliseconds
 * later, against the counter of before. Under traffic that is too few for a while, never too many;
 * at rest it is exact.
 *
 * The difference can also fall below what is known, where something was numbered without having
 * been counted: segments that the kernel cuts from one packet (where a policy matches on length or
 * rewrites, and until the agent has told a new queue otherwise), or counts that went with a table.
 * Then, if nothing moved, the rest is `unasked`, and the sum holds
 * again.
 *
 * What was not taken is lost, unless the policy lets it pass: then it passed because the queue was
 * full, where that is open, or because nobody had bound it.
 *
 * Packets are lost for want of a queue before it is bound, not while it is, and before its first
 * binding there are no rules. So what is missing once an exact reading was had of a binding, and in
 * the first one, is what the kernel refused to queue: for want of memory, or because the packet
 * shares a conntrack entry that is in no table yet (broker/nft/related.c).
 *
 * Looking costs a request for each namespace. In a document of all of them it is made where there
 * is something to find, and else from time to time.
 */
#include "agent/stats/unbound.h"

#include "loop.h"
#include "agent/ns/ns.h"
#include "policy/policy.h"
#include "queue_kernel.h"
#include "agent/stats/rule_counters.h"

#define LOOK_MS 5000

/* Numbered or dropped by the queues of now, taken by those before them: a sum modulo 2^32. */
static bool read_taken(const struct ns *ns, uint32_t *ret)
{
	uint32_t taken = 0;

	for (unsigned int i = 0; i < ns->record.queue_count; i++) {
		struct queue_kernel line;

		if (queue_kernel_read(ns->proc_fd, (uint16_t)(ns->record.queue_first + i),
				      ns->record.queue_count, &line) < 0)
			return false;
		taken += line.id_sequence + line.dropped + (uint32_t)ns->shm[i]->control.taken;
	}
	*ret = taken;
	return true;
}

/* How much more was asked about than is known of. */
static int32_t excess(const struct shm_control *control, uint64_t asked, uint32_t taken)
{
	const uint64_t known = control->passed_unbound + control->passed_overload +
			       control->unbound + control->refused;

	return (int32_t)((uint32_t)(asked + control->unasked - known) - taken);
}

/* If all this is of one moment, what was taken without having been counted is known. */
static void read_exactly(struct ns *ns)
{
	struct shm_control *control = &ns->shm[0]->control;
	uint32_t before, after;
	uint64_t asked;
	int32_t rest;

	if (!read_taken(ns, &before) || !rule_counters_read(ns))
		return;
	asked = control->asked;
	if (!rule_counters_read(ns) || !read_taken(ns, &after) || before != after ||
	    asked != control->asked)
		return;
	rest = excess(control, asked, after);
	if (rest < 0)
		control->unasked += (uint64_t) - (int64_t)rest;
	if (rest <= 0)
		control->settled_at_ns = control->bound_at_ns;
}

static bool is_disturbed(const struct ns *ns)
{
	return ns->record.rules.flags & (NSGATE_RULES_BYPASS | NSGATE_RULES_OVERLOAD) ||
	       (ns->policy && policy_info(ns->policy)->needs & POLICY_NEED_SEGMENTS);
}

static bool is_settled(const struct ns *ns)
{
	return ns->shm[0]->control.settled_at_ns == ns->shm[0]->control.bound_at_ns;
}

bool unbound_suspect(struct ns *ns, bool of_many)
{
	const struct shm_control *control = &ns->shm[0]->control;
	const int64_t now = loop_now_ms();
	uint32_t taken;
	int32_t rest;

	ns->last.unbound_suspected = false;
	if (is_settled(ns) && !is_disturbed(ns) && of_many &&
	    now - ns->last.unbound_looked_at_ms < LOOK_MS)
		return false;
	ns->last.unbound_looked_at_ms = now;
	if (!rule_counters_read(ns) || !read_taken(ns, &taken))
		return false;
	rest = excess(control, control->asked, taken);
	if (rest <= 0)
		read_exactly(ns);
	ns->last.asked = control->asked;
	ns->last.unbound_suspected = rest > 0;
	return rest > 0;
}

static uint64_t *account_of(struct ns *ns)
{
	struct shm_control *control = &ns->shm[0]->control;

	if (ns->record.rules.flags & NSGATE_RULES_OVERLOAD)
		return &control->passed_overload;
	if (ns->record.rules.flags & NSGATE_RULES_BYPASS)
		return &control->passed_unbound;
	if (control->bindings <= 1 || is_settled(ns))
		return &control->refused;
	return &control->unbound;
}

void unbound_settle(struct ns *ns)
{
	struct shm_control *control = &ns->shm[0]->control;
	uint32_t taken;
	int32_t rest;

	if (!ns->last.unbound_suspected || !rule_counters_read(ns) || !read_taken(ns, &taken))
		return;
	ns->last.unbound_suspected = false;
	rest = excess(control, ns->last.asked, taken);
	if (rest > 0)
		*account_of(ns) += (uint64_t)rest;
	read_exactly(ns);
}
