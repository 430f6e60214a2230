/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The figures of a namespace: what its workers counted in shared memory, what the kernel says of
 * its queues and of offloaded packets. Control thread only.
 */
#ifndef NSGATE_STATS_H
#define NSGATE_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "nsgate/shm.h"

struct jw;
struct ns;

#define STATS_BYTES_MAX (128U * 1024 * 1024) /* of one document of all namespaces */

/* Why packets passed without a verdict, where the policy says that they may. */
enum stats_unjudged {
	STATS_UNJUDGED_AGENT_DOWN,
	STATS_UNJUDGED_QUEUE_FULL,
	STATS_UNJUDGED_UNDELIVERED,
	STATS_UNJUDGED_MAX
};
extern const char *const stats_unjudged_names[STATS_UNJUDGED_MAX];

struct stats {
	/* Sums over the queues of what struct shm_queue says. */
	struct shm_count fate[SHM_FATE_MAX]; /* dropped ones include those flushed, and `denied` */
	struct shm_count direction[SHM_DIRECTION_MAX];
	struct shm_count fallback, replies, no_policy;
	uint64_t protocol[SHM_PROTO_MAX];
	NSGATE_FIGURES_NUMBERED /* packets: what each is says nsgate/figure.h; see also unbound.h */

		uint64_t unjudged[STATS_UNJUDGED_MAX]; /* packets */
	struct shm_count offloaded[SHM_DIRECTION_MAX]; /* accepted by the kernel, not seen */
	struct shm_count denied[SHM_DIRECTION_MAX];    /* dropped by the kernel: seen, dropped */
	struct shm_count guard; /* dropped by the guard of a strict policy; not among those seen */

	uint64_t latency_max_us;
	uint64_t latency[SHM_LATENCY_BUCKETS];
};

/* All namespaces, in their order; `ns` stays valid until the control loop turns again. */
struct stats_all {
	struct stats_one {
		struct ns *ns;
		struct stats stats;
	} * list;
	size_t count;
};

void stats_read(struct ns *ns, struct stats *ret);
int stats_read_all(struct stats_all *ret); /* 0 or -ENOMEM */
void stats_all_free(struct stats_all *all);

/* Packets and bytes of the rule at `index` of the policy in force. */
void stats_rule(const struct ns *ns, size_t index, struct shm_count *ret);

/* Of all directions: of flows that were accepted, and of those that were denied. */
struct shm_count stats_offloaded(const struct stats *stats);
struct shm_count stats_denied(const struct stats *stats);
uint64_t stats_bytes_seen(const struct stats *stats);

/* The value, in us, that `percent` of the latencies do not exceed: a bucket's upper bound. */
uint64_t stats_latency(const struct stats *stats, unsigned int percent);

/* The documents (in agent/stats/json.c). */
void stats_write(struct jw *w, const char *key, const struct ns *ns, const struct stats *stats);
int stats_write_all(struct jw *w); /* what stats.sock sends. 0 or -ENOMEM */

#endif
