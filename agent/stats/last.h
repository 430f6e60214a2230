/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the statistics of a namespace remember between two readings, so that no counter ever
 * falls. Zeroed with the namespace; only stats.c and those it asks look inside.
 */
#ifndef NSGATE_STATS_LAST_H
#define NSGATE_STATS_LAST_H

#include <stdbool.h>
#include <stdint.h>

#include "nsgate/limits.h"
#include "nsgate/proto.h"
#include "nsgate/shm.h"
#include "agent/ns/offload.h"

/* Rules (enum nsgate_rules_flag) whose packets the kernel has to be asked about. */
#define STATS_PASSING (NSGATE_RULES_OFFLOAD | NSGATE_RULES_BYPASS | NSGATE_RULES_OVERLOAD)

/* A counter of the kernel's that may wrap or start again from zero: the sum of its steps. */
struct stats_step {
	uint64_t raw; /* as last read */
	uint64_t total;
};

/* The rest, which must outlive the agent, is in struct shm_control. */
struct stats_last_queue {
	uint64_t pending;

	/* A single packet that may only be on its way in: flushed if it stays away. */
	bool suspected;
	uint32_t suspect_id;
	int64_t suspect_at_ms; /* CLOCK_MONOTONIC */
};

struct stats_last {
	struct stats_last_queue queues[NSGATE_QUEUES_MAX];
	struct stats_step offloaded[SHM_DIRECTION_MAX][2]; /* packets, bytes */
	struct stats_step denied[SHM_DIRECTION_MAX][2];
	struct stats_step denied_protocol[SHM_PROTO_MAX]; /* packets */
	struct stats_step notices;			  /* packets */
	int64_t counters_read_at_ms; /* when the rules' counters were read for a document */
	bool passes;	/* the policy lets packets pass without us, or did once: STATS_PASSING */
	uint64_t asked; /* unbound_suspect()'s reading, and did it look as if some were lost? */
	bool unbound_suspected;
	int64_t unbound_looked_at_ms;
	int64_t ask_again_at_ms; /* CLOCK_MONOTONIC: the rules' counters, which were not answered */
	struct stats_step guard[OFFLOAD_GUARDS][2]; /* packets, bytes */
	bool strict;				    /* the policy is, or was once */
	uint64_t uncounted;			    /* hits of rules, as last told */
};

#endif
