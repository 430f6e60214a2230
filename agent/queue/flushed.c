/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * When a link goes down or a base chain is deleted, the kernel drops packets that wait in the
 * queue. Their messages stay in the socket. If they were judged like others, they would be counted
 * as accepted, say, though the kernel dropped them. The errors of their verdicts come too late, and
 * not for each.
 *
 * The numbers tell. Every packet that has a number is decided, waiting, undeliverable or known to
 * be lost. So a flushed packet is missing in that sum, until its message has been judged: counting
 * it as decided hides it. Hence the check must come before the messages are read.
 *
 * A check costs a pread() of 0.7 us and more. It is made every CHECK_PACKETS packets, and whenever
 * messages may have waited for CHECK_NS. After a pause, as when the agent was stopped, it comes
 * before the first message. Messages cannot have waited if there was a check less than CHECK_NS
 * ago, or if the worker found the queue empty then (`empty_at_ns`). What is flushed between a check
 * and the end of the turns that rely on it is counted by its verdict. These are at most
 * CHECK_PACKETS packets and one turn, and only packets that would have been judged within
 * CHECK_NS.
 *
 * A plain reading of the numbers gives a suspicion. An exact one (queue_snapshot()) makes it
 * certain. In a flood no reading is exact. There, only one packet by each number can be on its way
 * in, as it holds the lock of that number; what is missing beyond that was flushed.
 *
 * Then everything that still waits is requeued (queue_requeue_begin()), and the old messages are
 * ignored. Where a requeue is under way, it begins anew. What was flushed is then in no account,
 * and the statistics report it as flushed. Where a policy lets packets pass on overload, those are
 * missing too. Which messages are good cannot be told there, unless nothing waits.
 */
#include <linux/netfilter/nfnetlink_queue.h>

#include "clock.h"
#include "agent/queue/internal.h"

#define CHECK_PACKETS 128
#define CHECK_NS 5000000U
#define TRIES 8

bool queue_fails_open(const struct queue *queue)
{
	return queue->config_flags & NFQA_CFG_F_FAIL_OPEN;
}

static bool is_check_due(struct queue *queue)
{
	const uint64_t now = clock_ns(CLOCK_MONOTONIC);

	if (queue->unchecked < CHECK_PACKETS &&
	    (now - queue->checked_at_ns < CHECK_NS || now - queue->empty_at_ns < CHECK_NS))
		return false;
	queue->unchecked = 0;
	queue->checked_at_ns = now;
	return true;
}

static int32_t newly_missing(const struct queue *queue, const struct queue_lines *kernel)
{
	return (int32_t)((uint32_t)counters_missing(queue->shm, &kernel->sum) - queue->lost);
}

/* Return: how many were flushed; 0 also where it is not certain; or below 0. */
static int32_t certainly_missing(const struct queue *queue, struct queue_lines *ret)
{
	const int exact = queue_snapshot(queue, TRIES, ret);
	const int32_t flushed = exact < 0 ? 0 : newly_missing(queue, ret);

	return exact || flushed > NSGATE_FLOW_MAX ? flushed : 0;
}

void queue_check_flushed(struct queue *queue)
{
	struct queue_lines kernel;
	int32_t flushed;

	if (queue->shm->requeueing || queue->has_unsent || !is_check_due(queue))
		return;
	if (queue_read_lines(queue, &kernel) < 0 || newly_missing(queue, &kernel) == 0)
		return;
	flushed = certainly_missing(queue, &kernel);
	if (flushed < 0)
		queue->lost += (uint32_t)flushed;
	if (flushed <= 0 || (kernel.sum.pending > 0 && queue_fails_open(queue)))
		return;
	queue_requeue_begin(queue, &kernel);
}
