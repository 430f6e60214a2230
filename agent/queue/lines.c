/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * What the kernel says of the queue's numbers, of one moment.
 *
 * The kernel's list is not read in one go, and a packet has its id a moment before it is in the
 * queue. So a plain reading can be off by the packets that come in just then. An exact one passes
 * the lock of every number (nfq_append_barrier()): no packet on its way in can do so at the same
 * time. If the sum of the last ids is the same before and after, nothing came in, and the lines
 * between the two are of one moment. In a flood that never happens.
 */
#include "agent/queue/internal.h"

#define BARRIER_SIZE 64 /* bytes of the message */

int queue_read_lines(const struct queue *queue, struct queue_lines *ret)
{
	return queue_kernel_read_lines(queue->proc_fd, queue->number, queue->stride, ret);
}

/* Of all the numbers. Return: 0 or -errno: no memory for the messages. */
static int pass_locks(const struct queue *queue)
{
	uint8_t buffer[NSGATE_FLOW_MAX * BARRIER_SIZE];
	struct nfq_batch batch = {.buffer = buffer, .size = sizeof(buffer)};

	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++)
		nfq_append_barrier(&batch, queue_number_of(queue, (enum nsgate_flow)flow));
	return queue_send(queue, &batch);
}

int queue_snapshot(const struct queue *queue, unsigned int tries, struct queue_lines *ret)
{
	int32_t least = INT32_MAX;
	struct queue_lines after;
	int err = queue_read_lines(queue, &after);

	for (unsigned int i = 0; !err && i < tries; i++) {
		const uint32_t before = after.sum.id_sequence;
		const bool passed = pass_locks(queue) == 0;
		struct queue_lines line;

		err = queue_read_lines(queue, &line);
		if (!err)
			err = queue_read_lines(queue, &after);
		if (!err && counters_missing(queue->shm, &line.sum) <= least) {
			least = counters_missing(queue->shm, &line.sum);
			*ret = line;
		}
		if (!err && passed && before == after.sum.id_sequence) {
			*ret = line;
			return 1;
		}
	}
	return err;
}
