/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel decided by itself, in named counters. Accepted because the flow was accepted
 * before ("offload"), dropped because it was denied, or accepted because the policy lets packets
 * pass where nobody judges or the queue is overloaded: counters of the table `inet nsgate`. Dropped
 * by the guard of a strict policy: `guard` of the tables `inet nsgate` (fragments) and `netdev
 * nsgate` (what went past the hooks). And what it is to ask about: `asked`, counted before the
 * queue.
 */
#ifndef NSGATE_OFFLOAD_H
#define NSGATE_OFFLOAD_H

#include <stdbool.h>

#include "nsgate/counter.h"
#include "nsgate/shm.h"
#include "nsgate/table.h"

struct offload_counts {
	struct shm_count of[NSGATE_COUNTER_MAX];
	bool found[NSGATE_COUNTER_MAX]; /* such a counter exists */
};

/*
 * Read them over a NETLINK_NETFILTER socket of the namespace. `table`: the number of its name
 * (nsgate/table.h). Return: 0 (even where none exists); -errno, with *ret untouched.
 */
int offload_read(int fd, uint32_t table, struct offload_counts *ret);

#define OFFLOAD_GUARDS 2 /* inet, netdev */

struct offload_guard {
	struct shm_count of[OFFLOAD_GUARDS];
	bool found[OFFLOAD_GUARDS];
};

/* The same for the guard. A table that is not there is no error. */
int offload_read_guard(int fd, uint32_t table_inet, uint32_t table_netdev,
		       struct offload_guard *ret);

#endif
