/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What rules and agent have agreed on: numbers, bits and marks that are never two things. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>

#include "nsgate/flow.h"
#include "nsgate/limits.h"

#define COOKIES 4096U

static void answers_differ_and_are_marks(void **state)
{
	(void)state;
	for (uint64_t cookie = 0; cookie < COOKIES; cookie++) {
		for (unsigned int a = 0; a < NSGATE_ANSWER_MAX; a++) {
			const uint32_t mark = nsgate_answer_mark(cookie, (enum nsgate_answer)a);

			assert_int_not_equal(mark, 0);
			assert_int_equal(mark, nsgate_answer_mark(cookie, (enum nsgate_answer)a));
			for (unsigned int b = 0; b < a; b++)
				assert_int_not_equal(
					mark, nsgate_answer_mark(cookie, (enum nsgate_answer)b));
		}
	}
}

/* Whoever knows a namespace's marks knows little of another's: all but the lowest bits vary. */
static void namespaces_have_marks_of_their_own(void **state)
{
	static uint8_t seen[NSGATE_ANSWER_MAX][1 << 12];
	unsigned int different = 0;

	(void)state;
	for (uint64_t cookie = 1; cookie <= COOKIES; cookie++) {
		for (unsigned int a = 0; a < NSGATE_ANSWER_MAX; a++) {
			const uint32_t mark = nsgate_answer_mark(cookie, (enum nsgate_answer)a);

			different += !seen[a][mark >> 20];
			seen[a][mark >> 20] = 1;
		}
	}
	/* Of as many places as throws, chance alone hits 1 - 1/e, which is 63 of 100. */
	assert_true(different >= NSGATE_ANSWER_MAX * COOKIES * 60 / 100);
}

static void no_bit_of_a_label_is_two_things(void **state)
{
	bool taken[NSGATE_LABEL_BITS] = {false};
	unsigned int bits = 0;

	(void)state;
	taken[NSGATE_LABEL_UNSURE] = true;
	for (unsigned int way = 0; way < NSGATE_PATH_MAX; way++) {
		assert_false(taken[NSGATE_LABEL_PASSED(way)]);
		taken[NSGATE_LABEL_PASSED(way)] = true;
		for (unsigned int generation = 1; generation <= NSGATE_GENERATION_MAX;
		     generation++) {
			const unsigned int bit = NSGATE_LABEL_ACCEPTED(generation, way);

			assert_in_range(bit, 0, NSGATE_LABEL_BITS - 1);
			assert_false(taken[bit]);
			taken[bit] = true;
		}
	}
	for (unsigned int bit = 0; bit < NSGATE_LABEL_BITS; bit++) {
		assert_int_equal(taken[bit], bit >= 32); /* the lower ones are the namespace's */
		bits += taken[bit];
	}
	assert_int_equal(bits, 1 + NSGATE_PATH_MAX * (1 + NSGATE_GENERATION_MAX));
}

static void no_number_is_two_queues(void **state)
{
	(void)state;
	for (uint16_t count = 1; count <= NSGATE_QUEUES_MAX; count++) {
		bool taken[NSGATE_FLOW_MAX * NSGATE_QUEUES_MAX] = {false};

		for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
			for (uint16_t i = 0; i < count; i++) {
				const uint16_t number =
					i + nsgate_flow_offset((enum nsgate_flow)flow, count);

				assert_in_range(number, 0, NSGATE_FLOW_MAX * count - 1);
				assert_false(taken[number]);
				taken[number] = true;
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_differ_and_are_marks),
		cmocka_unit_test(namespaces_have_marks_of_their_own),
		cmocka_unit_test(no_bit_of_a_label_is_two_things),
		cmocka_unit_test(no_number_is_two_queues),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
