/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worker threads: each serves its share of the queues, fairly: one batch per ready queue, round
 * after round. The control thread reaches into a worker only by worker_call().
 */
#ifndef NSGATE_WORKER_H
#define NSGATE_WORKER_H

#include <stdbool.h>

struct queue;
struct worker;

/* A function that a worker is asked to run; its fields are the worker's. */
struct worker_call {
	struct worker_call *next;
	void (*fn)(void *arg);
	void *arg;
	bool done;
};

/* A queue on its way into a worker, between worker_add_begin() and worker_add_end(). */
struct worker_adding {
	struct worker_call call;
	struct worker *worker;
	struct queue *queue;
	int result;
};

struct event_ring;

/*
 * Start a worker thread named nsgate/N, or nsgate/floodN if it is `for_floods` and gives way to all
 * others. Signals stay blocked in it. Return: NULL with errno set.
 */
struct worker *worker_start(unsigned int index, bool for_floods);

/* Stop and join it; its queues are not touched any more. Takes NULL. */
void worker_stop(struct worker *worker);

/* Run fn(arg) in the worker between two turns and wait until it has run. */
void worker_call(struct worker *worker, void (*fn)(void *arg), void *arg);

/*
 * Add a queue: the worker takes it over (queue_takeover()) and serves it. Between the two calls
 * `adding` stays where it is; what else is asked of the worker comes after it.
 * worker_add_end() waits for it. Return: 0, or -errno where the queue is not served.
 */
void worker_add_begin(struct worker *worker, struct queue *queue, struct worker_adding *adding);
int worker_add_end(struct worker_adding *adding);

/* Serve it no more. 0 packets of it are in the worker's hands when this returns. */
void worker_remove(struct worker *worker, struct queue *queue);

/*
 * Have `to` serve it instead of `from`, with nothing read and not judged in between.
 * Return: who serves it now: `from` still, where there was no memory.
 */
struct worker *worker_move(struct worker *from, struct worker *to, struct queue *queue);

/*
 * Verdict until the kernel's queue is empty or `timeout_ms` has passed (rules that feed it are
 * gone by now), then serve it no more. Return: 0, or -ETIMEDOUT with packets left.
 */
int worker_drain(struct worker *worker, struct queue *queue, int timeout_ms);

/*
 * Is it still going round? Ask, without waiting; whether the last question was answered (none: yes)
 * is for later.
 */
void worker_ask(struct worker *worker);
bool worker_answered(const struct worker *worker);

unsigned int worker_queue_count(const struct worker *worker);
struct event_ring *worker_events(struct worker *worker);

#endif
