/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel accepted by itself because the flow was accepted before ("offload"): the named
 * counters offloaded_in, offloaded_out, offloaded_forward of the table `inet nsgate`.
 */
#ifndef NSGATE_OFFLOAD_H
#define NSGATE_OFFLOAD_H

#include <stdbool.h>

#include "nsgate/shm.h"

struct offload_counts {
	struct shm_count of[SHM_DIRECTION_MAX];
	bool found[SHM_DIRECTION_MAX]; /* such a counter exists */
};

/*
 * Read them over a NETLINK_NETFILTER socket of the namespace.
 * Return: 0 (even where none exists); -errno, with *ret untouched.
 */
int offload_read(int fd, struct offload_counts *ret);

#endif
