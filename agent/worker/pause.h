/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long a worker sleeps between two rounds so that batches form: see pause.c. */
#ifndef NSGATE_PAUSE_H
#define NSGATE_PAUSE_H

#include <stdbool.h>
#include <stdint.h>

enum pause_trial { PAUSE_TRIAL_NONE, PAUSE_TRIAL_LONGER, PAUSE_TRIAL_WITHOUT };

/* All zero is a worker that has done nothing yet. Rates are packets per millisecond. */
struct pause {
	uint64_t window_start_ns;
	uint64_t window_packets;
	uint64_t window_rounds;
	unsigned int level; /* index of the length */
	enum pause_trial trial;
	uint64_t rate_without; /* when there was last no pause */
	uint64_t rate_before;  /* and the level, before the trial */
	unsigned int level_before;
	uint64_t longer_at_ns;	/* from when on a longer one may be tried */
	uint64_t without_at_ns; /* when none is to be tried */
};

/*
 * A round is over: `packets` were received, `full` if a queue had as many as a turn takes, hence
 * may have more. Times are CLOCK_MONOTONIC, nanoseconds.
 * Return: nanoseconds to sleep before the next round, 0 for none.
 */
uint64_t pause_after_round(struct pause *pause, unsigned int packets, bool full, uint64_t now_ns);

#endif
