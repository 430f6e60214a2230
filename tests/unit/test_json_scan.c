/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is JSON, whatever json-c thinks of it; and what is said where json-c refuses a text that was
 * found good. The policies of tests/unit/policies go through the same scan.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "client/document.h"
#include "json_scan.h"
#include "policy/policy.h"

/* In the place of json-c's own. It tells the truth for so many calls, then this. */
static unsigned int truths = UINT_MAX;
static enum json_tokener_error untruth;

enum json_tokener_error json_tokener_get_error(struct json_tokener *tokener)
{
	enum json_tokener_error (*next)(struct json_tokener *) =
		(enum json_tokener_error(*)(struct json_tokener *))dlsym(RTLD_NEXT,
									 "json_tokener_get_error");

	if (truths == 0)
		return untruth;
	truths--;
	return next(tokener);
}

static const char *const good[] = {
	"{}",
	" [ ] \r\n\t",
	"0",
	"-0",
	"-9223372036854775808",
	"18446744073709551615",
	"1.5e+10",
	"99999999999999999999999.0",
	"1e400",
	"\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\xaa\"",
	"{\"Z\xc3\xbcrich\":[\"\\u00fc\",null,true,false,{\"a\":-1}]}",
	"\"\\ud83d\\udeaa \\u0000\"",
	"{\"a\":1,\"a\":2}",
	"[[[[]]]]",
};

static const char *const bad[] = {
	"",
	" ",
	"{",
	"[1,]",
	"{\"a\":1,}",
	"{a:1}",
	"{'a':1}",
	"'a'",
	"[1] 2",
	"[1 2]",
	"{\"a\" 1}",
	"{\"a\":}",
	"/* c */ 1",
	"1 // c",
	"True",
	"nul",
	"NaN",
	"-Infinity",
	"-",
	"01",
	"1.",
	"1e",
	"+1",
	"-9223372036854775809",
	"18446744073709551616",
	"99999999999999999999999",
	"[99999999999999999999999]",
	"\"caf\xe9\"",
	"{\"caf\xe9\":1}",
	"\"\xc0\x80\"",
	"\"\xed\xa0\x80\"",
	"\"\xf4\x90\x80\x80\"",
	"\"\xe2\x82\"",
	"\"\\ud83d\"",
	"\"\\udeaa\"",
	"\"\\x\"",
	"\"\n\"",
	"\"a",
	"{\"a\\u0000b\":1}",
	"[[[[[]]]]]",
};

static void good_is_told_from_bad(void **state)
{
	uint32_t weight;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		if (!json_scan_document(good[i], strlen(good[i]), 4, &weight))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (json_scan_document(bad[i], strlen(bad[i]), 4, &weight))
			fail_msg("taken: %s", bad[i]);
	assert_false(json_scan_document("1\0", 2, 4, &weight));
	assert_false(json_scan_document("\"a\"", 2, 4, &weight));
}

static void documents_are_what_was_written(void **state)
{
	static const char text[] = "{\"city\":\"Z\xc3\xbcrich\",\"most\":18446744073709551615}";
	struct json_object *document;

	(void)state;
	assert_int_equal(document_parse(text, sizeof(text) - 1, &document), 0);
	assert_string_equal(document_text(document, "city", ""), "Z\xc3\xbcrich");
	assert_true(document_count(document, "most") == UINT64_MAX);
	json_object_put(document);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad) - 1;
	     i++) /* the last is not too deep here */
		assert_int_equal(document_parse(bad[i], strlen(bad[i]), &document), -EINVAL);
}

static void a_tree_that_lacks_something_is_none(void **state)
{
	static const char twice[] = "{\"a\":1,\"a\":2}";
	struct json_object *document;

	(void)state;
	assert_int_equal(document_parse(twice, sizeof(twice) - 1, &document), -EBADMSG);
	assert_null(document);
	truths = 0;
	untruth = (enum json_tokener_error)(json_tokener_error_size + 1);
	assert_int_equal(document_parse("[]", 2, &document), -ENOMEM);
	truths = UINT_MAX;
	assert_null(document);
}

static int compile(const char *text, size_t *ret_problems)
{
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;
	int err = policy_compile(text, strlen(text), &policy, &problems);

	*ret_problems = problems.total;
	policy_problems_free(&problems);
	policy_unref(policy);
	return err;
}

static void want_of_memory_is_no_bad_policy(void **state)
{
	/* And how often json-c is asked before it is about the document, or about its rule. */
	static const struct {
		const char *text;
		unsigned int truths;
	} texts[] = {
		{"{\"version\":1}", 0},
		{"{\"version\":1,\"rules\":[{\"name\":\"a\",\"action\":\"drop\"}]}", 2},
	};
	static const struct {
		int error, told;
		size_t problems;
	} cases[] = {
		{json_tokener_error_size + 1, -ENOMEM, 0}, /* json_tokener_error_memory */
		{json_tokener_error_parse_string, -EINVAL, 1},
		{json_tokener_error_parse_number, -EINVAL, 1},
	};
	size_t problems;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
			truths = texts[i].truths;
			untruth = (enum json_tokener_error)cases[k].error;
			assert_int_equal(compile(texts[i].text, &problems), cases[k].told);
			assert_int_equal(problems, cases[k].problems);
		}
	}
	truths = UINT_MAX;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_is_told_from_bad),
		cmocka_unit_test(documents_are_what_was_written),
		cmocka_unit_test(a_tree_that_lacks_something_is_none),
		cmocka_unit_test(want_of_memory_is_no_bad_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
