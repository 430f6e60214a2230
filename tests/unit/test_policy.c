/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Documents: what an operator is told of a bad one, and what the agent is told of a good one.
 * That good and bad are told apart at all is for schema_parity.py.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nsgate/hook.h"
#include "nsgate/limits.h"
#include "nsgate/proto.h"
#include "policy/policy.h"
#include "policy/schema.h"

/* Compile a document that has ' in the place of ". Return: as policy_compile(). */
static int compile(const char *text, struct policy **ret_policy, struct policy_problems *problems)
{
	char *copy = strdup(text);
	int err;

	assert_non_null(copy);
	for (char *c = copy; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	memset(problems, 0, sizeof(*problems));
	err = policy_compile(copy, strlen(copy), ret_policy, problems);
	free(copy);
	return err;
}

static struct policy *compile_good(const char *text)
{
	struct policy_problems problems;
	struct policy *policy = NULL;

	assert_int_equal(compile(text, &policy, &problems), 0);
	assert_int_equal(problems.total, 0);
	return policy;
}

struct complaint {
	const char *document, *pointer, *message;
};

#define RULE(keys) "{'version':1,'rules':[{'name':'r','action':'accept'," keys "}]}"

#define QUEUE(keys) "{'version':1,'rules':[{'name':'r','action':'queue','queue':7," keys "}]}"

static const struct complaint complaints[] = {
	{RULE("'dport':[80,70000]"), "/rules/0/dport/1", "port 70000 is not in 0..65535"},
	{RULE("'dports':80"), "/rules/0/dports", "unknown key \"dports\"; did you mean \"dport\"?"},
	{RULE("'not_dports':80"), "/rules/0/not_dports",
	 "unknown key \"not_dports\"; did you mean \"not_dport\"?"},
	{RULE("'dport':'80'"), "/rules/0/dport", "port must be a number: write 80 without quotes"},
	{RULE("'dport':'90-80'"), "/rules/0/dport", "the range is reversed; write \"80-90\""},
	{RULE("'dst':['10.0.0.1/8']"), "/rules/0/dst/0",
	 "10.0.0.1/8 has bits set after the prefix; did you mean 10.0.0.0/8, or 10.0.0.1 alone?"},
	{RULE("'protocol':'tpc'"), "/rules/0/protocol",
	 "unknown protocol \"tpc\"; did you mean \"tcp\"?"},
	{RULE("'http':{}"), "/rules/0/http", "\"http\" is not supported by this version of nsgate"},
	{RULE("'mark':{'set':'0x100000000'}"), "/rules/0/mark/set",
	 "0x100000000 is above 0xffffffff; a mark has 32 bits"},
	{RULE("'queue':1"), "/rules/0/queue", "goes only with action \"queue\""},
	{RULE("'on_queue_down':'open'"), "/rules/0/on_queue_down",
	 "goes only with action \"queue\""},
	{RULE("'bypass_mark':1"), "/rules/0/bypass_mark", "goes only with action \"queue\""},
	{QUEUE("'on_queue_down':'opened'"), "/rules/0/on_queue_down",
	 "\"opened\" is not \"closed\" or \"open\"; did you mean \"open\"?"},
	{QUEUE("'bypass_mark':'2/1'"), "/rules/0/bypass_mark",
	 "bits of 0x2 are outside of its mask 0x1, so it could never match"},
	{QUEUE("'bypass_mark':'0/1'"), "/rules/0/bypass_mark",
	 "must have a bit that is set, like \"0x1/0x1\": a packet without a mark would bear it"},
	{QUEUE("'bypass_mark':'1/1','mark':{'set':'0x11','mask':'0xff'}"), "/rules/0/bypass_mark",
	 "is what the rule's own \"mark\" sets, so every packet would bear it"},
	{RULE("'ct':'relatd'"), "/rules/0/ct",
	 "\"relatd\" is not \"new\", \"reply\", \"established\", \"related\", \"invalid\" or "
	 "\"untracked\"; did you mean \"related\"?"},
	{"{'version':1,'defualt':'drop'}", "/defualt",
	 "unknown key \"defualt\"; did you mean \"default\"?"},
	{"{'version':1,'a/b~':1}", "/a~1b~0", "unknown key \"a/b~\""},
	{"{'version':2}", "/version", "must be 1, the only version there is"},
	{"{}", "", "\"version\" is missing; write \"version\": 1"},
	{"{'version':1,\n 'rules':[}", "/rules/0",
	 "line 2, column 11: expected a value: an object, a list, a string in double quotes, a "
	 "number, true, false or null"},
	{"{'version':1} x", "", "line 1, column 15: there is text after the end of the document"},
	{"{'version':1,'mode':'audit','m\\u006fde':'audit'}", "/mode",
	 "key \"mode\" is given twice; keep one of them"},
	{"{'version':1,'rules':[{'name':'a','action':'drop'},{'name':'a','action':'drop'}]}",
	 "/rules/1/name", "rule name \"a\" is already taken by /rules/0"},
	{"{'version':1,'rules':[ {'name':'a','action':'drop'} ,7]}", "/rules/1",
	 "must be an object like {\"name\": \"web\", \"action\": \"accept\"}"},
	{"{'version':1,'r\\u0075les':[null]}", "/rules/0",
	 "must be an object like {\"name\": \"web\", \"action\": \"accept\"}"},
	{"{'version':1,'rules':[1,2],'rules':[]}", "/rules",
	 "key \"rules\" is given twice; keep one of them"},
	{"{'version':1,'rules':{'rules':[1]}}", "/rules", "must be a list of rules, in brackets"},
	{"{'version':1,'mode':'enforced'}", "/mode",
	 "\"enforced\" is not \"enforce\" or \"audit\"; did you mean \"enforce\"?"},
	{"[]", "", "line 1, column 1: a policy is one JSON object, in braces"},
};

static void test_complaints(void **test)
{
	struct policy_problems problems;
	struct policy *policy;

	(void)test;
	for (size_t i = 0; i < sizeof(complaints) / sizeof(complaints[0]); i++) {
		policy = NULL;
		assert_int_equal(compile(complaints[i].document, &policy, &problems), -EINVAL);
		assert_null(policy);
		assert_int_equal(problems.total, 1);
		assert_string_equal(problems.list[0].pointer, complaints[i].pointer);
		assert_string_equal(problems.list[0].message, complaints[i].message);
		policy_problems_free(&problems);
	}
}

static void test_every_problem_is_told(void **test)
{
	static const char *const pointers[] = {
		"/mode",	 "/rules/0/dport/0", "/rules/0/dport/2",
		"/rules/0/src",	 "/rules/1/version", "/rules/1",
		"/rules/2/name",
	};
	struct policy_problems problems;
	struct policy *policy;

	(void)test;
	assert_int_equal(compile("{'version':1,'mode':1,'rules':["
				 "{'name':'a','action':'drop','dport':[-1,5,65536],'src':true},"
				 "{'name':'b','version':1},"
				 "{'name':'a','action':'drop'}]}",
				 &policy, &problems),
			 -EINVAL);
	assert_int_equal(problems.total, sizeof(pointers) / sizeof(pointers[0]));
	for (size_t i = 0; i < problems.count; i++)
		assert_string_equal(problems.list[i].pointer, pointers[i]);
	policy_problems_free(&problems);
}

static void test_more_problems_are_counted(void **test)
{
	struct policy_problems problems;
	struct policy *policy;
	char text[4000] = "{'version':1,'rules':[{'name':'r','action':'drop','dport':[-1";

	(void)test;
	for (int i = 0; i < 149; i++)
		strcat(text, ",-1");
	strcat(text, "]}]}");
	assert_int_equal(compile(text, &policy, &problems), -EINVAL);
	assert_int_equal(problems.total, 150);
	assert_int_equal(problems.count, POLICY_PROBLEMS_MAX);
	policy_problems_free(&problems);
}

/* What is quoted from a document can neither break a line nor drive a terminal. */
static void test_messages_are_one_clean_line(void **test)
{
	static const char key[] = "123456789012345678901234567890123456789\u00e4";
	struct policy_problems problems;
	struct policy *policy;
	char text[128];

	(void)test;
	assert_int_equal(compile("{'version':1,'a\\n\\u001b[31m\\u009bb':1}", &policy, &problems),
			 -EINVAL);
	assert_string_equal(problems.list[0].message, "unknown key \"a??[31m??b\"");
	assert_string_equal(problems.list[0].pointer, "/a??[31m??b");
	policy_problems_free(&problems);

	/* Cut after 40 bytes, in the middle of the last character. */
	snprintf(text, sizeof(text), "{'version':1,'%s':1}", key);
	assert_int_equal(compile(text, &policy, &problems), -EINVAL);
	assert_string_equal(problems.list[0].message,
			    "unknown key \"123456789012345678901234567890123456789?\"");
	policy_problems_free(&problems);
}

static void test_limits_of_size_and_depth(void **test)
{
	size_t length = NSGATE_POLICY_BYTES_MAX;
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;
	char *text = malloc(length + 1);

	(void)test;
	assert_non_null(text);
	memset(text, ' ', length + 1);
	memcpy(text, "{\"version\":1}", 13);
	assert_int_equal(policy_compile(text, length, &policy, &problems), 0);
	policy_unref(policy);
	assert_int_equal(policy_compile(text, length + 1, &policy, &problems), -EINVAL);
	assert_string_equal(problems.list[0].message,
			    "the document has 1048577 bytes, at most 1048576 are allowed");
	policy_problems_free(&problems);

	/* Brackets only: the scan must not run out of stack. */
	memset(text, '[', length);
	memcpy(text, "{\"a\":", 5);
	assert_int_equal(policy_compile(text, length, &policy, &problems), -EINVAL);
	assert_string_equal(problems.list[0].message,
			    "line 1, column 21: nested more than 16 levels deep");
	policy_problems_free(&problems);
	free(text);
}

static void test_every_cut_is_refused(void **test)
{
	static const char text[] =
		"{\"version\":1,\"name\":\"\\u00e4\",\"rules\":[{\"name\":\"r\","
		"\"action\":\"accept\",\"dport\":[80,\"1-2\"]}],\"default\":-0.5e1}";
	struct policy_problems problems = {.count = 0};
	struct policy *policy;

	(void)test;
	for (size_t length = 0; length < sizeof(text); length++) {
		char *exact = malloc(length + 1);

		assert_non_null(exact);
		memcpy(exact, text, length);
		assert_int_equal(policy_compile(exact, length, &policy, &problems), -EINVAL);
		assert_true(problems.total > 0);
		policy_problems_free(&problems);
		free(exact);
	}
}

static void test_info_of_the_least_policy(void **test)
{
	struct policy *policy = compile_good("{'version':1}");
	const struct policy_info *info = policy_info(policy);
	size_t length;

	(void)test;
	assert_string_equal(info->name, "");
	assert_false(info->audit || info->offload || info->strict);
	assert_false(info->open_on_agent_down || info->open_on_overload);
	assert_int_equal(info->hooks,
			 NSGATE_HOOK_BIT(NSGATE_HOOK_IN) | NSGATE_HOOK_BIT(NSGATE_HOOK_OUT));
	assert_in_range(info->copy_length, 128, 256);
	assert_int_equal(info->needs, 0);
	assert_int_equal(info->rule_count, 0);
	assert_int_equal(info->limit_count, 0);
	assert_string_equal(policy_source(policy, &length), "{\"version\":1}");
	assert_int_equal(length, 13);
	policy_unref(policy);
}

static void test_info_of_a_full_policy(void **test)
{
	struct policy *policy = compile_good(
		"{'version':1,'name':'ci','mode':'audit','hooks':['forward','postrouting'],"
		"'on_agent_down':'open','on_overload':'open','offload':true,'strict':true,"
		"'rules':["
		"{'name':'a','action':'accept','iif':['eth0','veth*'],'oif':'eth0','set':{'ttl':9}}"
		","
		"{'name':'b','action':'queue','queue':7,'log':true,'limit':{'rate':'1/s'}},"
		"{'name':'c','action':'drop','not_gid':5}]}");
	const struct policy_info *info = policy_info(policy);

	(void)test;
	assert_string_equal(info->name, "ci");
	assert_true(info->audit && info->offload && info->strict);
	assert_true(info->open_on_agent_down && info->open_on_overload);
	assert_int_equal(info->hooks, NSGATE_HOOK_BIT(NSGATE_HOOK_FORWARD) |
					      NSGATE_HOOK_BIT(NSGATE_HOOK_POSTROUTING));
	assert_int_equal(info->copy_length, 65531);
	assert_int_equal(info->needs, POLICY_NEED_OWNER | POLICY_NEED_SEGMENTS | POLICY_NEED_WHOLE);
	assert_int_equal(info->ifpattern_count, 2);
	assert_string_equal(info->ifpatterns[0], "eth0");
	assert_string_equal(info->ifpatterns[1], "veth*");
	assert_int_equal(info->limit_count, 1);
	assert_int_equal(info->rule_count, 3);
	assert_string_equal(info->rules[1].name, "b");
	assert_int_equal(info->rules[1].action, POLICY_ACTION_QUEUE);
	assert_int_equal(info->rules[1].queue, 7);
	assert_true(info->rules[1].log);
	/* FNV-1a of "a", as its authors give it. */
	assert_int_equal(info->rules[0].name_hash, UINT64_C(0xaf63dc4c8601ec8c));
	policy_unref(policy_ref(policy));
	policy_unref(policy);
	policy_unref(NULL);
}

/* Rules that all have a bypass mark, of so many different values. */
static int compile_bypass_marks(unsigned int rules, unsigned int different, struct policy **ret,
				struct policy_problems *problems)
{
	char text[4096];
	size_t used = (size_t)snprintf(text, sizeof(text), "{'version':1,'rules':[");

	for (unsigned int i = 0; i < rules; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "%s{'name':'q%u','action':'queue','queue':7,"
					 "'bypass_mark':'%u/0xff'}",
					 i ? "," : "", i, 1 + i % different);
	snprintf(text + used, sizeof(text) - used, "]}");
	return compile(text, ret, problems);
}

static void test_bypass_marks_have_an_end(void **test)
{
	struct policy_problems problems;
	struct policy *policy;

	(void)test;
	assert_int_equal(compile_bypass_marks(24, NSGATE_BYPASS_MARKS_MAX, &policy, &problems), 0);
	policy_unref(policy);

	assert_int_equal(compile_bypass_marks(24, NSGATE_BYPASS_MARKS_MAX + 1, &policy, &problems),
			 -EINVAL);
	assert_int_equal(problems.total, 1);
	assert_string_equal(problems.list[0].pointer, "/rules/8/bypass_mark");
	assert_string_equal(problems.list[0].message,
			    "is one too many: a policy has at most 8 different bypass marks; "
			    "let some of the programs use the same");
	policy_problems_free(&problems);
}

static void test_info_of_queues(void **test)
{
	struct policy *policy = compile_good(
		"{'version':1,'rules':[{'name':'a','action':'queue','queue':7},"
		"{'name':'b','action':'queue','queue':8,'on_queue_down':'open','bypass_mark':5},"
		"{'name':'c','action':'queue','queue':8,'on_queue_down':'closed',"
		"'bypass_mark':'0x80000000/0xc0000000','mark':{'set':1,'mask':1}}]}");
	const struct policy_rule_info *rules = policy_info(policy)->rules;

	(void)test;
	assert_false(rules[0].queue_open);
	assert_int_equal(rules[0].bypass_mask, 0);
	assert_int_equal(rules[1].queue, 8);
	assert_true(rules[1].queue_open);
	assert_int_equal(rules[1].bypass_value, 5);
	assert_int_equal(rules[1].bypass_mask, UINT32_MAX);
	assert_false(rules[2].queue_open);
	assert_int_equal(rules[2].bypass_value, 0x80000000U);
	assert_int_equal(rules[2].bypass_mask, 0xc0000000U);
	policy_unref(policy);
}

static void test_length_wants_single_segments(void **test)
{
	struct policy *policy = compile_good(RULE("'length':'0-100'"));

	(void)test;
	assert_int_equal(policy_info(policy)->needs, POLICY_NEED_SEGMENTS);
	assert_in_range(policy_info(policy)->copy_length, 128, 256);
	policy_unref(policy);
}

static void test_ifpatterns(void **test)
{
	(void)test;
	assert_true(policy_ifpattern_match("eth0", "eth0"));
	assert_false(policy_ifpattern_match("eth0", "eth01"));
	assert_false(policy_ifpattern_match("eth0", ""));
	assert_true(policy_ifpattern_match("eth*", "eth01"));
	assert_true(policy_ifpattern_match("eth*", "eth"));
	assert_false(policy_ifpattern_match("eth*", "et"));
	assert_true(policy_ifpattern_match("*", "lo"));
}

static void test_schema_is_embedded(void **test)
{
	(void)test;
	assert_int_equal(strlen(policy_schema_json), policy_schema_json_length);
	assert_int_equal(policy_schema_json[0], '{');
	assert_non_null(strstr(policy_schema_json, "https://json-schema.org/draft/2020-12/schema"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_complaints),
		cmocka_unit_test(test_every_problem_is_told),
		cmocka_unit_test(test_more_problems_are_counted),
		cmocka_unit_test(test_messages_are_one_clean_line),
		cmocka_unit_test(test_limits_of_size_and_depth),
		cmocka_unit_test(test_every_cut_is_refused),
		cmocka_unit_test(test_info_of_the_least_policy),
		cmocka_unit_test(test_info_of_a_full_policy),
		cmocka_unit_test(test_bypass_marks_have_an_end),
		cmocka_unit_test(test_info_of_queues),
		cmocka_unit_test(test_length_wants_single_segments),
		cmocka_unit_test(test_ifpatterns),
		cmocka_unit_test(test_schema_is_embedded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
