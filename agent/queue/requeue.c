/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * When an agent dies, packets whose messages it had read, and not answered, wait in the kernel for
 * a verdict that nobody will send. NF_REPEAT up to an id makes them enter their hook again, under
 * new ids: they are requeued. Nobody can tell which packets these are. The unread messages are of
 * several numbers, and some are of packets that were flushed (see flushed.c). So everything
 * that waits is requeued, and all messages of that time are ignored.
 *
 * Requeueing is a state of the queue. It begins with the last id of each number
 * (queue_requeue_begin()). Each turn then requeues a portion by each number, and judges a batch as
 * every turn does (queue_requeue_portion()). So the other queues of the worker have their turns in
 * between. While it lasts something older than the turn waits (`older_undecided`), so nothing is
 * decided by range. The state ends when the last portion is sent.
 *
 * A packet may have its id and not be in the queue yet when the last ids are read. It is there
 * before the verdict is, because both take the queue's lock. It is requeued as well.
 *
 * A requeued packet needs room in the receive buffer, or the kernel drops it. So a portion is sent
 * only while the buffer is at most half full. In a flood it may never be, so the wait has an end.
 *
 * The kernel numbers a requeued packet twice. Its numbers show how many there were: each has one
 * more. They are read before and after the portions of a turn, so that a packet that is flushed
 * between two turns is not taken for a requeued one. Where packets come in too fast for an exact
 * reading, it is what waited at the beginning, less what was counted. The shared counters say that
 * portions are under way. If the agent dies before it has counted, the next one counts for it.
 */
#include "agent/queue/internal.h"

#define PORTION 256	   /* packets requeued at once */
#define WAITS_MAX 1024	   /* turns that read a full queue empty: 65536 packets */
#define SNAPSHOT_TRIES 256 /* less than a millisecond */

/* Earlier portions may not be counted yet, and then they are counted with these. */
static void begin_count(struct queue *queue)
{
	struct queue_lines before;

	if (!queue->shm->requeueing && queue->requeued_count > 0 &&
	    queue_snapshot(queue, SNAPSHOT_TRIES, &before) >= 0)
		counters_requeue_begin(queue->shm, &before.sum, queue->requeued_count);
}

/* Now, unless packets come in too fast for an exact reading: see queue_requeue_ignores(). */
static void end_count(struct queue *queue)
{
	struct queue_lines now;

	if (queue->shm->requeueing && queue_snapshot(queue, SNAPSHOT_TRIES, &now) == 1)
		queue->requeued_count -= counters_requeue_recover(queue->shm, &now.sum);
}

static void end_if_done(struct queue *queue)
{
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++)
		if (queue->numbers[flow].to_requeue)
			return;
	queue->requeueing = false;
	queue->older_undecided = false;
}

/* `exact`: nothing waits where `kernel` says so. */
static void begin(struct queue *queue, const struct queue_lines *kernel, bool exact)
{
	queue->requeueing = true;
	queue->requeue_waits = 0;
	queue->requeued_count = kernel->sum.pending;
	queue->older_undecided = true;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		struct queue_number *number = &queue->numbers[flow];
		const uint32_t pending = kernel->pending[flow];

		number->is_requeued = true;
		number->requeued_id = kernel->id_sequence[flow];
		number->to_requeue = !exact || pending > 0;
		number->portion_id = number->requeued_id - (pending > PORTION ? pending : 0);
	}
	end_if_done(queue);
}

int queue_takeover(struct queue *queue)
{
	struct queue_lines kernel;
	const int exact = queue_snapshot(queue, SNAPSHOT_TRIES, &kernel);

	counters_turn_end(queue->shm); /* one that the predecessor left open */
	if (exact < 0)
		return exact;
	counters_requeue_recover(queue->shm, &kernel.sum);
	queue->lost = (uint32_t)counters_missing(queue->shm, &kernel.sum);
	begin(queue, &kernel, exact);
	return 0;
}

void queue_requeue_begin(struct queue *queue, const struct queue_lines *kernel)
{
	queue->lost = (uint32_t)counters_missing(queue->shm, &kernel->sum);
	begin(queue, kernel, false);
}

static bool has_room(struct queue *queue)
{
	if (queue->requeue_waits++ < WAITS_MAX && queue_socket_is_half_full(queue))
		return false;
	queue->requeue_waits = 0;
	return true;
}

static void send_portion(struct queue *queue, struct queue_buffers *buffers, enum nsgate_flow flow)
{
	struct queue_number *number = &queue->numbers[flow];

	queue_requeue_up_to(queue, buffers, (struct queue_id){flow, number->portion_id});
	queue_flush(queue, buffers);
	number->to_requeue = number->portion_id != number->requeued_id;
	if (number->requeued_id - number->portion_id > PORTION)
		number->portion_id += PORTION;
	else
		number->portion_id = number->requeued_id;
}

void queue_requeue_portion(struct queue *queue, struct queue_buffers *buffers)
{
	begin_count(queue);
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		if (!queue->numbers[flow].to_requeue)
			continue;
		if (queue->has_unsent || !has_room(queue))
			break;
		send_portion(queue, buffers, (enum nsgate_flow)flow);
	}
	end_count(queue);
	end_if_done(queue);
}

bool queue_requeue_ignores(struct queue *queue, struct queue_id id)
{
	struct queue_number *number = &queue->numbers[id.flow];

	if (queue_id_reached(id.id, number->requeued_id))
		return true;
	number->is_requeued = false;
	if (queue->shm->requeueing && !queue->requeueing)
		counters_requeue_end(queue->shm, queue->requeued_count);
	return false;
}
