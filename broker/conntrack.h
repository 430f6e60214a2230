/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What conntrack remembers of a policy's generation, when that number is about to be used again. */
#ifndef NSGATE_CONNTRACK_H
#define NSGATE_CONNTRACK_H

#include <stdint.h>

/*
 * Remove the entries of flows that bear `generation` in their mark (nsgate/mark.h) from the
 * namespace of `fd` (NETLINK_NETFILTER, opened there). Their next packet is judged afresh.
 * Return: 0 or -errno; -EOPNOTSUPP or -EINVAL where the kernel has no conntrack netlink.
 */
int conntrack_forget(int fd, uint32_t generation);

/* The same for every flow that any policy ever accepted there: what an earlier attachment left. */
int conntrack_forget_all(int fd);

#endif
