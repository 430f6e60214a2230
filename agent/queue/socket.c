/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * The queue's socket, and the buffers that a worker reads into.
 *
 * One slab holds the receive slots of a worker. The distance between two slots follows the copy
 * range of the queue whose turn it is. A queue that copies 128 bytes walks 32 KiB and not four
 * megabytes, and pages that no queue needs are never touched.
 *
 * Messages of others than the kernel are ignored (queue_sent_by_kernel()). Copying the sender of
 * every message costs one twentieth of the turn. So the sender is asked for only until the socket
 * has been read empty once: the broker connects the socket to the kernel before it hands it over,
 * and from then on nobody else can send to it. A process that opened the socket and still holds it
 * could undo that. It gains nothing: it can send verdicts of its own.
 */
#include <assert.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "agent/queue/internal.h"

#define SEND_TRIES 3
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

/* ---- reading ---- */

/* ENOBUFS says that packets were dropped for want of room, which the kernel has counted. */
int queue_receive(const struct queue *queue, struct queue_buffers *buffers)
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

/* What was sent before the socket was connected is read by now. */
bool queue_socket_is_empty(const struct queue *queue)
{
	uint8_t byte;

	return recv(queue->fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* Kernels before 4.12 cannot say: taken for roomy. */
bool queue_socket_is_half_full(const struct queue *queue)
{
	uint32_t memory[SK_MEMINFO_VARS] = {0};
	socklen_t length = sizeof(memory);

	if (getsockopt(queue->fd, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0)
		return false;
	return memory[SK_MEMINFO_RMEM_ALLOC] > memory[SK_MEMINFO_RCVBUF] / 2;
}

/* ---- writing ---- */

int queue_send(const struct queue *queue, const struct nfq_batch *batch)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct iovec part = {.iov_base = batch->buffer, .iov_len = batch->used};
	/*
	 * The address is spelt out: for a message with a destination of its own the kernel asks
	 * for the capability of the sender alone and not of whoever opened the socket too.
	 */
	const struct msghdr message = {.msg_name = &kernel,
				       .msg_namelen = sizeof(kernel),
				       .msg_iov = &part,
				       .msg_iovlen = 1};

	for (int i = 0; i < SEND_TRIES; i++) {
		if (sendmsg(queue->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
	}
	return -errno;
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
