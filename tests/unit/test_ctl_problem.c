// SPDX-License-Identifier: GPL-2.0-or-later
/* From the agent's answers, and from failed connects, to exit codes and lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/problem.h"

static void test_exit_codes(void **state)
{
	static const struct {
		int http;
		enum nsgate_status status;
	} cases[] = {
		{200, NSGATE_STATUS_OK},	  {201, NSGATE_STATUS_OK},
		{204, NSGATE_STATUS_OK},	  {299, NSGATE_STATUS_OK},
		{0, NSGATE_STATUS_FAILED},	  {100, NSGATE_STATUS_FAILED},
		{301, NSGATE_STATUS_FAILED},	  {400, NSGATE_STATUS_FAILED},
		{401, NSGATE_STATUS_REFUSED},	  {403, NSGATE_STATUS_REFUSED},
		{404, NSGATE_STATUS_NOT_FOUND},	  {405, NSGATE_STATUS_FAILED},
		{409, NSGATE_STATUS_FAILED},	  {413, NSGATE_STATUS_FAILED},
		{422, NSGATE_STATUS_FAILED},	  {500, NSGATE_STATUS_FAILED},
		{503, NSGATE_STATUS_UNREACHABLE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(problem_status(cases[i].http), cases[i].status);
}

static enum nsgate_status read_problem(int http, const char *body, const char *prefix,
				       struct failure *fail)
{
	return problem_read(http, body, body != NULL ? strlen(body) : 0, "/v1/x", prefix, fail);
}

static void test_lists_every_error(void **state)
{
	static const char body[] =
		"{\"type\":\"about:blank\",\"title\":\"Unprocessable\",\"status\":422,"
		"\"detail\":\"the policy is bad\",\"errors\":["
		"{\"pointer\":\"/rules/0/dport\",\"message\":\"not a port\"},"
		"{\"pointer\":\"\",\"message\":\"two\\nlines \\u001b[2J\"},7]}";
	struct failure fail = {0};
	char *text = NULL;
	size_t size;
	FILE *memory = open_memstream(&text, &size);

	(void)state;
	assert_int_equal(read_problem(422, body, "p.json", &fail), NSGATE_STATUS_FAILED);
	failure_print(&fail, "nsgatectl", memory);
	fclose(memory);
	assert_string_equal(text, "nsgatectl: p.json: the policy is bad\n"
				  "p.json: /rules/0/dport: not a port\n"
				  "p.json: two?lines ?[2J\n"
				  "p.json: not said what\n");
	free(text);
	failure_free(&fail);
	assert_int_equal(read_problem(422, body, NULL, &fail), NSGATE_STATUS_FAILED);
	assert_string_equal(fail.details[0], "/rules/0/dport: not a port");
	failure_free(&fail);
}

static void test_always_has_something_to_say(void **state)
{
	static const char *const bodies[] = {
		NULL, "", "{}", "[]", "not json", "{\"detail\":5}", "{\"detail\":\"x\"} trailing"};
	static const int codes[] = {302, 400, 401, 403, 404, 409, 413, 422, 500, 503};

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
		for (size_t j = 0; j < sizeof(codes) / sizeof(*codes); j++) {
			struct failure fail = {0};

			assert_int_equal(read_problem(codes[j], bodies[i], NULL, &fail),
					 problem_status(codes[j]));
			assert_memory_equal(fail.text, "/v1/x: ", 7);
			assert_non_null(strstr(fail.text, "; "));
			failure_free(&fail);
		}
	}
}

static void test_connect_errors(void **state)
{
	static const struct {
		int error;
		enum nsgate_status status;
	} cases[] = {
		{ENOENT, NSGATE_STATUS_UNREACHABLE},	 {ECONNREFUSED, NSGATE_STATUS_UNREACHABLE},
		{EACCES, NSGATE_STATUS_REFUSED},	 {ETIMEDOUT, NSGATE_STATUS_UNREACHABLE},
		{EPROTOTYPE, NSGATE_STATUS_UNREACHABLE}, {ENAMETOOLONG, NSGATE_STATUS_USAGE},
	};
	struct failure fail = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(failure_connect(&fail, "/run/x", "broker.sock", "nsgate-broker",
						 cases[i].error),
				 cases[i].status);
		assert_int_equal(failure_connect(&fail, "/run/x", "broker.sock", "nsgate-broker",
						 -cases[i].error),
				 cases[i].status);
	}
	failure_connect(&fail, "/run/x", "broker.sock", "nsgate-broker", ENOENT);
	assert_string_equal(fail.text, "broker.sock: no such file; is nsgate-broker running with "
				       "--runtime-dir /run/x?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit_codes),
		cmocka_unit_test(test_lists_every_error),
		cmocka_unit_test(test_always_has_something_to_say),
		cmocka_unit_test(test_connect_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
