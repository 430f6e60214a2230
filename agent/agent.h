/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the whole agent shares: its options and its own vital figures. Control thread only. */
#ifndef NSGATE_AGENT_H
#define NSGATE_AGENT_H

#include <stdbool.h>
#include <stdint.h>

struct agent_status {
	int64_t started_at; /* Unix time, s */
	bool broker_connected;
	int64_t broker_heard_ms; /* when it said something last; CLOCK_MONOTONIC */
	bool taking_over;	 /* the broker has not said yet that it offered all */
	bool default_accept;	 /* --default-policy accept: what a namespace without policy gets */
	unsigned int workers;
	uint64_t events_lost;
};

extern struct agent_status agent_status;

#endif
