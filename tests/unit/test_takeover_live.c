/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Agents that die and agents that take over, on a queue that real packets pass. See live.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "agent/queue/internal.h"
#include "live.h"

#define OUT NSGATE_HOOK_BIT(NSGATE_HOOK_OUT)
#define WAITING 3000
#define PORTION 256
#define KILLS 25
#define ROOM 2048  /* packets waiting: the queue and its socket's buffer hold more */
#define BURSTS 800 /* sent while agents die; one keeps an agent busy about as long as the gap */
#define BURST 100
#define GAP_NS 300000
#define SENT (BURSTS * BURST)
#define TURN 64		 /* packets that a kill may leave counted twice */
#define LIFE_NS 10000000 /* of an agent */

#define POLICY "{\"version\":1,\"default\":\"accept\",\"rules\":[]}"

static void sleep_ns(long ns)
{
	const struct timespec time = {.tv_nsec = ns};

	nanosleep(&time, NULL);
}

static void assert_each_once(const struct live *live, uint8_t *seen, uint32_t count)
{
	assert_int_equal(live_await(live, seen, count, count), count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(seen[i], 1);
}

static void assert_books_balance(const struct live *live)
{
	const struct queue_kernel kernel = live_kernel(live);

	assert_int_equal(kernel.dropped, 0);
	assert_int_equal(kernel.user_dropped, 0);
	assert_int_equal(kernel.id_sequence, live_decided(live) + live->queue.shm->readmitted);
}

static void a_fresh_queue_is_left_alone(void **state)
{
	uint8_t seen[10] = {0};
	struct live live;

	(void)state;
	live_open(&live);
	assert_int_equal(queue_takeover(&live.queue), 0);
	assert_int_equal(live.queue.shm->requeueing, 0);
	assert_int_equal(live_kernel(&live).id_sequence, 0);
	live_bind(&live, POLICY);
	live_rules(&live, OUT, 0, 1);
	live_send_numbers(&live, 0, 10);
	live_drain(&live);
	assert_each_once(&live, seen, 10);
	assert_int_equal(live.queue.shm->readmitted, 0);
	assert_books_balance(&live);
	live_close(&live);
}

/* The predecessor read `messages` of WAITING packets and died: all of them go round, read or not.
 */
static void take_over_after(int messages)
{
	uint8_t seen[WAITING] = {0}, byte;
	struct live live;

	live_open(&live);
	live_bind(&live, POLICY);
	live_rules(&live, OUT, 0, 1);
	live_send_numbers(&live, 0, WAITING);
	for (int i = 0; i < messages; i++)
		assert_true(recv(live.queue.fd, &byte, 1, MSG_DONTWAIT) > 0);
	assert_int_equal(queue_takeover(&live.queue), 0);
	live_drain(&live);
	assert_each_once(&live, seen, WAITING);
	assert_int_equal(live.queue.shm->readmitted, WAITING);
	assert_int_equal(live_kernel(&live).id_sequence, 2 * WAITING);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, WAITING);
	assert_books_balance(&live);
	live_close(&live);
}

static void what_the_dead_had_read_is_not_lost(void **state)
{
	(void)state;
	take_over_after(64);
}

static void what_nobody_had_read_is_judged_once(void **state)
{
	(void)state;
	take_over_after(0);
}

static void everything_read_goes_round_in_portions(void **state)
{
	(void)state;
	take_over_after(WAITING);
}

/* Others of the same worker have their turns in between, and so have packets that come meanwhile.
 */
static void a_turn_requeues_no_more_than_a_portion(void **state)
{
	uint8_t seen[WAITING + 1] = {0}, byte;
	unsigned int turns = 0;
	struct live live;

	(void)state;
	live_open(&live);
	live_bind(&live, POLICY);
	live_rules(&live, OUT, 0, 1);
	live_send_numbers(&live, 0, WAITING);
	while (recv(live.queue.fd, &byte, 1, MSG_DONTWAIT) > 0)
		;
	assert_int_equal(queue_takeover(&live.queue), 0);
	assert_int_equal(live_kernel(&live).id_sequence, WAITING);
	live_send_numbers(&live, WAITING, 1);
	for (; live.queue.requeueing; turns++) {
		const uint32_t before = live_kernel(&live).id_sequence;

		live_need(queue_turn(&live.queue, live.buffers) >= 0, "turn");
		assert_in_range(live_kernel(&live).id_sequence - before, 0, PORTION);
	}
	assert_in_range(turns, WAITING / PORTION, WAITING);
	live_drain(&live);
	assert_each_once(&live, seen, WAITING + 1);
	assert_int_equal(live.queue.shm->requeueing, 0);
	assert_books_balance(&live);
	live_close(&live);
}

/* ---- several numbers ---- */

#define EACH (WAITING / 3)

/*
 * Ids of one number mean nothing by another: what waits by each goes round, and the messages of
 * before are told from those of after by each one's own last id.
 */
static void take_over_several(int messages)
{
	static const enum nsgate_flow flows[] = {NSGATE_FLOW_NEW, NSGATE_FLOW_KNOWN,
						 NSGATE_FLOW_REPLY_KNOWN};
	uint8_t seen[2 * EACH] = {0}, answers[EACH] = {0}, byte;
	struct queue_lines before, after;
	struct live live;
	int known;

	live_open(&live);
	live_bind(&live, POLICY);
	live_rules(&live, OUT, 0, 1);
	known = live_known_flow(&live);
	live_send_by_three_numbers(&live, known, EACH);
	before = live_lines(&live);
	for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++)
		assert_int_equal(before.pending[flows[i]], EACH);
	assert_int_equal(before.sum.pending, 3 * EACH);
	for (int i = 0; i < messages; i++)
		assert_true(recv(live.queue.fd, &byte, 1, MSG_DONTWAIT) > 0);
	assert_int_equal(queue_takeover(&live.queue), 0);
	live_drain(&live);
	after = live_lines(&live);
	for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++)
		assert_int_equal(after.id_sequence[flows[i]] - before.id_sequence[flows[i]], EACH);
	assert_each_once(&live, seen, 2 * EACH);
	assert_int_equal(live_receive_at(known, answers, EACH), EACH);
	for (uint32_t i = 0; i < EACH; i++)
		assert_int_equal(answers[i], 1);
	assert_int_equal(live.queue.shm->readmitted, 3 * EACH);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, 2 + 3 * EACH);
	assert_int_equal(live.queue.shm->requeueing, 0);
	assert_books_balance(&live);
	close(known);
	live_close(&live);
}

static void every_number_is_taken_over_by_itself(void **state)
{
	(void)state;
	take_over_several(0);
	take_over_several(100);
	take_over_several(3 * EACH);
}

/* ---- dying there ---- */

/* An agent that has read everything takes over from itself and dies there. */
static void die_in_takeover(struct live *live, uint32_t after)
{
	const uint32_t before = live_kernel(live).id_sequence;
	const pid_t pid = fork();
	uint8_t byte;
	int status;

	live_need(pid >= 0, "fork");
	if (pid == 0) {
		while (recv(live->queue.fd, &byte, 1, MSG_DONTWAIT) > 0)
			;
		if (queue_takeover(&live->queue) < 0)
			_exit(1);
		while (live->queue.requeueing)
			queue_requeue_portion(&live->queue, live->buffers);
		pause();
	}
	while (live_kernel(live).id_sequence - before < after)
		;
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

/* Whatever each of them had sent round and not counted, the next one counts. */
static void what_the_dead_sent_round_is_settled(void **state)
{
	uint8_t seen[WAITING] = {0};
	struct live live;

	(void)state;
	live_open(&live);
	live_bind(&live, POLICY);
	live_rules(&live, OUT, 0, 1);
	live_send_numbers(&live, 0, WAITING);
	for (uint32_t after = 1; after <= WAITING; after += WAITING / 15)
		die_in_takeover(&live, after);
	assert_int_equal(queue_takeover(&live.queue), 0);
	live_drain(&live);
	assert_each_once(&live, seen, WAITING);
	assert_true(live.queue.shm->readmitted > WAITING);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, WAITING);
	assert_int_equal(live.queue.shm->requeueing, 0);
	assert_books_balance(&live);
	live_close(&live);
}

/* ---- killed again and again ---- */

static void serve_for_ever(struct live *live)
{
	struct pollfd fd = {.fd = live->queue.fd, .events = POLLIN};

	if (queue_takeover(&live->queue) < 0)
		_exit(1);
	while (poll(&fd, 1, -1) >= 0) {
		if (queue_turn(&live->queue, live->buffers) < 0)
			_exit(1);
	}
	_exit(1);
}

static pid_t start_agent(struct live *live)
{
	const pid_t pid = fork();

	if (pid == 0)
		serve_for_ever(live);
	live_need(pid > 0, "fork");
	return pid;
}

static void kill_agent(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

/* As fast as the queue has room: what the kernel drops for want of it is another matter. */
static void *send_bursts(void *arg)
{
	const struct live *live = arg;

	for (uint32_t i = 0; i < BURSTS; i++) {
		while (live_kernel(live).pending > ROOM)
			sleep_ns(GAP_NS);
		live_send_numbers(live, i * BURST, BURST);
		sleep_ns(GAP_NS);
	}
	return NULL;
}

static void kills_under_load_lose_nothing(void **state)
{
	static uint8_t seen[SENT];
	pthread_t sender;
	struct live live;

	(void)state;
	live_open(&live);
	live_bind(&live, POLICY);
	live_rules(&live, OUT, 0, 1);
	assert_int_equal(pthread_create(&sender, NULL, send_bursts, &live), 0);
	for (int i = 0; i < KILLS; i++) {
		const pid_t agent = start_agent(&live);

		sleep_ns(LIFE_NS + i * 37000);
		kill_agent(agent);
	}
	assert_int_equal(queue_takeover(&live.queue), 0);
	for (bool sending = true; sending;) {
		const struct timespec now = {0};

		sending = pthread_timedjoin_np(sender, NULL, &now) != 0;
		live_need(queue_turn(&live.queue, live.buffers) >= 0, "turn");
	}
	live_drain(&live);
	assert_each_once(&live, seen, SENT);
	printf("%d kills: %u of %u packets went round again\n", KILLS,
	       (unsigned int)live.queue.shm->readmitted, (unsigned int)SENT);
	assert_int_equal(live_kernel(&live).dropped, 0);
	assert_int_equal(live_kernel(&live).user_dropped, 0);
	assert_in_range(live_decided(&live) + live.queue.shm->readmitted -
				live_kernel(&live).id_sequence,
			0, KILLS * TURN);
	live_close(&live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_queue_is_left_alone),
		cmocka_unit_test(what_the_dead_had_read_is_not_lost),
		cmocka_unit_test(what_nobody_had_read_is_judged_once),
		cmocka_unit_test(everything_read_goes_round_in_portions),
		cmocka_unit_test(a_turn_requeues_no_more_than_a_portion),
		cmocka_unit_test(every_number_is_taken_over_by_itself),
		cmocka_unit_test(what_the_dead_sent_round_is_settled),
		cmocka_unit_test(kills_under_load_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
