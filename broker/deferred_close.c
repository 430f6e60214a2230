// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/deferred_close.h"

#include <stdint.h>
#include <unistd.h>

#include "loop.h"
#include "timer.h"

#define DEFERRED_MS 100
#define DEFERRED_MAX 256

static struct {
	int fd;
	int64_t at_ms;
} waiting[DEFERRED_MAX]; /* a ring */

static unsigned int oldest, count;

static void close_due(struct timer *timer);

static struct timer timer = {.due = close_due};

static void close_oldest(void)
{
	close(waiting[oldest].fd);
	oldest = (oldest + 1) % DEFERRED_MAX;
	count--;
}

static void close_due(struct timer *due)
{
	while (count && waiting[oldest].at_ms <= loop_now_ms())
		close_oldest();
	if (count)
		timer_set(due, waiting[oldest].at_ms);
}

void deferred_close(int *fd)
{
	unsigned int at;

	if (*fd < 0)
		return;
	if (count == DEFERRED_MAX)
		close_oldest();
	at = (oldest + count++) % DEFERRED_MAX;
	waiting[at].fd = *fd;
	waiting[at].at_ms = loop_now_ms() + DEFERRED_MS;
	*fd = -1;
	if (!timer_is_set(&timer))
		timer_set(&timer, waiting[oldest].at_ms);
}
