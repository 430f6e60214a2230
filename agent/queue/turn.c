/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A turn: receive a batch, judge every packet, send all verdicts in one datagram. What is left from
 * before comes first: a configuration, verdicts that could not be sent, packets to be requeued.
 *
 * Netlink delivers the packets of a queue in the order of their ids, under the queue's lock. So
 * at the end of a turn every id up to the last one read is decided. The exceptions are those that
 * the kernel could not deliver, which it has dropped.
 */
#include "agent/queue/queue.h"

#include <errno.h>
#include <linux/netfilter.h>

#include "clock.h"
#include "agent/queue/internal.h"

/* Copied for an earlier policy: let it come again, with all that this one wants to see. */
static bool is_stale(struct queue *queue, struct queue_id id)
{
	struct queue_number *number = &queue->numbers[id.flow];

	if (!number->has_stale)
		return false;
	number->has_stale = queue_id_reached(id.id, number->stale_id);
	return number->has_stale;
}

/* Return: false where it came by none of our numbers. */
static bool identify(const struct queue *queue, const struct nfq_packet *packet,
		     struct queue_id *ret)
{
	const unsigned int distance = (uint16_t)(packet->number - queue->number);

	if (distance % queue->stride != 0 || distance / queue->stride >= NSGATE_FLOW_MAX)
		return false;
	*ret = (struct queue_id){(enum nsgate_flow)(distance / queue->stride), packet->id};
	return true;
}

/* Return: whether it was for us to decide. */
static bool handle_packet(struct queue *queue, struct queue_buffers *buffers,
			  const struct nfq_packet *packet)
{
	struct queue_verdict verdict = {.verdict = NF_REPEAT};
	struct queue_id id;

	if (!identify(queue, packet, &id)) {
		queue_note_error(queue, EBADMSG);
		return false;
	}
	if (queue->numbers[id.flow].is_requeued && queue_requeue_ignores(queue, id))
		return false;
	if (is_stale(queue, id))
		buffers->counters.readmitted++;
	else
		queue_judge(queue, buffers, id.flow, packet, &verdict);
	queue_add_verdict(queue, buffers, id, &verdict);
	return true;
}

static bool handle_message(struct queue *queue, struct queue_buffers *buffers, const void *message,
			   size_t length)
{
	struct nfq_packet packet;
	int error = 0;

	switch (nfq_parse(message, length, &packet, &error)) {
	case NFQ_KIND_PACKET:
		return handle_packet(queue, buffers, &packet);
	case NFQ_KIND_NO_ID:
		buffers->counters.malformed++;
		return false;
	case NFQ_KIND_ERROR:
		queue_note_error(queue, error);
		return false;
	case NFQ_KIND_OTHER:
	default:
		return false;
	}
}

static bool is_forged(struct queue *queue, struct queue_buffers *buffers, int i)
{
	if (queue->kernel_only)
		return false;
	buffers->messages[i].msg_hdr.msg_namelen = sizeof(buffers->senders[i]); /* next time's */
	if (queue_sent_by_kernel(&buffers->senders[i]))
		return false;
	__atomic_store_n(&queue->forged, queue->forged + 1, __ATOMIC_RELAXED);
	return true;
}

static bool handle_slot(struct queue *queue, struct queue_buffers *buffers, int i)
{
	const struct mmsghdr *message = &buffers->messages[i];

	if (is_forged(queue, buffers, i))
		return false;
	return handle_message(queue, buffers, buffers->slots[i].iov_base, message->msg_len);
}

int queue_turn(struct queue *queue, struct queue_buffers *buffers)
{
	unsigned int decided = 0;
	uint64_t received_at;
	int count;

	queue->drained = false;
	if (queue->config_unsent)
		queue_configure(queue);
	if (queue->config_unsent)
		return 0; /* better late than judged by half */
	if (queue->has_unsent)
		queue_retry_unsent(queue, buffers);
	queue_check_flushed(queue);
	if (queue->requeueing)
		queue_requeue_portion(queue, buffers);
	count = queue_receive(queue, buffers);
	if (count <= 0)
		return count;
	queue->drained = count < QUEUE_BATCH;
	queue->unchecked += (unsigned int)count;

	received_at = clock_ns(CLOCK_MONOTONIC);
	queue->in_force.state.now_ns = received_at;
	counters_turn_begin(queue->shm);
	for (int i = 0; i < count; i++)
		decided += handle_slot(queue, buffers, i);
	queue_flush(queue, buffers);
	counters_latency(queue->shm, clock_ns(CLOCK_MONOTONIC) - received_at, decided);
	counters_turn_end(queue->shm);
	if (!queue->kernel_only)
		queue->kernel_only = queue_socket_is_empty(queue);
	return count;
}
