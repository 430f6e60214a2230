/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "counters.h"

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
	add(&shm->malformed, counters->malformed);
	add(&shm->repeated, counters->repeated);
	add(&shm->would_drop, counters->would_drop);
	add(&shm->readmitted, counters->readmitted);
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
