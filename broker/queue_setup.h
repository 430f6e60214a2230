/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Binding and configuring an NFQUEUE queue before anybody reads its socket. */
#ifndef NSGATE_QUEUE_SETUP_H
#define NSGATE_QUEUE_SETUP_H

#include <stdint.h>

#include "nsgate/flow.h"

/*
 * Bind the NSGATE_FLOW_MAX numbers of a queue, from `number` on, `stride` apart, to the socket `fd`
 * (NETLINK_NETFILTER, opened in the namespace) and set packet copy mode, maximum length (packets)
 * and the socket's receive buffer, sized from it (SO_RCVBUFFORCE where allowed),
 * NETLINK_NO_ENOBUFS. Every step is acknowledged by the kernel before the function returns; the
 * socket is left with nothing to read but packets. The agent sets copy range and flags later, by
 * policy.
 * Return: 0 or -errno: -EBUSY where somebody else has the queue number (the kernel says EBUSY or
 * EPERM), -EPERM without CAP_NET_ADMIN there, -EOPNOTSUPP where the kernel has no NFQUEUE.
 */
int queue_setup(int fd, uint16_t number, uint16_t stride, uint32_t length);

/* The same with a single number. */
int queue_setup_one(int fd, uint16_t number, uint32_t length);

#define QUEUE_LENGTH_DEFAULT 8192 /* packets */

/*
 * Let every packet that waits in the queue pass, without reading one: for a namespace whose policy
 * is open while no agent is there. Messages about them are thrown away unread.
 * @proc: nfnetlink_queue in that namespace's /proc, to tell how many they are
 * Return: how many, or -errno.
 */
int queue_release(int fd, uint16_t number, uint16_t stride, int proc);

/* Give the numbers back although copies of the socket are open. What waits is dropped. */
void queue_unbind(int fd, uint16_t number, uint16_t stride);

#endif
