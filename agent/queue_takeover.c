/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * When an agent dies, the packets whose messages it had read but not answered wait in the kernel
 * for a verdict that nobody will send. NF_REPEAT up to an id makes them enter their hook again,
 * under new ids. Which ones they are follows from the order of the messages: if the first unread
 * message has id F, everything that waits below F is theirs; if there is none, everything up to
 * the last id handed out. What nobody has read yet is judged as if nothing had happened.
 *
 * The last id is read first and the socket looked at second. A packet that got its id in between
 * but not its message yet would be sent round although its message still comes; hence messages up
 * to the id sent round are ignored.
 *
 * Each packet that re-enters needs room in the receive buffer, or the kernel drops it. So unread
 * messages are judged until the buffer is at most half full, and many packets are sent round in
 * portions.
 *
 * Those sent round are counted twice by the kernel. How many they were is what waited at the
 * beginning less what messages of that time turn up.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "queue_internal.h"

#define PORTION 256	 /* packets sent round at once */
#define LENGTH_MAX 65536 /* packets that the kernel's queue holds at most */
#define SNAPSHOT_TRIES 32

/* The figures are not read in one go: two readings with the same last id bracket a true one. */
static int snapshot(const struct queue *queue, struct queue_kernel *ret)
{
	struct queue_kernel earlier;
	int err = queue_kernel_read(queue->proc_fd, queue->number, &earlier);

	for (int i = 0; !err && i < SNAPSHOT_TRIES; i++) {
		err = queue_kernel_read(queue->proc_fd, queue->number, ret);
		if (!err && ret->id_sequence == earlier.id_sequence)
			break;
		earlier = *ret;
	}
	return err;
}

/* ---- the socket ---- */

/*
 * Id of the first packet that nobody has read; messages before it that are none are discarded.
 * Return: 1, 0 where there is none, -errno.
 */
static int first_unread(struct queue *queue, uint32_t *ret_id)
{
	uint8_t message[QUEUE_METADATA] __attribute__((aligned(8)));
	struct nfq_packet packet = {.id = 0};
	int error = 0;

	for (;;) {
		struct sockaddr_nl sender = {0};
		socklen_t sender_size = sizeof(sender);
		const ssize_t got =
			recvfrom(queue->fd, message, sizeof(message), MSG_PEEK | MSG_DONTWAIT,
				 (struct sockaddr *)&sender, &sender_size);

		if (got < 0 && (errno == EINTR || errno == ENOBUFS))
			continue;
		if (got < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (queue_sent_by_kernel(&sender) &&
		    nfq_parse(message, (size_t)got, &packet, &error) == NFQ_KIND_PACKET) {
			*ret_id = packet.id;
			return 1;
		}
		(void)recv(queue->fd, message, sizeof(message), MSG_DONTWAIT);
	}
}

/* Messages of packets that are gone: nothing is to be decided of them, nothing to be counted. */
static int discard_unread(struct queue *queue, uint32_t last)
{
	uint8_t message[QUEUE_METADATA] __attribute__((aligned(8)));
	uint32_t unread = 0;
	int found = first_unread(queue, &unread);

	while (found > 0 && queue_id_reached(unread, last)) {
		(void)recv(queue->fd, message, sizeof(message), MSG_DONTWAIT);
		found = first_unread(queue, &unread);
	}
	return found < 0 ? found : 0;
}

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

/* ---- the takeover ---- */

/* Send round what waits up to `last`, at most `waiting` packets. */
static int send_round(struct queue *queue, struct queue_buffers *buffers, uint32_t last,
		      uint32_t waiting)
{
	uint32_t id = waiting > PORTION ? last - waiting : last;
	int err;

	for (;;) {
		err = make_room(queue, buffers);
		if (err)
			return err;
		queue_repeat_up_to(queue, buffers, id);
		queue_flush(queue, buffers);
		if (id == last)
			return 0;
		id = last - id > PORTION ? id + PORTION : last;
	}
}

int queue_takeover(struct queue *queue, struct queue_buffers *buffers)
{
	struct queue_kernel kernel;
	uint32_t unread = 0;
	int err;

	counters_turn_end(queue->shm); /* one that the predecessor left open */
	err = snapshot(queue, &kernel);
	if (err)
		return err;
	if (kernel.pending == 0)
		return discard_unread(queue, kernel.id_sequence);
	err = first_unread(queue, &unread);
	if (err < 0)
		return err;

	queue->takeover_last = kernel.id_sequence;
	queue->takeover_id = err ? unread - 1 : kernel.id_sequence;
	queue->takeover_count = kernel.pending;
	__atomic_store_n(&queue->in_takeover, true, __ATOMIC_RELAXED); /* stats look at it */
	queue->older_undecided = true;
	err = send_round(queue, buffers, queue->takeover_id, kernel.pending);
	queue->older_undecided = false;
	return err;
}

bool queue_takeover_packet(struct queue *queue, struct counters *counters, uint32_t id)
{
	if (queue_id_reached(id, queue->takeover_id))
		return true;
	if (queue_id_reached(id, queue->takeover_last)) {
		if (queue->takeover_count > 0)
			queue->takeover_count--;
		return false;
	}
	counters->readmitted += queue->takeover_count;
	__atomic_store_n(&queue->in_takeover, false, __ATOMIC_RELAXED);
	return false;
}
