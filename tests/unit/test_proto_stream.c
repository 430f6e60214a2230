// SPDX-License-Identifier: GPL-2.0-or-later
/* Segments of a TCP flow: each sequence number passes with one value only, and in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "proto/stream.h"

#define ROOM 16

struct step {
	uint32_t at; /* from the first sequence number */
	const char *data;
	enum stream_result result;
	size_t new;
};

static void run(uint32_t first, const struct step *steps, size_t count, const char *wanted)
{
	uint8_t bytes[ROOM];
	struct stream stream;
	size_t new;

	stream_init(&stream, first, bytes, ROOM);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(stream_feed(&stream, first + steps[i].at,
					     (const uint8_t *)steps[i].data, strlen(steps[i].data),
					     &new),
				 steps[i].result);
		assert_int_equal(new, steps[i].new);
	}
	assert_int_equal(stream_length(&stream), strlen(wanted));
	assert_memory_equal(bytes, wanted, strlen(wanted));
}

#define RUN(first, wanted, ...)                                                                    \
	run(first, (const struct step[]){__VA_ARGS__},                                             \
	    sizeof((const struct step[]){__VA_ARGS__}) / sizeof(struct step), wanted)

static void each_number_passes_with_one_value(void **state)
{
	static const uint32_t firsts[] = {0, 1, UINT32_MAX, UINT32_MAX - 3, INT32_MAX - 2};

	(void)state;
	for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++)
		RUN(firsts[i], "abcdefgh", {0, "abc", STREAM_NEW, 3}, {0, "abc", STREAM_KNOWN, 0},
		    {1, "b", STREAM_KNOWN, 0}, {1, "x", STREAM_CONFLICT, 0},
		    {0, "abx", STREAM_CONFLICT, 0}, {0, "abxd", STREAM_CONFLICT, 0},
		    {4, "e", STREAM_GAP, 0}, {(uint32_t)-1, "zabc", STREAM_BEFORE, 0},
		    {(uint32_t)-1, "z", STREAM_BEFORE, 0}, {1, "bcde", STREAM_NEW, 2},
		    {5, "", STREAM_KNOWN, 0}, {9, "", STREAM_KNOWN, 0}, {5, "fgh", STREAM_NEW, 3},
		    {2, "cdefgh", STREAM_KNOWN, 0});
}

static void there_is_room_for_so_much(void **state)
{
	(void)state;
	RUN(7, "abcdefghijklmnop", {0, "abcdefghijklmnopq", STREAM_FULL, 0},
	    {0, "abcdefghijklmnop", STREAM_NEW, 16}, {16, "q", STREAM_FULL, 0},
	    {15, "pq", STREAM_FULL, 0}, {15, "p", STREAM_KNOWN, 0});
}

static void what_is_acknowledged_makes_room_and_is_not_compared(void **state)
{
	const uint8_t *text = (const uint8_t *)"abcdefghijklmnopqrstuvwxyz";
	uint8_t bytes[ROOM];
	struct stream stream;
	size_t new;

	(void)state;
	stream_init(&stream, 100, bytes, ROOM);
	assert_int_equal(stream_feed(&stream, 100, text, 12, &new), STREAM_NEW);
	stream_ack(&stream, 113); /* of a byte that was not sent */
	assert_int_equal(stream.acked, 100);
	stream_ack(&stream, 110);
	stream_ack(&stream, 105); /* an older one that comes late */
	assert_int_equal(stream.acked, 110);
	assert_int_equal(stream_feed(&stream, 112, text + 12, 15, &new), STREAM_FULL);
	assert_int_equal(stream_feed(&stream, 112, text + 12, 14, &new), STREAM_NEW);
	assert_int_equal(stream_feed(&stream, 101, (const uint8_t *)"zzz", 3, &new), STREAM_KNOWN);
	assert_int_equal(stream_feed(&stream, 108, (const uint8_t *)"zzkl", 4, &new), STREAM_KNOWN);
	assert_int_equal(stream_feed(&stream, 108, (const uint8_t *)"zzkz", 4, &new),
			 STREAM_CONFLICT);
	assert_int_equal(stream_feed(&stream, 110, text + 10, 16, &new), STREAM_KNOWN);
	assert_int_equal(stream_feed(&stream, 99, (const uint8_t *)"z", 1, &new), STREAM_KNOWN);
}

static void a_restart_puts_the_rest_in_front(void **state)
{
	const uint8_t *text = (const uint8_t *)"abcdefghijklmnopqrstuvwxyz";
	uint8_t bytes[ROOM];
	struct stream stream;
	size_t new;

	(void)state;
	stream_init(&stream, UINT32_MAX - 2, bytes, ROOM);
	assert_int_equal(stream_feed(&stream, UINT32_MAX - 2, text, 10, &new), STREAM_NEW);
	stream_restart(&stream, 4); /* behind "g" */
	assert_int_equal(stream_length(&stream), 3);
	assert_memory_equal(bytes, "hij", 3);
	assert_int_equal(stream_feed(&stream, 5, text + 8, 6, &new), STREAM_NEW);
	assert_int_equal(new, 4);
	assert_memory_equal(bytes, "hijklmn", 7);
	assert_int_equal(stream_feed(&stream, 3, text + 6, 2, &new), STREAM_BEFORE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_number_passes_with_one_value),
		cmocka_unit_test(there_is_room_for_so_much),
		cmocka_unit_test(what_is_acknowledged_makes_room_and_is_not_compared),
		cmocka_unit_test(a_restart_puts_the_rest_in_front),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
