// SPDX-License-Identifier: GPL-2.0-or-later
#include "timer.h"

#include <stddef.h>

#include "loop.h"

static struct timer *timers;
static unsigned int current_round; /* of timer_run() */

void timer_clear(struct timer *timer)
{
	struct timer **at = &timers;

	if (!timer_is_set(timer))
		return;
	while (*at != timer)
		at = &(*at)->next;
	*at = timer->next;
	timer->at_ms = 0;
}

void timer_set(struct timer *timer, int64_t at_ms)
{
	timer_clear(timer);
	timer->at_ms = at_ms > 0 ? at_ms : 1;
	timer->round = current_round;
	timer->next = timers;
	timers = timer;
}

void timer_set_by(struct timer *timer, int64_t at_ms)
{
	if (!timer_is_set(timer) || timer->at_ms > at_ms)
		timer_set(timer, at_ms);
}

int timer_nearest_ms(void)
{
	const struct timer *nearest = timers;

	for (const struct timer *timer = timers; timer; timer = timer->next)
		if (timer->at_ms < nearest->at_ms)
			nearest = timer;
	return nearest ? loop_left_ms(nearest->at_ms) : -1;
}

/* Handlers may set and clear any timer, so the list is walked anew for each. */
static struct timer *find_due(int64_t now)
{
	struct timer *timer = timers;

	while (timer && (timer->at_ms > now || timer->round == current_round))
		timer = timer->next;
	return timer;
}

void timer_run(void)
{
	const int64_t now = loop_now_ms();
	struct timer *timer;

	current_round++;
	while ((timer = find_due(now))) {
		timer_clear(timer);
		timer->due(timer);
	}
}
