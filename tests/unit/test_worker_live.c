/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Workers on queues that real packets pass. See live.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <time.h>

#include "agent/event.h"
#include "agent/worker/worker.h"
#include "live.h"

#define OUT NSGATE_HOOK_BIT(NSGATE_HOOK_OUT)
#define ACCEPT_ALL "{\"version\":1,\"default\":\"accept\",\"rules\":[]}"
#define DEADLINE_MS 10000

struct flood {
	const struct live *live;
	pthread_t thread;
	atomic_bool stop;
	atomic_uint sent;
};

/* At most this much ahead of the agent, so that no buffer on the way overflows. */
#define FLOOD_AHEAD 2000

static void *flood(void *arg)
{
	struct flood *f = arg;

	while (!atomic_load(&f->stop)) {
		const unsigned int sent = atomic_load(&f->sent);

		if (sent % 500 == 0 && live_kernel(f->live).pending > FLOOD_AHEAD)
			continue;
		live_send_numbers(f->live, sent, 1);
		atomic_store(&f->sent, sent + 1);
	}
	return NULL;
}

static void start_flood(struct flood *f, const struct live *live)
{
	f->live = live;
	atomic_init(&f->stop, false);
	atomic_init(&f->sent, 0);
	assert_int_equal(pthread_create(&f->thread, NULL, flood, f), 0);
}

static void stop_flood(struct flood *f)
{
	atomic_store(&f->stop, true);
	pthread_join(f->thread, NULL);
}

/* ---- calls ---- */

struct counted_call {
	struct worker *worker;
	unsigned int calls; /* written in the worker only */
};

static void count_call(void *arg)
{
	struct counted_call *counted = arg;

	counted->calls++;
}

static void *call_often(void *arg)
{
	struct counted_call *counted = arg;

	for (int i = 0; i < 1000; i++)
		worker_call(counted->worker, count_call, counted);
	return NULL;
}

static void read_name(void *arg)
{
	prctl(PR_GET_NAME, arg);
}

static void calls_run_one_by_one_in_the_worker(void **state)
{
	struct counted_call counted = {.worker = worker_start(7, false)};
	pthread_t callers[3];
	char name[16] = "";

	(void)state;
	assert_non_null(counted.worker);
	worker_call(counted.worker, read_name, name);
	assert_string_equal(name, "nsgate/7");
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&callers[i], NULL, call_often, &counted), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(callers[i], NULL);
	assert_int_equal(counted.calls, 3000);
	worker_stop(counted.worker);
	worker_stop(NULL);
}

/* ---- queues ---- */

static int add(struct worker *worker, struct queue *queue)
{
	struct worker_adding adding;

	worker_add_begin(worker, queue, &adding);
	return worker_add_end(&adding);
}

/* Everything that leaves is queued, and accepted by `worker`. */
static void serve_all(struct worker *worker, struct live *live)
{
	live_open(live);
	live_bind(live, ACCEPT_ALL);
	live_rules(live, OUT, 0, 1);
	assert_int_equal(add(worker, &live->queue), 0);
}

static void serves_drains_and_forgets(void **state)
{
	static uint8_t seen[5000];
	struct worker *worker = worker_start(0, false);
	struct live live;

	(void)state;
	serve_all(worker, &live);
	assert_int_equal(worker_queue_count(worker), 1);
	live_send_numbers(&live, 0, 5000);
	assert_int_equal(worker_drain(worker, &live.queue, DEADLINE_MS), 0);
	assert_int_equal(worker_queue_count(worker), 0);
	assert_int_equal(live_await(&live, seen, 5000, 5000), 5000);
	assert_int_equal(live_kernel(&live).pending, 0);
	worker_remove(worker, &live.queue); /* once more does no harm */
	worker_stop(worker);
	live_close(&live);
}

static void a_drain_that_cannot_end_times_out(void **state)
{
	struct worker *worker = worker_start(0, false);
	struct live live;

	(void)state;
	live_open(&live);
	live_rules(&live, OUT, 0, 1);
	live_send_numbers(&live, 0, 3);
	assert_int_equal(worker_drain(worker, &live.queue, 20), -ETIMEDOUT);
	worker_stop(worker);
	live_close(&live);
}

/* ---- policy changes under fire ---- */

struct bind_call {
	struct queue *queue;
	struct queue_binding *binding;
};

static void bind_in_worker(void *arg)
{
	const struct bind_call *call = arg;

	queue_bind(call->queue, call->binding);
}

static void swap_policy(struct worker *worker, struct live *live, int i)
{
	/* The second one copies whole packets one by one, the first neither. */
	struct queue_binding binding = live_binding(
		i % 2 ? "{\"version\":1,\"default\":\"drop\",\"rules\":["
			"{\"name\":\"first\",\"action\":\"continue\"},"
			"{\"name\":\"all\",\"action\":\"accept\",\"set\":{\"ttl\":9}}]}"
		      : "{\"version\":1,\"default\":\"drop\",\"rules\":["
			"{\"name\":\"all\",\"action\":\"accept\"}]}",
		1);
	struct bind_call call = {.queue = &live->queue, .binding = &binding};

	worker_call(worker, bind_in_worker, &call);
	live_unbind(&binding);
}

static void policies_change_under_fire(void **state)
{
	struct worker *worker = worker_start(0, false);
	static uint8_t seen[1 << 20];
	struct flood fire;
	struct live live;
	uint32_t sent, received;

	(void)state;
	live_open(&live);
	swap_policy(worker, &live, 0);
	live_rules(&live, OUT, 0, 1);
	assert_int_equal(add(worker, &live.queue), 0);
	start_flood(&fire, &live);
	received = 0;
	for (int i = 0; i < 300; i++) {
		swap_policy(worker, &live, i);
		received += live_receive(&live, seen, sizeof(seen));
	}
	stop_flood(&fire);
	swap_policy(worker, &live, 0);
	assert_int_equal(worker_drain(worker, &live.queue, DEADLINE_MS), 0);
	sent = atomic_load(&fire.sent);
	received += live_await(&live, seen, sizeof(seen), sent - received);
	printf("300 policy changes: %u packets, %u went round again\n", sent,
	       (unsigned int)live.queue.shm->readmitted);
	assert_int_equal(received, sent);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, sent);
	assert_int_equal(shm_rules(live.queue.shm)[0].count.packets, sent);
	assert_int_equal(live.queue.shm->count[NSGATE_FIGURE_malformed], 0);
	worker_stop(worker);
	live_close(&live);
}

/* ---- fairness ---- */

static bool arrives(const struct live *live, int timeout_ms)
{
	struct pollfd fd = {.fd = live->receiver, .events = POLLIN};
	uint32_t number;

	return poll(&fd, 1, timeout_ms) == 1 &&
	       recv(live->receiver, &number, sizeof(number), MSG_DONTWAIT) > 0;
}

static void a_flood_next_door_delays_nobody_for_long(void **state)
{
	struct worker *worker = worker_start(0, false);
	struct live noisy, quiet;
	static uint8_t seen[1];
	struct flood noise;

	(void)state;
	live_open(&noisy);
	live_open(&quiet);
	live_bind(&noisy, ACCEPT_ALL);
	live_bind(&quiet, ACCEPT_ALL);
	live_rules(&noisy, OUT, 0, 1);
	live_rules(&quiet, OUT, 0, 1);
	assert_int_equal(add(worker, &noisy.queue), 0);
	assert_int_equal(add(worker, &quiet.queue), 0);
	start_flood(&noise, &noisy);
	for (uint32_t i = 0; i < 300; i++) {
		live_send_numbers(&quiet, i, 1);
		assert_true(arrives(&quiet, 1000));
		live_receive(&noisy, seen, 0);
	}
	stop_flood(&noise);
	worker_remove(worker, &noisy.queue);
	worker_remove(worker, &quiet.queue);
	worker_stop(worker);
	live_close(&noisy);
	live_close(&quiet);
}

#define BURST 300 /* several turns */

/* In the worker, which so comes back after a while and finds it. */
static void burst_call(void *arg)
{
	const struct timespec while_away = {.tv_nsec = 30000000};

	nanosleep(&while_away, NULL);
	live_send_numbers(arg, 0, BURST);
}

static void a_burst_is_no_flood(void **state)
{
	struct worker *worker = worker_start(0, false);
	static uint8_t seen[BURST];
	struct live live;

	(void)state;
	serve_all(worker, &live);
	worker_call(worker, burst_call, &live);
	assert_int_equal(live_await(&live, seen, sizeof(seen), BURST), BURST);
	assert_int_equal(worker_drain(worker, &live.queue, DEADLINE_MS), 0);
	assert_false(live.queue.flooded);
	worker_stop(worker);
	live_close(&live);
}

static void moves_between_workers_under_fire(void **state)
{
	struct worker *workers[] = {worker_start(0, false), worker_start(0, true)};
	static uint8_t seen[1 << 20];
	uint32_t sent, received = 0;
	unsigned int at = 0;
	struct flood fire;
	struct live live;

	(void)state;
	serve_all(workers[0], &live);
	start_flood(&fire, &live);
	for (int i = 0; i < 200 || atomic_load(&fire.sent) < 1000; i++) {
		received += live_receive(&live, seen, sizeof(seen));
		assert_ptr_equal(worker_move(workers[at], workers[!at], &live.queue), workers[!at]);
		assert_int_equal(worker_queue_count(workers[at]), 0);
		at = !at;
		assert_int_equal(worker_queue_count(workers[at]), 1);
	}
	stop_flood(&fire);
	assert_int_equal(worker_drain(workers[at], &live.queue, DEADLINE_MS), 0);
	sent = atomic_load(&fire.sent);
	received += live_await(&live, seen, sizeof(seen), sent - received);
	assert_int_equal(received, sent);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, sent);
	for (int i = 0; i < 2; i++)
		worker_stop(workers[i]);
	live_close(&live);
}

/* ---- events ---- */

static void logged_packets_become_events(void **state)
{
	struct worker *worker = worker_start(0, false);
	struct pollfd fd = {.fd = event_ring_fd(worker_events(worker)), .events = POLLIN};
	struct event event;
	struct live live;

	(void)state;
	live_open(&live);
	live_bind(&live, "{\"version\":1,\"rules\":[{\"name\":\"no\",\"action\":\"drop\","
			 "\"log\":true,\"dport\":[9]}]}");
	live_rules(&live, OUT, 0, 1);
	assert_int_equal(add(worker, &live.queue), 0);
	live_need(live_send(&live, 9, "x", 1), "send");
	assert_int_equal(poll(&fd, 1, DEADLINE_MS), 1);
	assert_true(event_ring_get(worker_events(worker), &event));
	assert_int_equal(event.cookie, LIVE_COOKIE);
	assert_int_equal(event.verdict, POLICY_VERDICT_DROP);
	assert_int_equal(event.rule, 0);
	assert_int_equal(event.generation, 1);
	assert_int_equal(event.family, AF_INET);
	assert_int_equal(event.protocol, IPPROTO_UDP);
	assert_true(event.has_ports);
	assert_int_equal(event.dport, 9);
	assert_int_equal(event.length, 29);
	assert_true(event.time_ns / 1000000000 > 1700000000);
	worker_remove(worker, &live.queue);
	worker_stop(worker);
	live_close(&live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_run_one_by_one_in_the_worker),
		cmocka_unit_test(serves_drains_and_forgets),
		cmocka_unit_test(a_drain_that_cannot_end_times_out),
		cmocka_unit_test(policies_change_under_fire),
		cmocka_unit_test(a_flood_next_door_delays_nobody_for_long),
		cmocka_unit_test(a_burst_is_no_flood),
		cmocka_unit_test(moves_between_workers_under_fire),
		cmocka_unit_test(logged_packets_become_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
