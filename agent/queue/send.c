/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Verdicts leave in the order of the packets, all of a turn in one datagram. Packets in a row
 * that came by one number and get the same verdict and mark are one message,
 * NFQNL_MSG_VERDICT_BATCH, which decides every packet of that number up to an id. That is right
 * only where everything up to that id is to be decided alike or is decided already; hence a run is
 * written out before a packet is decided otherwise, and there are no runs while something older
 * waits (`older_undecided`, `owes`).
 *
 * A datagram to the kernel is worked off before sendmsg() returns; it fails only as a whole, for
 * want of memory. Then its packets are sent round their hooks again as soon as a send succeeds.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <string.h>

#include "agent/queue/internal.h"

#define SEND_TRIES 3

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

/* The last resort before owing: one message at a time needs little memory. */
static int send_singly(const struct queue *queue, const struct nfq_batch *batch)
{
	int err = 0;

	for (size_t at = 0; at < batch->used && !err;) {
		struct nlmsghdr header;
		struct nfq_batch one;

		memcpy(&header, batch->buffer + at, sizeof(header));
		one = (struct nfq_batch){.buffer = batch->buffer + at, .used = header.nlmsg_len};
		err = queue_send(queue, &one);
		at += NLMSG_ALIGN(header.nlmsg_len);
	}
	return err;
}

static void owe(struct queue *queue, const struct queue_buffers *buffers)
{
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		if (!(buffers->batch_flows & 1U << flow))
			continue;
		queue->owes = queue->numbers[flow].owes = true;
		queue->numbers[flow].owed_id = buffers->batch_last_id[flow];
	}
}

static void send_batch(struct queue *queue, struct queue_buffers *buffers)
{
	int err;

	counters_publish(queue->shm, &buffers->counters);
	if (buffers->batch.used == 0)
		return;
	err = queue_send(queue, &buffers->batch);
	if (err)
		err = send_singly(queue, &buffers->batch);
	if (err) {
		queue_note_error(queue, -err);
		owe(queue, buffers);
	}
	buffers->batch.used = 0;
	buffers->batch_flows = 0;
	queue_clash_sent(queue);
}

/* Append to the batch, which is sent first where it is full; an empty one holds any message. */
static void append(struct queue *queue, struct queue_buffers *buffers, struct queue_id id,
		   bool up_to, const struct queue_verdict *verdict)
{
	for (int i = 0; i < 2; i++) {
		if (nfq_append(&buffers->batch, queue_number_of(queue, id.flow), id.id, up_to,
			       verdict->verdict, verdict->set_mark, verdict->mark, verdict->payload,
			       verdict->payload_length))
			break;
		send_batch(queue, buffers);
	}
	buffers->batch_flows |= 1U << id.flow;
	buffers->batch_last_id[id.flow] = id.id;
}

static void end_run(struct queue *queue, struct queue_buffers *buffers)
{
	struct queue_run *run = &buffers->run;

	if (run->packets == 0)
		return;
	append(queue, buffers, run->last, run->packets > 1, &run->verdict);
	run->packets = 0;
}

/*
 * May this packet be decided together with those before it? Packets that wait for more of their
 * flow to be seen will set `older_undecided` when there are such: a range would decide them too.
 */
static bool joins_run(const struct queue *queue, const struct queue_run *run, enum nsgate_flow flow,
		      const struct queue_verdict *verdict)
{
	return run->packets > 0 && run->last.flow == flow && !queue->older_undecided &&
	       !queue->owes && !verdict->payload && !run->verdict.payload &&
	       run->verdict.verdict == verdict->verdict &&
	       run->verdict.set_mark == verdict->set_mark && run->verdict.mark == verdict->mark;
}

void queue_say(struct queue *queue, struct queue_buffers *buffers, struct queue_id id,
	       const struct queue_verdict *verdict)
{
	struct queue_run *run = &buffers->run;

	if (!joins_run(queue, run, id.flow, verdict)) {
		end_run(queue, buffers);
		run->verdict = *verdict;
	}
	run->last = id;
	run->packets++;
	/* The next packet's rewriting overwrites the payload. */
	if (verdict->payload)
		end_run(queue, buffers);
}

void queue_forget(struct queue *queue, struct queue_buffers *buffers, const struct nfq_tuple *tuple)
{
	end_run(queue, buffers);
	if (nfq_append_forget(&buffers->batch, tuple))
		return;
	send_batch(queue, buffers);
	nfq_append_forget(&buffers->batch, tuple);
}

void queue_repeat_up_to(struct queue *queue, struct queue_buffers *buffers, struct queue_id id)
{
	const struct queue_verdict repeat = {.verdict = NF_REPEAT};

	end_run(queue, buffers);
	append(queue, buffers, id, true, &repeat);
}

void queue_flush(struct queue *queue, struct queue_buffers *buffers)
{
	end_run(queue, buffers);
	send_batch(queue, buffers);
}

/* They were counted when they were judged and are counted again; so does the kernel. */
void queue_settle(struct queue *queue, struct queue_buffers *buffers)
{
	queue->owes = false;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		struct queue_number *number = &queue->numbers[flow];

		if (!number->owes)
			continue;
		number->owes = false;
		queue_repeat_up_to(queue, buffers,
				   (struct queue_id){(enum nsgate_flow)flow, number->owed_id});
	}
	queue_flush(queue, buffers);
}
