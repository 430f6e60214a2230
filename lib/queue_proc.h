/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening the kernel's table of queues, which is there only once nfnetlink_queue is loaded. */
#ifndef NSGATE_QUEUE_PROC_H
#define NSGATE_QUEUE_PROC_H

#define QUEUE_PROC_PATH "/proc/thread-self/net/netfilter/nfnetlink_queue"

/* What a kernel needs for netlink sockets of netfilter, and for queues; for messages to people. */
#define QUEUE_PROC_NETLINK_MODULE "nfnetlink (CONFIG_NETFILTER_NETLINK)"
#define QUEUE_PROC_MODULE "nfnetlink_queue (CONFIG_NETFILTER_NETLINK_QUEUE)"
#define QUEUE_PROC_REMEDY                                                                          \
	"load it on the host, by modprobe or /etc/modules-load.d, or run a kernel that has it"

/*
 * Open the table of queues of the network namespace that the caller is in, for reading; the
 * kernel is made to load the module where it has not yet. Allocates nothing.
 * Return: the descriptor, or -errno: -ENOENT the kernel has no queues and can load none, or /proc
 * is not mounted; -EACCES the file belongs to another user namespace; -EPROTONOSUPPORT no netlink
 * sockets of netfilter.
 */
int queue_proc_open(void);

#endif
