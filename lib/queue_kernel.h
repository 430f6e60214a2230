/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel says of a queue: a line of /proc/net/netfilter/nfnetlink_queue. */
#ifndef NSGATE_QUEUE_KERNEL_H
#define NSGATE_QUEUE_KERNEL_H

#include <stdint.h>

/* Its columns; seq_show() in net/netfilter/nfnetlink_queue.c. Packets, but for the copy range. */
struct queue_kernel {
	uint32_t portid, pending, copy_mode, copy_range, dropped, user_dropped, id_sequence;
};

/*
 * Read the line of queue `number` through a descriptor opened in the queue's namespace; from
 * anywhere. Return: 0; -ENOENT where the namespace has no such queue (nobody bound); -errno.
 */
int queue_kernel_read(int proc_fd, uint16_t number, struct queue_kernel *ret);

#endif
