/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring of events: in order, none twice, losses counted, and no wake-up missed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>

#include "agent/event.h"

#define BURST 200000
#define WAIT_MS 5000

static bool is_readable(const struct event_ring *ring, int timeout_ms)
{
	struct pollfd fd = {.fd = event_ring_fd(ring), .events = POLLIN};

	return poll(&fd, 1, timeout_ms) == 1;
}

static void what_is_put_is_got_in_order(void **state)
{
	struct event_ring *ring = event_ring_new();
	struct event event = {.rule = 3}, got;

	(void)state;
	assert_non_null(ring);
	assert_false(event_ring_get(ring, &got));
	assert_false(is_readable(ring, 0));
	for (uint32_t i = 0; i < 3; i++) {
		event.length = i;
		assert_true(event_ring_put(ring, &event));
	}
	assert_true(is_readable(ring, 0));
	for (uint32_t i = 0; i < 3; i++) {
		assert_true(event_ring_get(ring, &got));
		assert_int_equal(got.length, i);
		assert_int_equal(got.rule, 3);
	}
	assert_false(event_ring_get(ring, &got));
	assert_false(is_readable(ring, 0));
	event_ring_put(ring, &event);
	assert_true(is_readable(ring, 0));
	event_ring_free(ring);
	event_ring_free(NULL);
}

static void a_full_ring_loses_and_counts(void **state)
{
	struct event_ring *ring = event_ring_new();
	struct event event = {0}, got;
	uint64_t kept = 0, taken = 0;

	(void)state;
	assert_non_null(ring);
	for (uint32_t i = 0; i < 10000; i++) {
		event.length = i;
		kept += event_ring_put(ring, &event);
	}
	assert_true(kept > 0 && kept < 10000);
	assert_int_equal(event_ring_lost(ring), 10000 - kept);
	assert_int_equal(event_ring_lost(ring), 0);
	while (event_ring_get(ring, &got))
		assert_int_equal(got.length, taken++);
	assert_int_equal(taken, kept);
	assert_true(event_ring_put(ring, &event));
	event_ring_free(ring);
}

static void who_stops_before_the_end_is_woken_again(void **state)
{
	struct event_ring *ring = event_ring_new();
	struct event event = {0}, got;

	(void)state;
	assert_non_null(ring);
	for (int i = 0; i < 3; i++)
		event_ring_put(ring, &event);
	event_ring_lose(ring, 5);
	assert_true(event_ring_get(ring, &got));
	event_ring_later(ring);
	assert_true(is_readable(ring, 0));
	while (event_ring_get(ring, &got))
		;
	assert_false(is_readable(ring, 0));
	assert_int_equal(event_ring_lost(ring), 5);
	event_ring_free(ring);
}

static void a_poke_is_told_once(void **state)
{
	struct event_ring *ring = event_ring_new();
	struct event got;

	(void)state;
	assert_non_null(ring);
	assert_false(event_ring_poked(ring));
	event_ring_poke(ring);
	assert_true(is_readable(ring, WAIT_MS));
	assert_false(event_ring_get(ring, &got));
	assert_true(event_ring_poked(ring));
	assert_false(event_ring_poked(ring));
	event_ring_free(ring);
}

static void *put_burst(void *arg)
{
	struct event event = {0};

	for (uint32_t i = 1; i <= BURST; i++) {
		event.length = i;
		event.time_ns = UINT64_C(3) * i;
		event_ring_put(arg, &event);
	}
	/* The last one must arrive: the reader stops by it. */
	event.length = UINT32_MAX;
	while (!event_ring_put(arg, &event))
		;
	return NULL;
}

static void a_reader_that_sleeps_misses_nothing(void **state)
{
	struct event_ring *ring = event_ring_new();
	uint64_t taken = 0, lost = 0;
	struct event got = {0};
	pthread_t writer;
	uint32_t last = 0;

	(void)state;
	assert_non_null(ring);
	assert_int_equal(pthread_create(&writer, NULL, put_burst, ring), 0);
	while (last != UINT32_MAX) {
		assert_true(is_readable(ring, WAIT_MS));
		while (event_ring_get(ring, &got)) {
			assert_true(got.length > last);
			last = got.length;
			if (last == UINT32_MAX)
				break;
			assert_int_equal(got.time_ns, UINT64_C(3) * last);
			taken++;
		}
		lost += event_ring_lost(ring);
	}
	pthread_join(writer, NULL);
	lost += event_ring_lost(ring);
	assert_true(taken + lost >= BURST); /* tries of the last one are counted too */
	event_ring_free(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_got_in_order),
		cmocka_unit_test(a_full_ring_loses_and_counts),
		cmocka_unit_test(who_stops_before_the_end_is_woken_again),
		cmocka_unit_test(a_poke_is_told_once),
		cmocka_unit_test(a_reader_that_sleeps_misses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
