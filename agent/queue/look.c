/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * When a link goes down or a base chain is deleted, the kernel drops packets that wait in the
 * queue. Their messages stay in the socket. Judged like others they would be counted as accepted,
 * say, though the kernel dropped them; and their verdicts' errors come too late, and not for each.
 *
 * The numbers tell. Everything numbered is decided, waiting, undeliverable or known to be lost, so
 * a packet that vanished is missing in the sum until its message has been judged: counting it as
 * decided hides it. Hence the look must come before the messages are read. It costs a pread() of
 * 0.7 us and more, and is taken every LOOK_PACKETS packets, and whenever messages may have waited
 * for LOOK_NS: after a pause, as when the agent was stopped, it comes before the first message.
 * They cannot have waited if there was a look, or if the worker found the queue empty
 * (`empty_at_ns`), less than LOOK_NS ago. What vanishes between a look and the end of the turns
 * that rely on it is counted by its verdict: at most LOOK_PACKETS packets and one turn, and only if
 * they would have been judged within LOOK_NS.
 *
 * A packet has its number a moment before it waits, and the line is not read in one go. So a
 * difference is only a suspicion. Then the locks of the queue's numbers are passed
 * (nfq_append_barrier()), which no packet on its way in does: if the sum of the last ids is the
 * same before it and after, the lines are exact. In a flood they never are. There, only one packet
 * by each number can be on its way in, under the lock.
 *
 * Once it is certain, queue_regain() asks for everything that still waits to come again under a
 * new number, and the old messages are ignored. What vanished is then in no account: the
 * statistics call it flushed. Where packets pass on overload, those are missing too, and which
 * messages are good cannot be told unless nothing waits.
 */
#include <linux/netfilter/nfnetlink_queue.h>

#include "clock.h"
#include "agent/queue/internal.h"

#define LOOK_PACKETS 128
#define LOOK_NS 5000000U
#define TRIES 8
#define BARRIER_SIZE 64 /* bytes of the message */

static int read_line(const struct queue *queue, struct queue_lines *ret)
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
	int err = read_line(queue, &after);

	for (unsigned int i = 0; !err && i < tries; i++) {
		const uint32_t before = after.sum.id_sequence;
		const bool passed = pass_locks(queue) == 0;
		struct queue_lines line;

		err = read_line(queue, &line);
		if (!err)
			err = read_line(queue, &after);
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

bool queue_fails_open(const struct queue *queue)
{
	return queue->config_flags & NFQA_CFG_F_FAIL_OPEN;
}

static bool is_due(struct queue *queue)
{
	const uint64_t now = clock_ns(CLOCK_MONOTONIC);

	if (queue->unlooked < LOOK_PACKETS &&
	    (now - queue->looked_at_ns < LOOK_NS || now - queue->empty_at_ns < LOOK_NS))
		return false;
	queue->unlooked = 0;
	queue->looked_at_ns = now;
	return true;
}

static int32_t news(const struct queue *queue, const struct queue_lines *kernel)
{
	return (int32_t)((uint32_t)counters_missing(queue->shm, &kernel->sum) - queue->lost);
}

/* Return: how many have vanished; 0 also where it is not certain; or below 0. */
static int32_t certain_news(const struct queue *queue, struct queue_lines *ret)
{
	const int exact = queue_snapshot(queue, TRIES, ret);
	const int32_t vanished = exact < 0 ? 0 : news(queue, ret);

	return exact || vanished > NSGATE_FLOW_MAX ? vanished : 0;
}

int queue_look(struct queue *queue, struct queue_buffers *buffers)
{
	struct queue_lines kernel;
	int32_t vanished;

	if (queue->shm->resending || queue->older_undecided || queue->owes || !is_due(queue))
		return 0;
	if (read_line(queue, &kernel) < 0 || news(queue, &kernel) == 0)
		return 0;
	vanished = certain_news(queue, &kernel);
	if (vanished < 0)
		queue->lost += (uint32_t)vanished;
	if (vanished <= 0 || (kernel.sum.pending > 0 && queue_fails_open(queue)))
		return 0;
	return queue_regain(queue, buffers, &kernel);
}
