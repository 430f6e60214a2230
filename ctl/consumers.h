/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who consumes which queue of a network namespace, for `nsgatectl doctor`. */
#ifndef NSGATE_CTL_CONSUMERS_H
#define NSGATE_CTL_CONSUMERS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CONSUMERS_MAX 64

struct consumer {
	uint16_t queue;
	uint32_t portid; /* of the netlink socket that the queue is bound to */
};

/*
 * Read a table of /proc/net/netfilter/nfnetlink_queue, of which `ret` takes the first `max` lines.
 * Columns: queue number, portid, packets waiting, copy mode, copy range, dropped, user dropped, id
 * of the last packet, 1 (net/netfilter/nfnetlink_queue.c, seq_show()).
 * Return: how many there are.
 */
size_t consumers_parse(const char *text, struct consumer *ret, size_t max);

/*
 * Find a namespace by the inode of its nsfs file, below /run/netns or at a process, and read its
 * table. Needs the rights of root there.
 * Return: how many lines; -ENOENT no name nor process leads to it; -errno.
 */
ssize_t consumers_of(uint64_t inode, struct consumer *ret, size_t max);

#endif
