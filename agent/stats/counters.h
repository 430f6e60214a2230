/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Packets are counted twice over. While a turn judges its packets they are added up in a
 * struct counters, private to the worker. Right before the verdicts are sent the sums go into
 * the shared block, whose one writer the worker is: whole 64-bit words, relaxed stores.
 *
 * The order is what keeps the books of a killed agent right. Once the send is under way the
 * kernel finishes it, even for a process that is being killed; so the packets of a turn are
 * counted if and only if they were decided, but for the few instructions between the two.
 */
#ifndef NSGATE_COUNTERS_H
#define NSGATE_COUNTERS_H

#include <stdint.h>

#include "nsgate/shm.h"
#include "queue_kernel.h"

/* What one turn adds; the names are those of struct shm_queue and of the rows of nsgate/figure.h.
 */
struct counters {
	struct shm_count fate[SHM_FATE_MAX];
	struct shm_count direction[SHM_DIRECTION_MAX];
	struct shm_count fallback, replies, no_policy;
	uint64_t protocol[SHM_PROTO_MAX];
	uint64_t readmitted;
	NSGATE_FIGURES_COUNTED
};

static inline void counters_add(struct shm_count *count, uint32_t bytes)
{
	count->packets++;
	count->bytes += bytes;
}

/* Which of the protocol counters an IPPROTO_* number belongs to. */
enum shm_proto counters_protocol(uint8_t protocol);

/* Add everything to the shared block and set `counters` to zero. */
void counters_publish(struct shm_queue *shm, struct counters *counters);

/*
 * The turn's number is odd between begin and end. A turn that a killed agent left open is closed
 * by counters_turn_end() as well.
 */
void counters_turn_begin(struct shm_queue *shm);
void counters_turn_end(struct shm_queue *shm);

/* Packets that left the queue with a verdict, or that the broker let pass. */
uint64_t counters_decided(const struct shm_queue *shm);

/*
 * Packets that the kernel has numbered and that are nowhere: not decided, not waiting, not dropped
 * as undeliverable. A difference modulo 2^32; below 0 where a crash had packets counted twice.
 */
int32_t counters_missing(const struct shm_queue *shm, const struct queue_kernel *kernel);

/*
 * Keep books of packets that are sent round their hook again, so that a successor can settle them
 * should this agent die: begin before at most `count` are sent, end when it is known that `count`
 * were, recover in the place of one who began and did not end. That returns how many it counted.
 */
void counters_requeue_begin(struct shm_queue *shm, const struct queue_kernel *before,
			    uint32_t count);
void counters_requeue_end(struct shm_queue *shm, uint32_t count);
uint32_t counters_requeue_recover(struct shm_queue *shm, const struct queue_kernel *now);

/* Enter `packets` packets that waited `latency_ns` each for their verdict. */
void counters_latency(struct shm_queue *shm, uint64_t latency_ns, unsigned int packets);

/* Bucket of the latency histogram, see SHM_LATENCY_BUCKETS. */
unsigned int counters_latency_bucket(uint64_t us);

#endif
