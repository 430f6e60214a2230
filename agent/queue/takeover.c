/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * When an agent dies, the packets whose messages it had read but not answered wait in the kernel
 * for a verdict that nobody will send. NF_REPEAT up to an id makes them enter their hook again,
 * under new ids. Which ones they are nobody can tell: the messages that are unread are of several
 * numbers, and of packets that may have vanished meanwhile (see agent/queue/look.c). So everything
 * that waits goes round, and the messages of that time are ignored.
 *
 * The last ids are read first. A packet that got its id in between but is not in the queue yet is
 * there before the verdict is, as both take the queue's lock; it goes round as well.
 *
 * Each packet that re-enters needs room in the receive buffer, or the kernel drops it. So messages
 * are read until the buffer is at most half full, and many packets are sent round in portions.
 *
 * Those sent round are counted twice by the kernel. How many they were shows in its numbers: each
 * has one more. Where packets come in too fast for an exact reading, it is what waited at the
 * beginning. An agent that dies before it knows has said so in the shared counters, and the next
 * one counts for it.
 */
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "agent/queue/internal.h"

#define PORTION 256	   /* packets sent round at once */
#define LENGTH_MAX 65536   /* packets that the kernel's queue holds at most */
#define SNAPSHOT_TRIES 256 /* less than a millisecond */

/* Kernels before 4.12 cannot say: taken for roomy. */
static bool is_half_full(const struct queue *queue)
{
	uint32_t memory[SK_MEMINFO_VARS] = {0};
	socklen_t length = sizeof(memory);

	if (getsockopt(queue->fd, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0)
		return false;
	return memory[SK_MEMINFO_RMEM_ALLOC] > memory[SK_MEMINFO_RCVBUF] / 2;
}

static int make_room(struct queue *queue, struct queue_buffers *buffers)
{
	for (int i = 0; i < LENGTH_MAX / QUEUE_BATCH && is_half_full(queue); i++) {
		const int count = queue_turn(queue, buffers);

		if (count <= 0)
			return count;
	}
	return 0;
}

/* Send round what waits by a number up to `last`, `waiting` packets or so. */
static int send_portions(struct queue *queue, struct queue_buffers *buffers, struct queue_id last,
			 uint32_t waiting)
{
	struct queue_id id = last;
	int err;

	if (waiting > PORTION)
		id.id = last.id - waiting;
	for (;;) {
		err = make_room(queue, buffers);
		if (err)
			return err;
		queue_repeat_up_to(queue, buffers, id);
		queue_flush(queue, buffers);
		if (id.id == last.id)
			return 0;
		id.id = last.id - id.id > PORTION ? id.id + PORTION : last.id;
	}
}

/* At once, unless packets come in too fast for an exact reading: see queue_takeover_packet(). */
static void count_sent_round(struct queue *queue, const struct queue_lines *before)
{
	struct queue_lines now;

	if (before->sum.pending == 0)
		counters_resend_end(queue->shm, 0);
	else if (queue_snapshot(queue, SNAPSHOT_TRIES, &now) == 1)
		counters_resend_settle(queue->shm, &now.sum);
}

/* `exact`: nothing waits where `kernel` says so. */
static int send_round(struct queue *queue, struct queue_buffers *buffers,
		      const struct queue_lines *kernel, bool exact)
{
	int err = 0;

	queue->regained_count = kernel->sum.pending;
	counters_resend_begin(queue->shm, &kernel->sum, kernel->sum.pending);
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		queue->numbers[flow].is_regaining = true;
		queue->numbers[flow].regained_id = kernel->id_sequence[flow];
	}
	queue->older_undecided = true;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX && !err; flow++) {
		const struct queue_id last = {(enum nsgate_flow)flow, kernel->id_sequence[flow]};

		if (!exact || kernel->pending[flow] > 0)
			err = send_portions(queue, buffers, last, kernel->pending[flow]);
	}
	queue->older_undecided = false;
	if (!err)
		count_sent_round(queue, kernel);
	return err;
}

int queue_takeover(struct queue *queue, struct queue_buffers *buffers)
{
	struct queue_lines kernel;
	const int exact = queue_snapshot(queue, SNAPSHOT_TRIES, &kernel);

	counters_turn_end(queue->shm); /* one that the predecessor left open */
	if (exact < 0)
		return exact;
	counters_resend_settle(queue->shm, &kernel.sum);
	queue->lost = (uint32_t)counters_missing(queue->shm, &kernel.sum);
	return send_round(queue, buffers, &kernel, exact);
}

int queue_regain(struct queue *queue, struct queue_buffers *buffers,
		 const struct queue_lines *kernel)
{
	queue->lost = (uint32_t)counters_missing(queue->shm, &kernel->sum);
	return send_round(queue, buffers, kernel, false);
}

bool queue_takeover_packet(struct queue *queue, struct queue_id id)
{
	struct queue_number *number = &queue->numbers[id.flow];

	if (queue_id_reached(id.id, number->regained_id))
		return true;
	number->is_regaining = false;
	if (queue->shm->resending && !queue->older_undecided)
		counters_resend_end(queue->shm, queue->regained_count);
	return false;
}
