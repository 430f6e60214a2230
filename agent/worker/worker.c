/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A worker waits for its queues with an epoll of its own, level-triggered. In a round every queue
 * that is ready gets exactly one turn, however much it has waiting; the kernel moves those that
 * stay ready to the end of its list. So a namespace that floods slows the others down by one
 * batch per round and not by more.
 *
 * A queue that always has more than one turn's is flooded: with it its worker never sleeps, and the
 * scheduler takes the CPU from such a thread for milliseconds, in which the quiet queues that share
 * it wait. So the control thread moves it to a worker for such queues (ns_rebalance()), and back
 * when it has been calm for long. Whoever sleeps most of the time gets a CPU at once.
 *
 * The control thread reaches in by calls: it leaves a note of a function to run, wakes the worker
 * through an eventfd, and waits. Notes are worked off at the end of a round, when no turn is
 * under way and no event of the round is left to handle, so a call may remove any queue.
 */
#include "agent/worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "agent/event.h"
#include "agent/worker/pause.h"
#include "agent/queue/queue.h"
#include "agent/worker/cpu.h"
#include "agent/worker/sched.h"

#define STACK_BYTES (1 << 20) /* musl would give 128 KiB, and one function takes half of that */
#define ROUND_QUEUES 256      /* ready queues taken from epoll at once */
#define TIMER_SLACK_NS 1000   /* how late the kernel may end one: the default would double it */
#define RETRY_MS 10	      /* until verdicts that could not be sent are tried again */
#define FLOOD_NS 20000000U    /* a backlog that lasts so long is a flood, */
#define FLOOD_TURNS 32	      /* where the worker had so many turns to be rid of it */
#define CALM_NS 10000000000U  /* without one, after which it is none any more */
#define DRAIN_POLL_NS 500000  /* between two looks at a queue that is to run empty */

struct worker {
	pthread_t thread;
	unsigned int index;
	bool for_floods;
	int epoll_fd, wake_fd;
	struct queue_buffers *buffers;
	struct event_ring *events;
	struct pause pause;
	struct worker_sched sched;
	struct worker_cpu cpu;
	struct queue *queues;	  /* the worker's own */
	unsigned int queue_count; /* the control thread's */
	unsigned int unfinished; /* queues that are (queue_is_unfinished()), as of the last round */
	unsigned int requeueing; /* of them */
	uint64_t round_end_ns;	 /* CLOCK_MONOTONIC, of the last round's turns */
	uint64_t listed_ns;	 /* before the last time that epoll named all ready queues */
	bool stopping;
	atomic_uint asked, answered; /* worker_ask() */

	pthread_mutex_t lock;
	pthread_cond_t done;
	struct worker_call *first_call, **last_call; /* under `lock` */
};

static void sleep_ns(uint64_t ns)
{
	const struct timespec time = {.tv_nsec = (long)ns};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

/* ---- calls ---- */

static struct worker_call *take_call(struct worker *worker)
{
	struct worker_call *call;

	pthread_mutex_lock(&worker->lock);
	call = worker->first_call;
	if (call) {
		worker->first_call = call->next;
		if (!worker->first_call)
			worker->last_call = &worker->first_call;
	}
	pthread_mutex_unlock(&worker->lock);
	return call;
}

static void run_calls(struct worker *worker)
{
	struct worker_call *call;
	eventfd_t ignored;

	(void)eventfd_read(worker->wake_fd, &ignored);
	atomic_store(&worker->answered, atomic_load(&worker->asked));
	while ((call = take_call(worker))) {
		call->fn(call->arg);
		pthread_mutex_lock(&worker->lock);
		call->done = true;
		pthread_cond_broadcast(&worker->done);
		pthread_mutex_unlock(&worker->lock);
	}
}

/* EAGAIN: it was woken so often that the counter is full, hence is awake. */
static void wake(const struct worker *worker)
{
	while (eventfd_write(worker->wake_fd, 1) < 0 && errno != EAGAIN)
		;
}

static void post_call(struct worker *worker, struct worker_call *call)
{
	pthread_mutex_lock(&worker->lock);
	*worker->last_call = call;
	worker->last_call = &call->next;
	pthread_mutex_unlock(&worker->lock);
	wake(worker);
}

static void await_call(struct worker *worker, const struct worker_call *call)
{
	pthread_mutex_lock(&worker->lock);
	while (!call->done)
		pthread_cond_wait(&worker->done, &worker->lock);
	pthread_mutex_unlock(&worker->lock);
}

void worker_call(struct worker *worker, void (*fn)(void *arg), void *arg)
{
	struct worker_call call = {.fn = fn, .arg = arg};

	post_call(worker, &call);
	await_call(worker, &call);
}

void worker_ask(struct worker *worker)
{
	atomic_fetch_add(&worker->asked, 1);
	wake(worker);
}

bool worker_answered(const struct worker *worker)
{
	return atomic_load(&worker->answered) == atomic_load(&worker->asked);
}

/* ---- rounds ---- */

static void give_up(struct worker *worker, struct queue *queue, int err)
{
	epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, queue->fd, NULL);
	__atomic_store_n(&queue->last_error, -err, __ATOMIC_RELAXED);
	__atomic_store_n(&queue->broken, true, __ATOMIC_RELAXED);
	event_ring_poke(queue->events); /* its namespace is degraded now */
}

static void note_backlog(struct queue *queue, unsigned int received)
{
	/* Of the receive, where there was any. */
	const uint64_t now_ns = queue->in_force.state.now_ns;
	bool flooded;

	if (queue->drained || received == 0)
		queue->backlog_turns = 0;
	else if (queue->backlog_turns++ == 0)
		queue->backlog_at_ns = now_ns;
	else if (queue->backlog_turns > FLOOD_TURNS && now_ns - queue->backlog_at_ns >= FLOOD_NS)
		queue->flooded_at_ns = now_ns;
	flooded = queue->flooded_at_ns && now_ns - queue->flooded_at_ns < CALM_NS;
	if (flooded == queue->flooded)
		return;
	__atomic_store_n(&queue->flooded, flooded, __ATOMIC_RELAXED);
	event_ring_poke(queue->events);
}

static void note_unfinished(struct worker *worker, const struct queue *queue)
{
	worker->unfinished += queue_is_unfinished(queue);
	worker->requeueing += queue->requeueing;
}

/*
 * A queue that was read empty has either had its turn since `listed_ns` or was not ready then.
 * Return: packets received.
 */
static unsigned int give_turn(struct worker *worker, struct queue *queue)
{
	int count;

	if (queue->drained)
		queue->empty_at_ns = worker->listed_ns;
	count = queue_turn(queue, worker->buffers);
	note_unfinished(worker, queue);
	if (count < 0) {
		give_up(worker, queue, count);
		return 0;
	}
	note_backlog(queue, (unsigned int)count);
	return (unsigned int)count;
}

/* Nothing may arrive at a queue whose senders wait for verdicts that are unsent. */
static void finish_queues(struct worker *worker)
{
	worker->unfinished = worker->requeueing = 0;
	for (struct queue *queue = worker->queues; queue; queue = queue->worker_next) {
		if (queue_is_unfinished(queue) && !queue->broken)
			give_turn(worker, queue);
	}
}

static int wait_ms(const struct worker *worker)
{
	if (worker->requeueing)
		return 0;
	return worker->unfinished ? RETRY_MS : -1;
}

static void run_round(struct worker *worker)
{
	struct epoll_event ready[ROUND_QUEUES];
	unsigned int packets = 0;
	bool called = false, full = false;
	uint64_t pause_ns;
	int count;

	count = epoll_wait(worker->epoll_fd, ready, ROUND_QUEUES, wait_ms(worker));
	if (worker->unfinished)
		finish_queues(worker);
	for (int i = 0; i < count; i++) {
		struct queue *queue = ready[i].data.ptr;

		if (!queue) {
			called = true;
			continue;
		}
		packets += give_turn(worker, queue);
		full |= !queue->drained;
	}
	if (count >= 0 && count < ROUND_QUEUES)
		worker->listed_ns = worker->round_end_ns;
	worker->round_end_ns = clock_ns(CLOCK_MONOTONIC);
	pause_ns = pause_after_round(&worker->pause, packets, full, worker->round_end_ns);
	if (worker_sched_after_round(&worker->sched, packets, worker->round_end_ns))
		worker_cpu_hold(&worker->cpu, worker->index, worker->sched.wants_cpu);
	if (called)
		run_calls(worker);
	else if (pause_ns)
		sleep_ns(pause_ns);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	char name[16];

	snprintf(name, sizeof(name), "nsgate/%s%u", worker->for_floods ? "flood" : "",
		 worker->index);
	prctl(PR_SET_NAME, name);
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
	worker_sched_open(&worker->sched, worker->for_floods);
	worker->pause.window_start_ns = clock_ns(CLOCK_MONOTONIC);
	while (!worker->stopping)
		run_round(worker);
	worker_sched_close(&worker->sched);
	return NULL;
}

/* ---- life of a worker ---- */

static void worker_free(struct worker *worker)
{
	event_ring_free(worker->events);
	queue_buffers_free(worker->buffers);
	if (worker->wake_fd >= 0)
		close(worker->wake_fd);
	if (worker->epoll_fd >= 0)
		close(worker->epoll_fd);
	pthread_cond_destroy(&worker->done);
	pthread_mutex_destroy(&worker->lock);
	free(worker);
}

/* Return: 0 or -errno. */
static int worker_open(struct worker *worker)
{
	struct epoll_event wake = {.events = EPOLLIN, .data.ptr = NULL};

	worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->epoll_fd < 0 || worker->wake_fd < 0 ||
	    epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->wake_fd, &wake) < 0)
		return -errno;
	worker->buffers = queue_buffers_new();
	worker->events = event_ring_new();
	return worker->buffers && worker->events ? 0 : -ENOMEM;
}

/* Signals are the control thread's: a new thread inherits the mask of its maker. */
static int start_thread(struct worker *worker)
{
	pthread_attr_t with_stack;
	sigset_t all, before;
	int err = pthread_attr_init(&with_stack);

	if (err)
		return -err;
	pthread_attr_setstacksize(&with_stack, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&worker->thread, &with_stack, worker_main, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&with_stack);
	return -err;
}

static void do_nothing(void *arg)
{
	(void)arg;
}

struct worker *worker_start(unsigned int index, bool for_floods)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	int err;

	if (!worker)
		return NULL;
	worker->index = index;
	worker->for_floods = for_floods;
	worker->epoll_fd = worker->wake_fd = -1;
	worker->last_call = &worker->first_call;
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->done, NULL);
	err = worker_open(worker);
	if (!err)
		err = start_thread(worker);
	if (!err) {
		/* What it does at first (its name, its timers) a filter to come would forbid. */
		worker_call(worker, do_nothing, NULL);
		return worker;
	}
	worker_free(worker);
	errno = -err;
	return NULL;
}

static void stop_call(void *arg)
{
	struct worker *worker = arg;

	worker->stopping = true;
}

void worker_stop(struct worker *worker)
{
	if (!worker)
		return;
	worker_call(worker, stop_call, worker);
	pthread_join(worker->thread, NULL);
	worker_free(worker);
}

unsigned int worker_queue_count(const struct worker *worker)
{
	return worker->queue_count;
}

struct event_ring *worker_events(struct worker *worker)
{
	return worker->events;
}

/* ---- queues of a worker ---- */

struct queue_call {
	struct worker *worker;
	struct queue *queue;
	bool found;
};

/* In the worker. Return: 0 or -errno. */
static int take_in(struct worker *worker, struct queue *queue)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = queue};

	if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, queue->fd, &event) < 0)
		return -errno;
	queue->events = worker->events;
	queue->worker_next = worker->queues;
	worker->queues = queue;
	note_unfinished(worker, queue);
	return 0;
}

static void add_call(void *arg)
{
	struct worker_adding *adding = arg;
	struct worker *worker = adding->worker;
	struct queue *queue = adding->queue;

	queue->events = worker->events;
	adding->result = queue_takeover(queue);
	if (!adding->result)
		adding->result = take_in(worker, queue);
}

/* It counts from here on, so that the next one finds another worker. */
void worker_add_begin(struct worker *worker, struct queue *queue, struct worker_adding *adding)
{
	*adding = (struct worker_adding){
		.call = {.fn = add_call, .arg = adding},
		.worker = worker,
		.queue = queue,
	};
	worker->queue_count++;
	post_call(worker, &adding->call);
}

int worker_add_end(struct worker_adding *adding)
{
	await_call(adding->worker, &adding->call);
	if (adding->result)
		adding->worker->queue_count--;
	return adding->result;
}

static void remove_call(void *arg)
{
	struct queue_call *call = arg;
	struct worker *worker = call->worker;
	struct queue **at = &worker->queues;

	while (*at && *at != call->queue)
		at = &(*at)->worker_next;
	if (!*at)
		return;
	call->found = true;
	*at = call->queue->worker_next;
	call->queue->events = NULL;
	if (!call->queue->broken)
		epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, call->queue->fd, NULL);
}

void worker_remove(struct worker *worker, struct queue *queue)
{
	struct queue_call call = {.worker = worker, .queue = queue};

	worker_call(worker, remove_call, &call);
	worker->queue_count -= call.found;
}

struct move_call {
	struct worker *worker;
	struct queue *queue;
	int result;
};

static void move_in_call(void *arg)
{
	struct move_call *call = arg;

	/* When this worker's queues were last found empty says nothing of this one. */
	call->queue->drained = false;
	call->queue->backlog_turns = 0;
	call->result = take_in(call->worker, call->queue);
}

static int move_in(struct worker *worker, struct queue *queue)
{
	struct move_call call = {.worker = worker, .queue = queue};

	worker_call(worker, move_in_call, &call);
	worker->queue_count += call.result == 0;
	return call.result;
}

struct worker *worker_move(struct worker *from, struct worker *to, struct queue *queue)
{
	const unsigned int count = from->queue_count;

	worker_remove(from, queue);
	if (from->queue_count == count || queue->broken)
		return from; /* nobody serves it */
	if (move_in(to, queue) == 0)
		return to;
	/* No memory for another watch of it there; here there has just been one. */
	if (move_in(from, queue) < 0)
		__atomic_store_n(&queue->broken, true, __ATOMIC_RELAXED);
	return from;
}

/* -ENOENT from the kernel's list: the namespace or the queue in it is gone, nothing waits. */
static int wait_empty(const struct queue *queue, int timeout_ms)
{
	const uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + (uint64_t)timeout_ms * 1000000U;
	struct queue_kernel kernel;

	for (;;) {
		const int err =
			queue_kernel_read(queue->proc_fd, queue->number, queue->stride, &kernel);

		if (err == -ENOENT || (!err && kernel.pending == 0))
			return 0;
		if (err)
			return err;
		if (clock_ns(CLOCK_MONOTONIC) >= deadline)
			return -ETIMEDOUT;
		sleep_ns(DRAIN_POLL_NS);
	}
}

int worker_drain(struct worker *worker, struct queue *queue, int timeout_ms)
{
	const int err = wait_empty(queue, timeout_ms);

	worker_remove(worker, queue);
	return err;
}
