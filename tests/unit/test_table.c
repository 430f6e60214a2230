/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "nsgate/table.h"

static void names_and_numbers_go_both_ways(void **state)
{
	static const uint32_t numbers[] = {0, 1, 0x1a2b3c4d, UINT32_MAX};
	char name[NSGATE_TABLE_NAME_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		uint32_t number = 7;

		nsgate_table_name(name, numbers[i]);
		assert_true(nsgate_table_number(name, &number));
		assert_int_equal(number, numbers[i]);
	}
	nsgate_table_name(name, 0);
	assert_string_equal(name, "nsgate");
	nsgate_table_name(name, 0x1a2b);
	assert_string_equal(name, "nsgate-00001a2b");
}

/* What is not exactly such a name is somebody else's. */
static void other_names_are_not_ours(void **state)
{
	static const char *const others[] = {
		"",
		"nsgat",
		"nsgate2",
		"nsgate-",
		"nsgate-1",
		"nsgate-00000000",
		"nsgate-1A2B3C4D",
		"nsgate-1a2b3c4d5",
		"nsgate-run-1",
		"nsgate- 000001a",
		"nsgate-+000001a",
		"nsgate-0x00001a",
		"nsgate_trial",
		"xnsgate-00001a2b",
		"nsgate-00001a2b ",
		"NSGATE",
	};
	uint32_t number = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_false(nsgate_table_number(others[i], &number));
	assert_int_equal(number, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_numbers_go_both_ways),
		cmocka_unit_test(other_names_are_not_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
