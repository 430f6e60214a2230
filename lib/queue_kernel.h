/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel says of a queue: lines of /proc/net/netfilter/nfnetlink_queue. */
#ifndef NSGATE_QUEUE_KERNEL_H
#define NSGATE_QUEUE_KERNEL_H

#include <stdint.h>

#include "nsgate/flow.h"

/* Its columns; seq_show() in net/netfilter/nfnetlink_queue.c. Packets, but for the copy range. */
struct queue_kernel {
	uint32_t portid, pending, copy_mode, copy_range, dropped, user_dropped, id_sequence;
};

/*
 * A queue is NSGATE_FLOW_MAX numbers, `stride` apart (nsgate/flow.h). Their lines, and the sum of
 * them; what is no count there is that of any.
 */
struct queue_lines {
	struct queue_kernel sum;
	uint32_t pending[NSGATE_FLOW_MAX], id_sequence[NSGATE_FLOW_MAX];
};

/*
 * Read what there is of the queue whose first number is `number`, through a descriptor opened in
 * the queue's namespace; from anywhere. The file is read in one go where it is shorter than 4 KiB,
 * which is some fifty numbers.
 * Return: 0; -ENOENT where the namespace has no such queue (nobody bound); -errno.
 */
int queue_kernel_read(int proc_fd, uint16_t number, uint16_t stride, struct queue_kernel *ret);
int queue_kernel_read_lines(int proc_fd, uint16_t number, uint16_t stride, struct queue_lines *ret);

#endif
