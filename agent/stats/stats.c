// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * A packet is in one of three places: in the kernel's queue (pending), decided (the worker's
 * counters), or it vanished from the queue undecided because its link went down or a base chain
 * was deleted (flushed). The kernel numbers the packets, so
 *
 *     numbered = decided + pending + user_dropped + flushed + readmitted
 *
 * modulo 2^32, where readmitted packets were sent round again and numbered twice. `seen` is
 * decided + pending + flushed, and flushed packets are reported as dropped: so they were. That
 * makes seen = accepted + dropped + rejected + queued elsewhere + pending exact at rest, and seen
 * never falls when a queue is flushed. What the kernel dropped of a denied flow is seen and
 * dropped, too: it was decided with the flow.
 *
 * Reading: the worker's counters and the kernel's line are of the same moment when the worker was
 * between two turns before, after and throughout. A busy worker may refuse that many times; then
 * `seen` is the most that is certain.
 *
 * A packet gets its number a moment before it is pending. One that is just on its way in looks
 * flushed. So what seems flushed is only suspected, and believed when, some milliseconds later,
 * no packet was numbered since and it is still away. At most one such pause is made per document.
 * What was seen as pending and is gone without a decision needs no second look.
 *
 * Where the policy lets packets pass on overload, those whose message was not deliverable were
 * numbered and never pending; those that found the queue full were not numbered
 * (agent/stats/unbound.c). The kernel counts neither. Which of the missing ones were flushed cannot
 * be told, unless they were seen as pending before.
 */
#include "agent/stats/stats.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/stats/counters.h"
#include "agent/ns/ns.h"
#include "agent/ns/offload.h"
#include "policy/policy.h"
#include "agent/stats/rule_counters.h"
#include "agent/stats/unbound.h"
#include "log.h"
#include "loop.h"

#define TRIES 8
#define NOTICES_MS 5000
#define SETTLE_MS 4 /* no packet takes that long from its number into the queue */

/* ---- a block of shared memory ---- */

#define FIRST_WORD (offsetof(struct shm_queue, readmitted) / sizeof(uint64_t))

/* Everything but the rules, in whole words. `to` is the reader's own. */
static void copy_counters(struct shm_queue *to, const struct shm_queue *from)
{
	uint64_t *words = (uint64_t *)(void *)to;
	const uint64_t *shared = (const uint64_t *)(const void *)from;

	for (size_t i = FIRST_WORD; i < SHM_WORDS; i++)
		words[i] = __atomic_load_n(&shared[i], __ATOMIC_RELAXED);
}

static void add_count(struct shm_count *to, const struct shm_count *from)
{
	to->packets += from->packets;
	to->bytes += from->bytes;
}

static void add_block(struct stats *stats, const struct shm_queue *block)
{
	for (int i = 0; i < SHM_FATE_MAX; i++)
		add_count(&stats->fate[i], &block->fate[i]);
	for (int i = 0; i < SHM_DIRECTION_MAX; i++)
		add_count(&stats->direction[i], &block->direction[i]);
	add_count(&stats->fallback, &block->fallback);
	add_count(&stats->replies, &block->replies);
	add_count(&stats->no_policy, &block->no_policy);
	for (int i = 0; i < SHM_PROTO_MAX; i++)
		stats->protocol[i] += block->protocol[i];
#define ADD(number, object, name, ...) stats->name += block->count[number];
	NSGATE_FIGURES(ADD, NSGATE_FIGURE_NONE, NSGATE_FIGURE_NONE)
#undef ADD
	for (int i = 0; i < SHM_LATENCY_BUCKETS; i++)
		stats->latency[i] += block->latency[i];
	if (block->latency_max_us > stats->latency_max_us)
		stats->latency_max_us = block->latency_max_us;
}

/* ---- a queue ---- */

struct reading {
	struct shm_queue *block;
	struct queue_kernel kernel;
	int kernel_error;
	bool consistent; /* block and kernel's line are of the same moment */
	bool quiet;	 /* and no packet was numbered between two looks at the line */
};

static void read_line(const struct ns *ns, unsigned int i, struct reading *reading)
{
	reading->kernel_error =
		queue_kernel_read(ns->proc_fd, (uint16_t)(ns->record.queue_first + i),
				  ns->record.queue_count, &reading->kernel);
}

/* The reader's side of the sequence lock that counters.h describes. */
static bool try_reading(const struct ns *ns, unsigned int i, bool twice, struct reading *reading)
{
	const struct shm_queue *shared = ns->shm[i];
	const uint64_t turn = __atomic_load_n(&shared->turn, __ATOMIC_ACQUIRE);
	struct queue_kernel before;

	copy_counters(reading->block, shared);
	read_line(ns, i, reading);
	if (twice && !reading->kernel_error) {
		before = reading->kernel;
		read_line(ns, i, reading);
		reading->quiet = !reading->kernel_error &&
				 before.id_sequence == reading->kernel.id_sequence &&
				 before.pending == reading->kernel.pending &&
				 before.user_dropped == reading->kernel.user_dropped;
	}
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return turn % 2 == 0 && turn == __atomic_load_n(&shared->turn, __ATOMIC_RELAXED);
}

static void take_reading(const struct ns *ns, unsigned int i, bool twice, struct reading *reading)
{
	static struct shm_queue block; /* rather large for a stack; the control thread is alone */

	*reading = (struct reading){.block = &block};
	for (int tries = 0; tries < TRIES && !reading->consistent; tries++) {
		if (tries > 0)
			sched_yield();
		reading->consistent = try_reading(ns, i, twice, reading);
	}
	if (!reading->consistent || reading->kernel_error)
		reading->quiet = false;
}

/* A 32-bit column that goes back began again from zero, unless it went back so far as to wrap. */
static void step_column(uint64_t *total, uint64_t *last, uint32_t raw)
{
	const uint32_t delta = raw - (uint32_t)*last;

	*total += delta <= INT32_MAX ? delta : raw;
	*last = raw;
}

/* Packets that were numbered and are nowhere: flushed ones, if all is settled. */
static uint64_t missing(const struct reading *reading)
{
	const int32_t rest = counters_missing(reading->block, &reading->kernel);

	return rest > 0 ? (uint64_t)rest : 0;
}

static bool lets_pass_on_overload(const struct ns *ns)
{
	return ns->policy && policy_info(ns->policy)->open_on_overload;
}

/* What is sent round has a new number and is not counted as readmitted yet. */
static bool is_requeueing(const struct ns *ns, unsigned int i)
{
	return __atomic_load_n(&ns->shm[i]->requeueing, __ATOMIC_RELAXED) != 0;
}

/* Return: true where only time can tell whether packets were flushed. */
static bool judge_flushed(const struct ns *ns, unsigned int i, const struct reading *reading,
			  uint64_t decided, struct stats_last_queue *last)
{
	struct shm_control *control = &ns->shm[i]->control;
	const uint64_t known = decided + last->pending + control->flushed;
	const uint64_t all = missing(reading);
	const uint64_t explained = control->flushed + control->unaccounted;
	const uint64_t fresh = all > explained ? all - explained : 0;
	const uint64_t gone = control->seen > known ? control->seen - known : 0;
	const bool ours = last->suspected && last->suspect_id == reading->kernel.id_sequence;

	if (fresh == 0 || !reading->quiet || is_requeueing(ns, i)) {
		last->suspected = false;
		return false;
	}
	if (lets_pass_on_overload(ns)) {
		const uint64_t flushed = gone < fresh ? gone : fresh;

		control->flushed += flushed;
		control->unaccounted += fresh - flushed;
		return false;
	}
	if (gone >= fresh || (ours && loop_now_ms() - last->suspect_at_ms >= SETTLE_MS)) {
		control->flushed += fresh;
		last->suspected = false;
		return false;
	}
	if (!ours) {
		last->suspected = true;
		last->suspect_id = reading->kernel.id_sequence;
		last->suspect_at_ms = loop_now_ms();
	}
	return true;
}

static bool is_suspect(const struct reading *reading, const struct shm_control *control)
{
	return reading->consistent && !reading->kernel_error &&
	       missing(reading) > control->flushed + control->unaccounted;
}

/* Return: true where flushed packets are suspected. */
static bool read_queue(struct ns *ns, unsigned int i, struct stats *stats)
{
	struct stats_last_queue *last = &ns->last.queues[i];
	struct shm_control *control = &ns->shm[i]->control;
	struct reading reading;
	bool suspected = false;
	uint64_t decided, seen;

	take_reading(ns, i, false, &reading);
	reading.block->control = *control; /* ours, and the broker's while we were away */
	if (is_suspect(&reading, control))
		take_reading(ns, i, true, &reading);
	decided = counters_decided(reading.block);
	if (!reading.kernel_error) {
		last->pending = reading.kernel.pending;
		step_column(&control->dropped, &control->dropped_raw, reading.kernel.dropped);
		step_column(&control->user_dropped, &control->user_dropped_raw,
			    reading.kernel.user_dropped);
		if (reading.consistent)
			suspected = judge_flushed(ns, i, &reading, decided, last);
	}
	seen = decided + control->flushed + (reading.consistent ? last->pending : 0);
	if (seen > control->seen)
		control->seen = seen;

	add_block(stats, reading.block);
	stats->fate[SHM_FATE_DROPPED].packets += control->flushed;
	stats->fate[SHM_FATE_ACCEPTED].packets += control->released;
	stats->seen += control->seen;
	stats->pending += last->pending;
	stats->dropped += control->dropped;
	stats->user_dropped += control->user_dropped;
	stats->flushed += control->flushed;
	return suspected;
}

/* ---- a namespace ---- */

static bool lets_pass(const struct policy *policy)
{
	const struct policy_info *info = policy_info(policy);

	return info->offload || info->open_on_agent_down || info->open_on_overload;
}

/*
 * Those that were not delivered were numbered; those that found the queue full were not. What the
 * broker let pass had waited.
 */
static void read_passed(struct ns *ns, struct stats *stats, bool of_many)
{
	const struct shm_control *control = &ns->shm[0]->control;
	uint64_t numbered = 0, released = 0;

	if (ns->record.rules.flags & STATS_PASSING || (ns->policy && lets_pass(ns->policy)))
		ns->last.passes = true;
	/* Where the kernel decides nothing for us it counts notices alone: not each time. */
	if (ns->last.passes || !of_many ||
	    loop_now_ms() - ns->last.counters_read_at_ms >= NOTICES_MS) {
		ns->last.counters_read_at_ms = loop_now_ms();
		(void)rule_counters_read(ns);
	}
	for (int i = 0; i < SHM_DIRECTION_MAX; i++) {
		stats->offloaded[i].packets = ns->last.offloaded[i][0].total;
		stats->offloaded[i].bytes = ns->last.offloaded[i][1].total;
	}
	for (unsigned int i = 0; i < ns->record.queue_count && i < NSGATE_QUEUES_MAX; i++) {
		numbered += ns->shm[i]->control.unaccounted;
		released += ns->shm[i]->control.released;
	}
	stats->notices = ns->last.notices.total;
	stats->unjudged[STATS_UNJUDGED_AGENT_DOWN] =
		control->passed_down + control->passed_unbound + released;
	stats->unjudged[STATS_UNJUDGED_UNDELIVERED] = numbered;
	stats->unjudged[STATS_UNJUDGED_QUEUE_FULL] = control->passed_overload;
}

/* Decided by the agent for their whole flow, so they are among those seen. */
static void add_denied(const struct ns *ns, struct stats *stats)
{
	for (int i = 0; i < SHM_DIRECTION_MAX; i++) {
		struct shm_count *count = &stats->denied[i];

		count->packets = ns->last.denied[i][0].total;
		count->bytes = ns->last.denied[i][1].total;
		stats->seen += count->packets;
		add_count(&stats->fate[SHM_FATE_DROPPED], count);
		add_count(&stats->direction[i], count);
	}
	for (int i = 0; i < SHM_PROTO_MAX; i++)
		stats->protocol[i] += ns->last.denied_protocol[i].total;
}

static void read_guard(struct ns *ns, struct stats *stats)
{
	if (ns->record.rules.flags & NSGATE_RULES_STRICT)
		ns->last.strict = true;
	if (!ns->last.strict)
		return;
	rule_counters_read_guard(ns);
	for (int i = 0; i < OFFLOAD_GUARDS; i++) {
		stats->guard.packets += ns->last.guard[i][0].total;
		stats->guard.bytes += ns->last.guard[i][1].total;
	}
}

/* What the kernel decided without asking. `of_many`: for a document of all namespaces. */
static void read_kernel(struct ns *ns, struct stats *stats, bool of_many)
{
	read_passed(ns, stats, of_many);
	add_denied(ns, stats);
	read_guard(ns, stats);
}

/*
 * The first reading for a document, or the second (`again`).
 * Return: true where a second one, SETTLE_MS later, would know more.
 */
static bool read_once(struct ns *ns, struct stats *ret, bool again, bool of_many)
{
	bool suspected = false;

	*ret = (struct stats){0};
	if (again)
		unbound_settle(ns);
	else
		suspected = unbound_suspect(ns, of_many);
	for (unsigned int i = 0; i < ns->record.queue_count && i < NSGATE_QUEUES_MAX; i++)
		suspected |= read_queue(ns, i, ret);
	ret->unbound_dropped = ns->shm[0]->control.unbound;
	ret->refused = ns->shm[0]->control.refused;
	return suspected;
}

static void settle(void)
{
	const struct timespec pause = {.tv_nsec = (SETTLE_MS + 1) * 1000000L};

	nanosleep(&pause, NULL);
}

/* The worker does not tell; who reads the counters is to know that they are too low. */
static void tell_uncounted(struct ns *ns)
{
	uint64_t uncounted = 0;

	for (unsigned int i = 0; i < ns->record.queue_count && i < NSGATE_QUEUES_MAX; i++)
		uncounted +=
			__atomic_load_n(&ns->queues[i].in_force.state.uncounted, __ATOMIC_RELAXED);
	if (uncounted && !ns->last.uncounted)
		log_event(LOG_LEVEL_WARNING, "rules.uncounted", "netns", ns->record.name, "why",
			  "the file system of the runtime directory is full: some hits of rules "
			  "are not counted",
			  NULL);
	ns->last.uncounted = uncounted;
}

void stats_read(struct ns *ns, struct stats *ret)
{
	tell_uncounted(ns);
	if (read_once(ns, ret, false, false)) {
		settle();
		read_once(ns, ret, true, false);
	}
	read_kernel(ns, ret, false);
}

int stats_read_all(struct stats_all *ret)
{
	const size_t room = ns_count();
	struct stats_all all = {.list = calloc(room + 1, sizeof(*all.list))};
	bool *again = calloc(room + 1, sizeof(*again));
	bool any = false;

	if (!all.list || !again) {
		free(all.list);
		free(again);
		return -ENOMEM;
	}
	for (struct ns *ns = ns_first(); ns && all.count < room; ns = ns->next) {
		all.list[all.count].ns = ns;
		again[all.count] = read_once(ns, &all.list[all.count].stats, false, true);
		any |= again[all.count++];
	}
	if (any)
		settle();
	for (size_t i = 0; i < all.count; i++) {
		if (again[i])
			read_once(all.list[i].ns, &all.list[i].stats, true, true);
		read_kernel(all.list[i].ns, &all.list[i].stats, true);
	}
	free(again);
	*ret = all;
	return 0;
}

void stats_all_free(struct stats_all *all)
{
	free(all->list);
	*all = (struct stats_all){0};
}

/* ---- figures made of others ---- */

void stats_rule(const struct ns *ns, size_t index, struct shm_count *ret)
{
	const uint64_t hash = policy_info(ns->policy)->rules[index].name_hash;

	*ret = (struct shm_count){0};
	for (unsigned int i = 0; i < ns->record.queue_count && i < NSGATE_QUEUES_MAX; i++) {
		const struct shm_rule *slot = &shm_rules(ns->shm[i])[index];

		/* Slots are in the order of the rules once the queue is bound. */
		if (!shm_rule_touched(ns->shm[i]->rules_touched, (uint32_t)index) ||
		    __atomic_load_n(&slot->name_hash, __ATOMIC_RELAXED) != hash)
			continue;
		ret->packets += __atomic_load_n(&slot->count.packets, __ATOMIC_RELAXED);
		ret->bytes += __atomic_load_n(&slot->count.bytes, __ATOMIC_RELAXED);
	}
}

static struct shm_count sum_up(const struct shm_count *directions)
{
	struct shm_count sum = {0};

	for (int i = 0; i < SHM_DIRECTION_MAX; i++)
		add_count(&sum, &directions[i]);
	return sum;
}

struct shm_count stats_offloaded(const struct stats *stats)
{
	return sum_up(stats->offloaded);
}

struct shm_count stats_denied(const struct stats *stats)
{
	return sum_up(stats->denied);
}

uint64_t stats_bytes_seen(const struct stats *stats)
{
	uint64_t bytes = 0;

	for (int i = 0; i < SHM_FATE_MAX; i++)
		bytes += stats->fate[i].bytes;
	return bytes;
}

static uint64_t bucket_upper(unsigned int bucket)
{
	const unsigned int shift = bucket / 4 - 1;

	if (bucket < 4)
		return bucket;
	return ((uint64_t)(4 + bucket % 4 + 1) << shift) - 1;
}

uint64_t stats_latency(const struct stats *stats, unsigned int percent)
{
	uint64_t total = 0, so_far = 0, wanted;

	for (int i = 0; i < SHM_LATENCY_BUCKETS; i++)
		total += stats->latency[i];
	if (total == 0)
		return 0;
	wanted = total / 100 * percent + (total % 100 * percent + 99) / 100;
	for (unsigned int i = 0; i < SHM_LATENCY_BUCKETS; i++) {
		so_far += stats->latency[i];
		if (so_far >= wanted) {
			const uint64_t upper = bucket_upper(i);

			return upper < stats->latency_max_us ? upper : stats->latency_max_us;
		}
	}
	return stats->latency_max_us;
}
