// SPDX-License-Identifier: GPL-2.0-or-later
#include "parting.h"

#include <stdint.h>
#include <unistd.h>

#include "loop.h"

#define PARTING_MS 100
#define PARTING_MAX 256

static struct {
	int fd;
	int64_t at_ms;
} waiting[PARTING_MAX]; /* a ring */

static unsigned int oldest, count;

static void close_oldest(void)
{
	close(waiting[oldest].fd);
	oldest = (oldest + 1) % PARTING_MAX;
	count--;
}

void parting_close(int *fd)
{
	unsigned int at;

	if (*fd < 0)
		return;
	if (count == PARTING_MAX)
		close_oldest();
	at = (oldest + count++) % PARTING_MAX;
	waiting[at].fd = *fd;
	waiting[at].at_ms = loop_now_ms() + PARTING_MS;
	*fd = -1;
}

int parting_timeout_ms(void)
{
	return count ? loop_left_ms(waiting[oldest].at_ms) : -1;
}

void parting_tick(void)
{
	while (count && waiting[oldest].at_ms <= loop_now_ms())
		close_oldest();
}
