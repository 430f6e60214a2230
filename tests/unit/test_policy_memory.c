/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A policy that is read while memory is short judges as it is written, or is refused for want of
 * memory: no rule ever loses a condition. A document of others (lib/client/document.h) is whole or
 * is refused for it, too: the shim writes a container's back.
 *
 * Each allocation fails in a child of its own, in json-c too, whose parser may crash then (0.16):
 * who crashes has no policy in force.
 */
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/document.h"
#include "policy_fixture.h"

#ifndef __SANITIZE_ADDRESS__ /* which has an allocator of its own: there nothing fails */
static long countdown;	     /* until it fails; 0: never */
static bool for_good;

static bool fails(void)
{
	if (countdown == 0 || (countdown == 1 && for_good))
		return countdown != 0;
	return --countdown == 0;
}

/* What glibc's own allocator is called inside. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
	return fails() ? NULL : __libc_realloc(block, size);
}
#endif

#define LONG_COMMENT "a comment that is longer than what json-c's buffer holds at its start"

/* Every key after the name narrows the rule, so that none may get lost. */
static const char text[] =
	"{\"version\":1,\"default\":\"drop\",\"comment\":\"" LONG_COMMENT "\",\"rules\":["
	"{\"name\":\"a\",\"action\":\"accept\",\"protocol\":[\"tcp\"],\"dst\":[\"192.0.2.1\","
	"\"2001:0db8:0000:0000:0000:0000:0000:0001\"],\"not_dport\":[1,2,3,\"4-5\",6,7,8,9,10,11,"
	"12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40],"
	"\"not_sport\":[5000]},"
	"{\"name\":\"b\",\"action\":\"drop\",\"comment\":\"" LONG_COMMENT "\"},"
	"{\"name\":\"c\",\"action\":\"accept\",\"dst\":\"192.0.2.9\",\"not_dport\":80}]}";

enum outcome { SAME, OTHER, NO_MEMORY, REFUSED, NOT_REACHED, CRASHED, OUTCOMES };

static enum policy_verdict judge(struct fixture *fixture, const char *dst, uint16_t dport,
				 uint16_t sport)
{
	struct pkt pkt = tcp_to(dst, dport);

	pkt.sport = sport;
	return decide(fixture, &pkt).verdict;
}

static bool judges_as_written(struct policy *policy)
{
	struct fixture fixture = {.policy = policy};
	bool good;

	assert_int_equal(policy_state_init(&fixture.state, policy, counters), 0);
	good = policy_info(policy)->rule_count == 3 &&
	       judge(&fixture, "192.0.2.1", 41, 1) == POLICY_VERDICT_ACCEPT &&
	       judge(&fixture, "2001:db8::1", 41, 1) == POLICY_VERDICT_ACCEPT &&
	       judge(&fixture, "192.0.2.2", 41, 1) == POLICY_VERDICT_DROP &&
	       judge(&fixture, "192.0.2.9", 41, 1) == POLICY_VERDICT_DROP &&
	       judge(&fixture, "192.0.2.1", 41, 5000) == POLICY_VERDICT_DROP;
	for (uint16_t port = 1; port <= 40; port++)
		good = good && judge(&fixture, "192.0.2.1", port, 1) == POLICY_VERDICT_DROP;
	policy_state_free(&fixture.state);
	return good;
}

static void fail_from(long nth, bool all)
{
#ifndef __SANITIZE_ADDRESS__
	countdown = nth;
	for_good = all;
#else
	(void)nth;
	(void)all;
#endif
}

/* Return: were there so many allocations? */
static bool fail_no_more(void)
{
	bool reached = true;

#ifndef __SANITIZE_ADDRESS__
	reached = for_good ? countdown <= 1 : countdown == 0;
	countdown = 0;
#endif
	return reached;
}

static enum outcome compile(long nth, bool all)
{
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;
	enum outcome outcome;
	int err;

	fail_from(nth, all);
	err = policy_compile(text, sizeof(text) - 1, &policy, &problems);
	if (!fail_no_more())
		err = -ECHILD;
	if (err == -ECHILD)
		outcome = NOT_REACHED;
	else if (err)
		outcome = err == -ENOMEM ? NO_MEMORY : REFUSED;
	else
		outcome = judges_as_written(policy) ? SAME : OTHER;
	policy_problems_free(&problems);
	policy_unref(policy);
	return outcome;
}

static enum outcome read_document(long nth, bool all)
{
	struct json_object *whole, *read;
	enum outcome outcome;
	int err;

	assert_int_equal(document_parse(text, sizeof(text) - 1, &whole), 0);
	fail_from(nth, all);
	err = document_parse(text, sizeof(text) - 1, &read);
	if (!fail_no_more())
		outcome = NOT_REACHED;
	else if (err)
		outcome = err == -EINVAL ? REFUSED : NO_MEMORY;
	else
		outcome = json_object_equal(read, whole) ? SAME : OTHER;
	json_object_put(read);
	json_object_put(whole);
	return outcome;
}

static void test_as_written(void **test)
{
	(void)test;
	assert_int_equal(compile(0, false), SAME);
	assert_int_equal(read_document(0, false), SAME);
}

/* json-c (0.16) takes this pair of surrogates for no character at all: it must not be missed. */
static void test_pair_of_surrogates(void **test)
{
	struct fixture fixture = open_policy(
		"{'version':1,'comment':'\\ud836\\udc30','rules':[{'name':'a','action':'drop',"
		"'comment':'\\ud8b6\\udfa1 \\ud83d\\ude00 \\u00e9'}]}");

	(void)test;
	close_policy(&fixture);
}

#ifndef __SANITIZE_ADDRESS__
typedef enum outcome reader(long nth, bool all);

static enum outcome in_child(reader *read, long nth, bool all)
{
	static const struct rlimit no_core = {.rlim_cur = 0};
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGSEGV, SIG_DFL); /* cmocka would tell of it as its own */
		_exit(read(nth, all));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return CRASHED;
	return (enum outcome)WEXITSTATUS(status);
}

static void fail_each(reader *read, bool all)
{
	unsigned int seen[OUTCOMES] = {0};
	enum outcome outcome;

	for (long nth = 1; seen[NOT_REACHED] == 0; nth++) {
		assert_true(nth < 10000);
		outcome = in_child(read, nth, all);
		if (outcome == OTHER || outcome == REFUSED)
			fail_msg("allocation %ld%s: it %s", nth, all ? " and all after it" : "",
				 outcome == OTHER ? "is another" : "is said to be wrong");
		seen[outcome]++;
	}
	assert_true(seen[NO_MEMORY] > 0);
	print_message("%u refused, %u whole, %u crashed in json-c\n", seen[NO_MEMORY], seen[SAME],
		      seen[CRASHED]);
}

static void test_one_fails(void **test)
{
	(void)test;
	fail_each(compile, false);
	fail_each(read_document, false);
}

static void test_all_fail_from_then_on(void **test)
{
	(void)test;
	fail_each(compile, true);
	fail_each(read_document, true);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_written),
		cmocka_unit_test(test_pair_of_surrogates),
#ifndef __SANITIZE_ADDRESS__
		cmocka_unit_test(test_one_fails),
		cmocka_unit_test(test_all_fail_from_then_on),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
