// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/patience.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "loop.h"

static int each_ms = PATIENCE_MS;
static bool told;	    /* by --timeout */
static int64_t deadline_ms; /* 0: none */

void patience_set(int ms)
{
	each_ms = ms;
	told = true;
}

void patience_deadline(int ms)
{
	deadline_ms = loop_now_ms() + ms;
}

void patience_share(int daemons)
{
	each_ms /= daemons;
}

static int within_deadline(int ms)
{
	const int64_t left = deadline_ms ? deadline_ms - loop_now_ms() : INT_MAX;

	if (left <= 0)
		return 0;
	return left < ms ? (int)left : ms;
}

int patience_ms(void)
{
	return within_deadline(each_ms);
}

int patience_long_ms(void)
{
	return within_deadline(told ? each_ms : PATIENCE_LONG_MS);
}
