/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pause between rounds, with senders of both kinds that live in a time of their own. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/worker/pause.h"

#define TURN_FULL 64		/* packets of a turn that may have left some */
#define MS UINT64_C(1000000)	/* nanoseconds */
#define ROUND_NS UINT64_C(3000) /* what a round takes beside its packets */
#define PACKET_NS UINT64_C(1000)

struct world {
	struct pause pause;
	uint64_t now_ns;
	uint64_t slept_ns, packets, longest_ns; /* since forget() */
};

static void forget(struct world *w)
{
	w->slept_ns = w->packets = w->longest_ns = 0;
}

static void round_over(struct world *w, uint64_t packets)
{
	uint64_t sleep_ns;

	w->now_ns += ROUND_NS + packets * PACKET_NS;
	sleep_ns = pause_after_round(&w->pause, (unsigned int)packets, packets >= TURN_FULL,
				     w->now_ns);
	w->packets += packets;
	w->slept_ns += sleep_ns;
	w->now_ns += sleep_ns;
	if (sleep_ns > w->longest_ns)
		w->longest_ns = sleep_ns;
}

/* Packets come by the clock, `per_ms` of them, in bursts of `burst`. */
static void run_clocked(struct world *w, uint64_t per_ms, uint64_t burst, uint64_t duration_ns)
{
	const uint64_t start = w->now_ns, gap_ns = MS * burst / per_ms;
	uint64_t taken = 0;

	while (w->now_ns - start < duration_ns) {
		const uint64_t come = (w->now_ns - start) / gap_ns * burst;
		const uint64_t waiting = come - taken;

		if (waiting == 0) { /* epoll sleeps until the next burst */
			w->now_ns = start + (come / burst + 1) * gap_ns;
			continue;
		}
		taken += waiting < TURN_FULL ? waiting : TURN_FULL;
		round_over(w, waiting < TURN_FULL ? waiting : TURN_FULL);
	}
}

/* `clients` of which each sends its next packet `think_ns` after the verdict on its last one. */
static void run_waiting(struct world *w, uint64_t clients, uint64_t think_ns, uint64_t duration_ns)
{
	const uint64_t start = w->now_ns;

	while (w->now_ns - start < duration_ns) {
		const uint64_t before = w->slept_ns;

		round_over(w, clients);
		/* All have sent again by the end of a pause that is longer than they think. */
		if (w->slept_ns - before < think_ns)
			w->now_ns += think_ns - (w->slept_ns - before);
	}
}

static void test_a_quiet_worker_never_pauses(void **state)
{
	struct world w = {.now_ns = MS};

	(void)state;
	run_clocked(&w, 1, 1, 500 * MS);
	run_clocked(&w, 40, 1, 500 * MS); /* 20,000 requests and answers a second */
	assert_int_equal(w.slept_ns, 0);
}

static void test_a_flood_gets_the_longest_pause_soon(void **state)
{
	struct world w = {.now_ns = MS};

	(void)state;
	run_clocked(&w, 300, 1, 50 * MS);
	forget(&w);
	run_clocked(&w, 300, 1, 20 * MS);
	assert_int_equal(w.longest_ns, 200000);
	assert_true(w.packets * 10 > UINT64_C(20) * 300 * 9);
}

/* Whose sender has to wake the worker, and so gets to send a little less. */
static void test_a_flood_that_pauses_slow_down_a_little_is_still_one(void **state)
{
	struct world w = {.now_ns = MS};

	(void)state;
	for (int i = 0; i < 20; i++)
		run_clocked(&w, w.pause.level ? 260 : 300, 1, 4 * MS);
	forget(&w);
	for (int i = 0; i < 20; i++)
		run_clocked(&w, w.pause.level ? 260 : 300, 1, 4 * MS);
	assert_int_equal(w.longest_ns, 200000);
}

static void test_no_pause_while_a_queue_may_have_more(void **state)
{
	struct world w = {.now_ns = MS};

	(void)state;
	for (int i = 0; i < 10000; i++)
		round_over(&w, TURN_FULL);
	assert_int_equal(w.slept_ns, 0);
}

static void test_a_flood_that_ends_is_forgotten(void **state)
{
	struct world w = {.now_ns = MS};

	(void)state;
	run_clocked(&w, 300, 10, 100 * MS);
	run_clocked(&w, 10, 1, 10 * MS);
	forget(&w);
	run_clocked(&w, 10, 1, 500 * MS);
	assert_int_equal(w.slept_ns, 0);
}

/* What clients get that wait for verdicts, of what they would get without any pause. */
static void check_waiting_clients(struct world *w, uint64_t clients, uint64_t think_ns)
{
	const uint64_t duration = 2000 * MS;
	const uint64_t cycle_ns = ROUND_NS + clients * PACKET_NS + think_ns;

	forget(w);
	run_waiting(w, clients, think_ns, duration);
	assert_true(w->packets * 100 > duration / cycle_ns * clients * 95);
}

static void test_who_waits_for_verdicts_is_not_held_up(void **state)
{
	struct world w = {.now_ns = MS};

	(void)state;
	check_waiting_clients(&w, 4, 10000);
	check_waiting_clients(&w, 16, 10000);
	check_waiting_clients(&w, 32, 20000);
}

static void test_a_long_pause_is_given_up_where_it_begins_to_harm(void **state)
{
	struct world w = {.now_ns = MS};

	(void)state;
	run_clocked(&w, 300, 1, 500 * MS);
	run_waiting(&w, 32, 20000, 300 * MS);
	check_waiting_clients(&w, 32, 20000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_quiet_worker_never_pauses),
		cmocka_unit_test(test_a_flood_gets_the_longest_pause_soon),
		cmocka_unit_test(test_a_flood_that_pauses_slow_down_a_little_is_still_one),
		cmocka_unit_test(test_no_pause_while_a_queue_may_have_more),
		cmocka_unit_test(test_a_flood_that_ends_is_forgotten),
		cmocka_unit_test(test_who_waits_for_verdicts_is_not_held_up),
		cmocka_unit_test(test_a_long_pause_is_given_up_where_it_begins_to_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
