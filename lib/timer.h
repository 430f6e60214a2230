/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Timers of a loop (loop.h), on CLOCK_MONOTONIC. One list per process, for its control thread. */
#ifndef NSGATE_TIMER_H
#define NSGATE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
	/* Called once when it is due; it may be set again there. Embedded as a loop_source is. */
	void (*due)(struct timer *timer);
	int64_t at_ms; /* of loop_now_ms(); 0: not set */
	struct timer *next;
	unsigned int round;
};

/* Set it, or set it anew, to a moment of loop_now_ms(). Its `due` is filled in. */
void timer_set(struct timer *timer, int64_t at_ms);

/* The same, unless it is set to an earlier moment. */
void timer_set_by(struct timer *timer, int64_t at_ms);

/* Harmless where it is not set. To be called before what it is part of is freed. */
void timer_clear(struct timer *timer);

static inline bool timer_is_set(const struct timer *timer)
{
	return timer->at_ms != 0;
}

/* Milliseconds until the next one is due, for loop_step(): -1: none is set. */
int timer_nearest_ms(void);

/* Call those that are due; each once, even if it sets itself to now. */
void timer_run(void);

#endif
