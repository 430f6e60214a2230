/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_CLOCK_H
#define NSGATE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* The time of `clock` (CLOCK_MONOTONIC and the like) in nanoseconds; 64 bits last until 2554. */
static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

#endif
