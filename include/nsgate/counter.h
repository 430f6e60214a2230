/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Named counters of the table `inet nsgate`, which the broker's rules fill and the agent reads: of
 * what the kernel accepted without asking, by direction of the hook; of what it dropped so, by
 * direction, and again by protocol; of what passed while nobody judged; of what the kernel itself
 * sends and is not asked about; of what was to be asked about, before the queue.
 */
#ifndef NSGATE_COUNTER_H
#define NSGATE_COUNTER_H

enum nsgate_counter {
	/* Directions in the order of enum shm_direction (nsgate/shm.h). */
	NSGATE_COUNTER_OFFLOADED_IN,
	NSGATE_COUNTER_OFFLOADED_OUT,
	NSGATE_COUNTER_OFFLOADED_FORWARD,
	NSGATE_COUNTER_DENIED_IN,
	NSGATE_COUNTER_DENIED_OUT,
	NSGATE_COUNTER_DENIED_FORWARD,
	NSGATE_COUNTER_DENIED_TCP,
	NSGATE_COUNTER_DENIED_UDP,
	NSGATE_COUNTER_DENIED_OTHER,
	NSGATE_COUNTER_AGENT_DOWN,
	NSGATE_COUNTER_NOTICES,
	NSGATE_COUNTER_ASKED,
	NSGATE_COUNTER_MAX
};

/* Their names. Defined in lib/counter.c. */
extern const char *const nsgate_counter_names[NSGATE_COUNTER_MAX];

#endif
