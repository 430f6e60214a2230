// SPDX-License-Identifier: GPL-2.0-or-later
/* What goes into an ATTACH: labels, names, queues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "client/request.h"

static void test_packs_labels(void **state)
{
	static const char expected[] = "a=1\0io.x/y-z=two words\0empty=\0";
	char labels[NSGATE_LABELS_MAX] = "";
	struct failure fail = {0};

	(void)state;
	assert_int_equal(request_add_label(labels, "a=1", &fail), NSGATE_STATUS_OK);
	assert_int_equal(request_add_label(labels, "io.x/y-z=two words", &fail), NSGATE_STATUS_OK);
	assert_int_equal(request_add_label(labels, "empty=", &fail), NSGATE_STATUS_OK);
	assert_memory_equal(labels, expected, sizeof(expected));
	assert_string_equal(fail.text, "");
}

static void test_refuses_bad_labels(void **state)
{
	static const char *const cases[] = {"",	      "a",	    "=1",      "a b=1", "a=\n",
					    "k=\x7f", "k=\xc3\xa4", "k\xc3=1", "used=2"};
	char labels[NSGATE_LABELS_MAX] = "", before[NSGATE_LABELS_MAX];
	struct failure fail = {0};

	(void)state;
	assert_int_equal(request_add_label(labels, "used=1", &fail), NSGATE_STATUS_OK);
	memcpy(before, labels, sizeof(labels));
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(request_add_label(labels, cases[i], &fail), NSGATE_STATUS_USAGE);
		assert_memory_equal(labels, before, sizeof(labels));
	}
	/* A key that only starts like another is another. */
	assert_int_equal(request_add_label(labels, "use=1", &fail), NSGATE_STATUS_OK);
	assert_int_equal(request_add_label(labels, "used2=1", &fail), NSGATE_STATUS_OK);
}

static void test_labels_fill_the_field_and_no_more(void **state)
{
	char labels[NSGATE_LABELS_MAX] = "", text[NSGATE_LABELS_MAX + 2];
	struct failure fail = {0};

	(void)state;
	memset(text, 'v', sizeof(text));
	memcpy(text, "k=", 2);
	text[NSGATE_LABELS_MAX - 1] = '\0';
	assert_int_equal(request_add_label(labels, text, &fail), NSGATE_STATUS_USAGE);
	assert_string_equal(labels, "");
	text[NSGATE_LABELS_MAX - 2] = '\0'; /* leaves its own NUL and the list's */
	assert_int_equal(request_add_label(labels, text, &fail), NSGATE_STATUS_OK);
	assert_int_equal(labels[NSGATE_LABELS_MAX - 1], '\0');
	assert_int_equal(request_add_label(labels, "a=", &fail), NSGATE_STATUS_USAGE);
}

static void test_names(void **state)
{
	char name[NSGATE_NAME_MAX], longest[NSGATE_NAME_MAX + 1];
	struct failure fail = {0};

	(void)state;
	memset(name, 'x', sizeof(name));
	assert_int_equal(request_take_name("--name", "web-1.a_b", name, &fail), NSGATE_STATUS_OK);
	assert_string_equal(name, "web-1.a_b");
	assert_int_equal(name[NSGATE_NAME_MAX - 1], '\0');
	assert_int_equal(request_take_name("--name", ".x", name, &fail), NSGATE_STATUS_USAGE);
	assert_int_equal(request_take_name("--name", "", name, &fail), NSGATE_STATUS_USAGE);
	assert_int_equal(request_take_name("--name", "a/b", name, &fail), NSGATE_STATUS_USAGE);
	assert_string_equal(name, "web-1.a_b");

	memset(longest, 'n', sizeof(longest));
	longest[NSGATE_NAME_MAX] = '\0';
	assert_int_equal(request_take_name("--name", longest, name, &fail), NSGATE_STATUS_USAGE);
	longest[NSGATE_NAME_MAX - 1] = '\0';
	assert_int_equal(request_take_name("--name", longest, name, &fail), NSGATE_STATUS_OK);
}

static void test_queues(void **state)
{
	static const struct {
		const char *first, *count;
		enum nsgate_status status;
	} cases[] = {
		{NULL, NULL, NSGATE_STATUS_OK},
		{"65523", "1", NSGATE_STATUS_OK}, /* 13 numbers each */
		{"65524", "1", NSGATE_STATUS_USAGE},
		{"65328", "16", NSGATE_STATUS_OK},
		{"65329", "16", NSGATE_STATUS_USAGE},
		{"65536", NULL, NSGATE_STATUS_USAGE},
		{"", NULL, NSGATE_STATUS_USAGE},
		{"0x1", NULL, NSGATE_STATUS_USAGE},
		{"+1", NULL, NSGATE_STATUS_USAGE},
		{"0", "0", NSGATE_STATUS_USAGE},
		{"0", "17", NSGATE_STATUS_USAGE},
		{"99999999999999999999", NULL, NSGATE_STATUS_USAGE},
	};
	struct nsgate_msg_attach message = {0};
	struct failure fail = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(
			request_take_queues(cases[i].first, cases[i].count, &message, &fail),
			cases[i].status);
	assert_int_equal(request_take_queues("7", "4", &message, &fail), NSGATE_STATUS_OK);
	assert_int_equal(message.queue_first, 7);
	assert_int_equal(message.queue_count, 4);
	assert_int_equal(request_take_queues(NULL, NULL, &message, &fail), NSGATE_STATUS_OK);
	assert_int_equal(message.queue_first, 32768);
	assert_int_equal(message.queue_count, 1);
}

static void test_times(void **state)
{
	static const struct {
		const char *text;
		int ms; /* 0: refused */
	} cases[] = {
		{"5", 5000},	{"0.5", 500},	    {"1.25s", 1250},   {"500ms", 500},
		{"2m", 120000}, {"1h", 3600000},    {"24h", 86400000}, {"", 0},
		{"0", 0},	{"-1", 0},	    {"x", 0},	       {"1x", 0},
		{".5", 0},	{"1.2.3", 0},	    {"25h", 0},	       {"1e3", 0},
		{"inf", 0},	{"99999999999", 0}, {"0.0001", 0},     {" 1", 0},
	};
	struct failure fail = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int ms = -1;

		assert_int_equal(request_time("--for", cases[i].text, &ms, &fail),
				 cases[i].ms ? NSGATE_STATUS_OK : NSGATE_STATUS_USAGE);
		assert_int_equal(ms, cases[i].ms ? cases[i].ms : -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packs_labels),
		cmocka_unit_test(test_refuses_bad_labels),
		cmocka_unit_test(test_labels_fill_the_field_and_no_more),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_queues),
		cmocka_unit_test(test_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
