/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Other programs that packets are handed to, by the number of their queue: does anybody serve it?
 * The kernel drops what goes to a queue that nobody has bound and tells nobody.
 */
#ifndef NSGATE_CONSUMER_H
#define NSGATE_CONSUMER_H

#include <stdbool.h>
#include <stdint.h>

#define CONSUMERS_KNOWN 8 /* queues remembered; more of them are looked up more often */

struct consumer {
	uint16_t number;
	bool is_served;
	uint64_t looked_at_ns; /* CLOCK_MONOTONIC; 0: never */
};

/*
 * Has anybody bound queue `number` in the namespace of `proc_fd`, as of 5 ms ago at most? What is
 * handed to a consumer in the first milliseconds after its end is lost. Where it cannot be told,
 * yes. `now_ns`: CLOCK_MONOTONIC.
 */
bool consumer_is_there(struct consumer known[CONSUMERS_KNOWN], int proc_fd, uint16_t number,
		       uint64_t now_ns);

#endif
