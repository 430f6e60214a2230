/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/stats/counters.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

/* The one writer's own words: only its stores need to be whole. */
static inline void store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void add(uint64_t *word, uint64_t value)
{
	if (value)
		store(word, *word + value);
}

static void add_counts(struct shm_count *to, const struct shm_count *from, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		add(&to[i].packets, from[i].packets);
		add(&to[i].bytes, from[i].bytes);
	}
}

enum shm_proto counters_protocol(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return SHM_PROTO_TCP;
	case IPPROTO_UDP:
		return SHM_PROTO_UDP;
	case IPPROTO_ICMP:
		return SHM_PROTO_ICMP;
	case IPPROTO_ICMPV6:
		return SHM_PROTO_ICMPV6;
	default:
		return SHM_PROTO_OTHER;
	}
}

void counters_publish(struct shm_queue *shm, struct counters *counters)
{
	add_counts(shm->fate, counters->fate, SHM_FATE_MAX);
	add_counts(shm->direction, counters->direction, SHM_DIRECTION_MAX);
	add_counts(&shm->fallback, &counters->fallback, 1);
	add_counts(&shm->replies, &counters->replies, 1);
	add_counts(&shm->no_policy, &counters->no_policy, 1);
	for (size_t i = 0; i < SHM_PROTO_MAX; i++)
		add(&shm->protocol[i], counters->protocol[i]);
	add(&shm->readmitted, counters->readmitted);
#define PUBLISH(number, object, name, ...) add(&shm->count[number], counters->name);
	NSGATE_FIGURES(PUBLISH, NSGATE_FIGURE_NONE, NSGATE_FIGURE_NONE)
#undef PUBLISH
	memset(counters, 0, sizeof(*counters));
}

/*
 * A sequence lock's writer: the odd number is visible before any counter of the turn is, the
 * counters before the even one.
 */
void counters_turn_begin(struct shm_queue *shm)
{
	store(&shm->turn, shm->turn | 1);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

void counters_turn_end(struct shm_queue *shm)
{
	__atomic_store_n(&shm->turn, (shm->turn + 1) & ~UINT64_C(1), __ATOMIC_RELEASE);
}

/* ---- the kernel's numbering ---- */

uint64_t counters_decided(const struct shm_queue *shm)
{
	uint64_t decided = shm->control.released;

	for (int i = 0; i < SHM_FATE_ROOM; i++) /* those of a later release, too */
		decided += shm->fate[i].packets;
	return decided;
}

int32_t counters_missing(const struct shm_queue *shm, const struct queue_kernel *kernel)
{
	const uint32_t accounted = (uint32_t)(counters_decided(shm) - shm->control.base) +
				   kernel->pending + kernel->user_dropped +
				   (uint32_t)shm->readmitted;

	return (int32_t)(kernel->id_sequence - accounted);
}

void counters_requeue_begin(struct shm_queue *shm, const struct queue_kernel *before,
			    uint32_t count)
{
	store(&shm->requeue_lost, (uint32_t)counters_missing(shm, before));
	__atomic_store_n(&shm->requeueing, count, __ATOMIC_RELEASE);
}

/* Whoever dies between the two stores leaves nothing missing: settling adds nothing. */
void counters_requeue_end(struct shm_queue *shm, uint32_t count)
{
	add(&shm->readmitted, count);
	__atomic_store_n(&shm->requeueing, 0, __ATOMIC_RELEASE);
}

/*
 * A packet that went round has one number more than before, and nothing else in the books of a
 * dead agent moves: what is missing more than when it began are those that it sent round.
 */
uint32_t counters_requeue_recover(struct shm_queue *shm, const struct queue_kernel *now)
{
	const uint32_t missing = (uint32_t)counters_missing(shm, now);
	const int32_t sent = (int32_t)(missing - (uint32_t)shm->requeue_lost);
	uint32_t count = 0;

	if (shm->requeueing == 0)
		return 0;
	if (sent > 0)
		count = (uint64_t)sent < shm->requeueing ? (uint32_t)sent
							 : (uint32_t)shm->requeueing;
	counters_requeue_end(shm, count);
	return count;
}

/* ---- latency ---- */

unsigned int counters_latency_bucket(uint64_t us)
{
	unsigned int top;

	if (us < 4)
		return (unsigned int)us;
	if (us > UINT32_MAX)
		return SHM_LATENCY_BUCKETS - 1;
	top = 63 - (unsigned int)__builtin_clzll(us);
	return 4 * (top - 1) + (unsigned int)(us >> (top - 2) & 3);
}

void counters_latency(struct shm_queue *shm, uint64_t latency_ns, unsigned int packets)
{
	const uint64_t us = latency_ns / 1000;

	add(&shm->latency[counters_latency_bucket(us)], packets);
	if (us > shm->latency_max_us)
		store(&shm->latency_max_us, us);
}
