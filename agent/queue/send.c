/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Verdicts leave in the order of the packets, all of a turn in one datagram. Packets in a row
 * that came by one number and get the same verdict and mark are one message,
 * NFQNL_MSG_VERDICT_BATCH, which decides every packet of that number up to an id. That is right
 * only where everything up to that id is to be decided alike or is decided already; hence a run is
 * written out before a packet is decided otherwise, and there are no runs while something older
 * waits (`older_undecided`, `has_unsent`).
 *
 * A datagram to the kernel is worked off before sendmsg() returns; it fails only as a whole, for
 * want of memory. Then its packets are sent round their hooks again as soon as a send succeeds.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <string.h>

#include "agent/queue/internal.h"

/* The last resort: one message at a time needs little memory. */
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

/* A portion that is requeued is of older ids than what is unsent already, perhaps. */
static void keep_unsent(struct queue *queue, const struct queue_buffers *buffers)
{
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		struct queue_number *number = &queue->numbers[flow];
		const uint32_t last_id = buffers->batch_last_id[flow];

		if (!(buffers->batch_flows & 1U << flow))
			continue;
		if (!number->has_unsent || !queue_id_reached(last_id, number->unsent_id))
			number->unsent_id = last_id;
		queue->has_unsent = number->has_unsent = true;
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
		keep_unsent(queue, buffers);
	}
	buffers->batch.used = 0;
	buffers->batch_flows = 0;
	queue_clash_sent(queue);
}

/* Append to the batch, which is sent first where it is full; an empty one holds any message. */
static void append_verdict(struct queue *queue, struct queue_buffers *buffers, struct queue_id id,
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
	append_verdict(queue, buffers, run->last, run->packets > 1, &run->verdict);
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
	       !queue->has_unsent && !verdict->payload && !run->verdict.payload &&
	       run->verdict.verdict == verdict->verdict &&
	       run->verdict.set_mark == verdict->set_mark && run->verdict.mark == verdict->mark;
}

void queue_add_verdict(struct queue *queue, struct queue_buffers *buffers, struct queue_id id,
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

void queue_requeue_up_to(struct queue *queue, struct queue_buffers *buffers, struct queue_id id)
{
	const struct queue_verdict repeat = {.verdict = NF_REPEAT};

	end_run(queue, buffers);
	append_verdict(queue, buffers, id, true, &repeat);
}

void queue_flush(struct queue *queue, struct queue_buffers *buffers)
{
	end_run(queue, buffers);
	send_batch(queue, buffers);
}

/* They were counted when they were judged and are counted again; so does the kernel. */
void queue_retry_unsent(struct queue *queue, struct queue_buffers *buffers)
{
	queue->has_unsent = false;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		struct queue_number *number = &queue->numbers[flow];

		if (!number->has_unsent)
			continue;
		number->has_unsent = false;
		queue_requeue_up_to(queue, buffers,
				    (struct queue_id){(enum nsgate_flow)flow, number->unsent_id});
	}
	queue_flush(queue, buffers);
}
