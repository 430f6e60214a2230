/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The links of a namespace are known, or it is degraded and they are looked up again: none is
 * forgotten because memory was short when it came.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/rtnetlink.h>
#include <netlink/route/link.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/attachment.h"
#include "broker/release.h"
#include "netlink.h"
#include "timer.h"

#define SKIP 77

#ifdef __SANITIZE_ADDRESS__ /* which has an allocator of its own: there nothing fails */
#define CAN_FAIL false
static bool lists_fail, all_fails;
#else
#define CAN_FAIL true
static bool lists_fail, all_fails;

/* What glibc's own allocator is called inside. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);

void *malloc(size_t size)
{
	return all_fails ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return all_fails ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
	return all_fails || lists_fail ? NULL : __libc_realloc(block, size);
}
#endif

static struct nl_sock *changer;
static unsigned int told;

static void gone(struct attachment *attachment)
{
	(void)attachment;
}

static void linked(struct attachment *attachment)
{
	(void)attachment;
	told++;
}

static void add_link(const char *name)
{
	struct rtnl_link *link = rtnl_link_alloc();

	assert_non_null(link);
	rtnl_link_set_name(link, name);
	assert_int_equal(rtnl_link_set_type(link, "bridge"), 0);
	assert_int_equal(rtnl_link_add(changer, link, NLM_F_CREATE | NLM_F_EXCL), 0);
	rtnl_link_put(link);
}

static void remove_link(const char *name)
{
	struct rtnl_link *link = rtnl_link_alloc();

	assert_non_null(link);
	rtnl_link_set_name(link, name);
	assert_int_equal(rtnl_link_delete(changer, link), 0);
	rtnl_link_put(link);
}

static bool knows(const struct attachment *attachment, const char *name)
{
	unsigned int count, found = 0;
	const struct nsgate_link *list = links_list(attachment->links, &count);

	for (unsigned int i = 0; i < count; i++)
		found += strcmp(list[i].name, name) == 0;
	assert_true(found <= 1);
	return found;
}

/* Let the loop run until nothing is left to do at once. */
static void settle(void)
{
	for (int i = 0; i < 100; i++) {
		timer_run();
		assert_int_equal(loop_step(0), 0);
	}
}

/* Until the time has come to look again, and that is done. */
static void wait_for_next_look(void)
{
	int left;

	while ((left = timer_nearest_ms()) > 0)
		assert_int_equal(loop_step(left), 0);
	settle();
}

static struct attachment *watch(void)
{
	struct attachment *attachment;

	attachment_handlers(gone, linked);
	attachment = attachment_new();
	assert_non_null(attachment);
	attachment->netns.route = netlink_open(NETLINK_ROUTE);
	assert_true(attachment->netns.route >= 0);
	snprintf(attachment->record.name, sizeof(attachment->record.name), "test");
	assert_int_equal(attachment_watch(attachment), 0);
	assert_true(knows(attachment, "lo"));
	return attachment;
}

static void test_links_come_and_go(void **state)
{
	struct attachment *attachment = watch();

	(void)state;
	add_link("one");
	add_link("two");
	settle();
	assert_true(knows(attachment, "one") && knows(attachment, "two"));
	remove_link("one");
	settle();
	assert_true(!knows(attachment, "one") && knows(attachment, "two") &&
		    knows(attachment, "lo"));
	remove_link("two");
	settle();
	assert_string_equal(attachment->degraded, "");
	release(attachment);
}

/* One failure is nothing that anybody hears of. */
static void test_link_is_found_at_once_where_memory_is_back(void **state)
{
	struct attachment *attachment;

	(void)state;
	attachment = watch();
	add_link("one");
	lists_fail = true;
	assert_int_equal(loop_step(0), 0);
	lists_fail = false;
	settle();
	assert_true(knows(attachment, "one"));
	assert_string_equal(attachment->degraded, "");
	remove_link("one");
	release(attachment);
}

static void link_while_memory_is_short(bool *fails)
{
	struct attachment *attachment = watch();
	unsigned int before;

	add_link("old");
	settle();
	add_link("one");
	remove_link("old");
	*fails = true;
	for (int i = 0; i < 100; i++)
		assert_int_equal(loop_step(0), 0);
	wait_for_next_look();
	*fails = false;
	assert_true(knows(attachment, "lo") && !knows(attachment, "one"));
	assert_non_null(strstr(attachment->degraded, "memory is short"));
	assert_true(attachment->todo & TODO_STATE);

	before = told;
	wait_for_next_look();
	assert_true(knows(attachment, "lo") && knows(attachment, "one") &&
		    !knows(attachment, "old"));
	assert_string_equal(attachment->degraded, "");
	assert_true(attachment->todo & TODO_LINKS && told > before);
	assert_int_equal(timer_nearest_ms(), -1);

	remove_link("one");
	settle();
	assert_false(knows(attachment, "one"));
	release(attachment);
}

static void test_link_is_looked_up_again(void **state)
{
	(void)state;
	link_while_memory_is_short(&lists_fail);
}

static void test_the_same_where_nothing_can_be_allocated(void **state)
{
	(void)state;
	link_while_memory_is_short(&all_fails);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_links_come_and_go),
		cmocka_unit_test(test_link_is_found_at_once_where_memory_is_back),
		cmocka_unit_test(test_link_is_looked_up_again),
		cmocka_unit_test(test_the_same_where_nothing_can_be_allocated),
	};
	int failed;

	if (unshare(CLONE_NEWNET) < 0) {
		fprintf(stderr, "skipped: no privilege to make a network namespace\n");
		return SKIP;
	}
	changer = nl_socket_alloc();
	if (!changer || nl_connect(changer, NETLINK_ROUTE) < 0 || loop_open() < 0)
		return 1;
	/* The first one needs no failures. */
	failed = _cmocka_run_group_tests(
		"links", tests, CAN_FAIL ? sizeof(tests) / sizeof(tests[0]) : 1, NULL, NULL);
	nl_socket_free(changer);
	loop_close();
	return failed;
}
