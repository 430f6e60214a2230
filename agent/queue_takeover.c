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
 * Packets may have vanished while nobody was there (see queue_look.c). Then some of the unread
 * messages are of packets that are no more, nobody knows which, and everything goes round.
 *
 * Those sent round are counted twice by the kernel. How many they were shows in its numbers: each
 * has one more. Where packets come in too fast for an exact reading, it is what waited at the
 * beginning less what messages of that time turn up. An agent that dies before it knows has said
 * so in the shared counters, and the next one counts for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "queue_internal.h"

#define PORTION 256	   /* packets sent round at once */
#define LENGTH_MAX 65536   /* packets that the kernel's queue holds at most */
#define SNAPSHOT_TRIES 256 /* less than a millisecond */

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

/* Are packets missing that the statistics do not know of? */
static bool has_news(const struct queue *queue)
{
	const struct shm_control *control = &queue->shm->control;

	return (int32_t)(queue->lost - (uint32_t)(control->flushed + control->unaccounted)) > 0;
}

/* Send round what waits up to `last`, at most `waiting` packets. */
static int send_portions(struct queue *queue, struct queue_buffers *buffers, uint32_t last,
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

/* At once, unless packets come in too fast for an exact line: see queue_takeover_packet(). */
static void count_sent_round(struct queue *queue, const struct queue_kernel *before)
{
	struct queue_kernel now;

	if (before->pending == 0)
		counters_resend_end(queue->shm, 0);
	else if (queue_snapshot(queue, SNAPSHOT_TRIES, &now) == 1)
		counters_resend_settle(queue->shm, &now);
}

/* Send round what waits up to `last`, and ignore the messages up to there from now on. */
static int send_round(struct queue *queue, struct queue_buffers *buffers, uint32_t last,
		      const struct queue_kernel *kernel)
{
	int err;

	queue->takeover_last = kernel->id_sequence;
	queue->takeover_id = last;
	queue->takeover_count = kernel->pending;
	counters_resend_begin(queue->shm, kernel, kernel->pending);
	queue->in_takeover = true;
	queue->older_undecided = true;
	err = send_portions(queue, buffers, last, kernel->pending);
	queue->older_undecided = false;
	if (!err)
		count_sent_round(queue, kernel);
	return err;
}

int queue_takeover(struct queue *queue, struct queue_buffers *buffers)
{
	struct queue_kernel kernel;
	uint32_t unread = 0;
	bool all;
	int found;
	const int exact = queue_snapshot(queue, SNAPSHOT_TRIES, &kernel);

	counters_turn_end(queue->shm); /* one that the predecessor left open */
	if (exact < 0)
		return exact;
	counters_resend_settle(queue->shm, &kernel);
	queue->lost = (uint32_t)counters_missing(queue->shm, &kernel);
	if (exact && kernel.pending == 0)
		return discard_unread(queue, kernel.id_sequence);
	found = first_unread(queue, &unread);
	if (found < 0)
		return found;
	all = !found || (has_news(queue) && !queue_fails_open(queue));
	return send_round(queue, buffers, all ? kernel.id_sequence : unread - 1, &kernel);
}

int queue_regain(struct queue *queue, struct queue_buffers *buffers,
		 const struct queue_kernel *kernel)
{
	queue->lost = (uint32_t)counters_missing(queue->shm, kernel);
	return send_round(queue, buffers, kernel->id_sequence, kernel);
}

bool queue_takeover_packet(struct queue *queue, uint32_t id)
{
	if (queue_id_reached(id, queue->takeover_id))
		return true;
	if (queue_id_reached(id, queue->takeover_last)) {
		if (queue->takeover_count > 0)
			queue->takeover_count--;
		return false;
	}
	if (queue->shm->resending)
		counters_resend_end(queue->shm, queue->takeover_count);
	queue->in_takeover = false;
	return false;
}
