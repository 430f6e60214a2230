/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * One slab holds the receive slots of a worker. The distance between the slots follows the copy
 * range of the queue whose turn it is, so that a queue which copies 128 bytes walks 32 KiB and
 * not four megabytes; pages that no queue needs are never touched.
 *
 * Netlink delivers the packets of a queue in the order of their ids, under the queue's lock. So
 * at the end of a turn every id up to the last one read is decided, unless the kernel could not
 * deliver it, and then it has dropped it.
 *
 * Messages of others than the kernel are ignored (queue_sent_by_kernel()). To have the sender of
 * every message copied costs one twentieth of the turn. It is asked for only until the socket has
 * been read empty once: before the broker hands it over, it connects it to the kernel, and nobody
 * else can send to it from then on. A process that holds the socket too, because it opened it,
 * could undo that, but need not: it can send verdicts of its own.
 */
#include "agent/queue/queue.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "clock.h"
#include "agent/queue/internal.h"

#define SLOT_ALIGN 64
#define SLAB_SIZE (QUEUE_BATCH * (size_t)QUEUE_SLOT_MAX + QUEUE_SEND_SIZE + QUEUE_COPY_MAX + 1)

static_assert(QUEUE_SLOT_MAX % SLOT_ALIGN == 0, "slots of the largest size fill the slab");

/* ---- buffers ---- */

static void lay_slots(struct queue_buffers *buffers, size_t stride, bool named)
{
	buffers->stride = stride;
	buffers->named = named;
	for (size_t i = 0; i < QUEUE_BATCH; i++) {
		buffers->slots[i].iov_base = buffers->slab + i * stride;
		buffers->slots[i].iov_len = stride;
		buffers->messages[i].msg_hdr.msg_iov = &buffers->slots[i];
		buffers->messages[i].msg_hdr.msg_iovlen = 1;
		buffers->messages[i].msg_hdr.msg_name = named ? &buffers->senders[i] : NULL;
		buffers->messages[i].msg_hdr.msg_namelen = named ? sizeof(buffers->senders[i]) : 0;
	}
}

static size_t slot_stride(uint32_t copy_range)
{
	const size_t need = (copy_range ? copy_range : QUEUE_COPY_DEFAULT) + QUEUE_METADATA;

	if (need >= QUEUE_SLOT_MAX)
		return QUEUE_SLOT_MAX;
	return (need + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN;
}

struct queue_buffers *queue_buffers_new(void)
{
	struct queue_buffers *buffers = calloc(1, sizeof(*buffers));
	void *slab;

	if (!buffers)
		return NULL;
	slab = mmap(NULL, SLAB_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slab == MAP_FAILED) {
		free(buffers);
		return NULL;
	}
	buffers->slab = slab;
	buffers->batch.buffer = buffers->slab + QUEUE_BATCH * (size_t)QUEUE_SLOT_MAX;
	buffers->batch.size = QUEUE_SEND_SIZE;
	buffers->rewritten = buffers->batch.buffer + QUEUE_SEND_SIZE;
	lay_slots(buffers, slot_stride(0), true);
	return buffers;
}

void queue_buffers_free(struct queue_buffers *buffers)
{
	if (!buffers)
		return;
	munmap(buffers->slab, SLAB_SIZE);
	free(buffers);
}

/* ---- a turn ---- */

/* ENOBUFS says that packets were dropped for want of room, which the kernel has counted. */
static int receive(const struct queue *queue, struct queue_buffers *buffers)
{
	const size_t stride = slot_stride(queue->copy_range);
	int count;

	if (stride != buffers->stride || buffers->named == queue->kernel_only)
		lay_slots(buffers, stride, !queue->kernel_only);
	count = recvmmsg(queue->fd, buffers->messages, QUEUE_BATCH, MSG_DONTWAIT, NULL);
	if (count >= 0)
		return count;
	switch (errno) {
	case EAGAIN:
	case EINTR:
	case ENOBUFS:
	case ENOMEM:
		return 0;
	default:
		return -errno;
	}
}

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
	if (queue->numbers[id.flow].is_regaining && queue_takeover_packet(queue, id))
		return false;
	if (is_stale(queue, id))
		buffers->counters.readmitted++;
	else
		queue_judge(queue, buffers, id.flow, packet, &verdict);
	queue_say(queue, buffers, id, &verdict);
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

/* What was sent before the socket was connected is read by now. */
static bool is_empty(const struct queue *queue)
{
	uint8_t byte;

	return recv(queue->fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
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
	if (queue->config_owed)
		queue_configure(queue);
	if (queue->config_owed)
		return 0; /* better late than judged by half */
	if (queue->owes)
		queue_settle(queue, buffers);
	count = queue_look(queue, buffers);
	if (count == 0)
		count = receive(queue, buffers);
	if (count <= 0)
		return count;
	queue->drained = count < QUEUE_BATCH;
	queue->unlooked += (unsigned int)count;

	received_at = clock_ns(CLOCK_MONOTONIC);
	queue->in_force.state.now_ns = received_at;
	counters_turn_begin(queue->shm);
	for (int i = 0; i < count; i++)
		decided += handle_slot(queue, buffers, i);
	queue_flush(queue, buffers);
	counters_latency(queue->shm, clock_ns(CLOCK_MONOTONIC) - received_at, decided);
	counters_turn_end(queue->shm);
	if (!queue->kernel_only)
		queue->kernel_only = is_empty(queue);
	return count;
}

/*
 * ENOENT: the packet went before its verdict came (its link went down, a chain was removed).
 * Nothing follows from it: a verdict for many packets is an error only where none of them is left.
 */
void queue_note_error(struct queue *queue, int error)
{
	if (error == 0 || error == ENOENT)
		return;
	__atomic_store_n(&queue->last_error, error, __ATOMIC_RELAXED);
	__atomic_store_n(&queue->errors, queue->errors + 1, __ATOMIC_RELAXED);
}
