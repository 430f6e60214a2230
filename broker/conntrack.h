/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What conntrack remembers of a policy's generation, when that number is about to be used again. */
#ifndef NSGATE_CONNTRACK_H
#define NSGATE_CONNTRACK_H

#include <stdint.h>

/*
 * Take the bits of `generation` off the labels of all conntrack entries (nsgate/flow.h) in the
 * namespace of `fd` (NETLINK_NETFILTER, opened there). The next packet of such a flow is judged
 * afresh. Costs a dump of the table.
 * Return: 0 or -errno; -EOPNOTSUPP or -EINVAL where the kernel has no conntrack netlink.
 */
int conntrack_forget(int fd, uint32_t generation);

/* The same for all that nsgate ever noted there: what an earlier attachment left. */
int conntrack_forget_all(int fd);

#endif
