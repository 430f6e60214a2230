/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rule sets as text, against the files below tests/unit/rules: one for each set of hooks and
 * mode. What is printed is the batch that rules_install() sends, so neither the kernel nor the
 * release of nft(8) matters.
 *
 * NSGATE_GOLDEN=write (`make golden`) writes the files anew.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/nft/rules.h"
#include "netlink.h"
#include "nsgate/hook.h"
#include "nft_text.h"

#define HOOK(name) NSGATE_HOOK_BIT(NSGATE_HOOK_##name)

/* ---- a kernel that has nothing yet, and lacks what a mode says ---- */

static struct {
	FILE *out;
	bool lacks_sets, lacks_labels, lacks_conntrack;
} kernel;

struct needs {
	bool sets, labels, conntrack;
};

static int note_need(struct nftnl_expr *expr, void *data)
{
	const char *name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
	struct needs *needs = data;

	needs->sets |= strcmp(name, "dynset") == 0;
	needs->conntrack |= strcmp(name, "ct") == 0;
	needs->labels |= strcmp(name, "ct") == 0 &&
			 nftnl_expr_get_u32(expr, NFTNL_EXPR_CT_KEY) == NFT_CT_LABELS;
	return 0;
}

static struct needs needs_of(const void *batch, size_t length)
{
	const struct nlmsghdr *nlh = batch;
	struct needs needs = {.sets = false};
	int left = (int)length;

	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
		struct nftnl_rule *rule = nftnl_rule_alloc();

		assert_non_null(rule);
		if (nlh->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE) &&
		    nftnl_rule_nlmsg_parse(nlh, rule) == 0)
			nftnl_expr_foreach(rule, note_need, &needs);
		nftnl_rule_free(rule);
	}
	return needs;
}

/* In place of lib/netlink.c. */
uint32_t netlink_sequence(void)
{
	static uint32_t sequence;

	return ++sequence;
}

int netlink_request(int fd, struct nlmsghdr *nlh, netlink_handler handler, void *data)
{
	(void)fd;
	(void)nlh;
	(void)handler;
	(void)data;
	return -ENOENT;
}

int netlink_exchange(int fd, const struct netlink_exchange *exchange)
{
	const struct nlmsghdr *nlh = exchange->request;
	struct needs needs;

	(void)fd;
	if (nlh->nlmsg_type != NFNL_MSG_BATCH_BEGIN) /* a dump: nothing is there */
		return 0;
	needs = needs_of(exchange->request, exchange->length);
	if ((kernel.lacks_sets && needs.sets) || (kernel.lacks_labels && needs.labels) ||
	    (kernel.lacks_conntrack && needs.conntrack))
		return -ENOENT;
	print_batch(kernel.out, exchange->request, exchange->length);
	return 0;
}

/* ---- the files ---- */

#define DENIED (NSGATE_RULES_OFFLOAD | NSGATE_RULES_DENIED)
#define IN_OUT (HOOK(IN) | HOOK(OUT))
#define PRE_POST (HOOK(PREROUTING) | HOOK(POSTROUTING))
#define OFFLOAD NSGATE_RULES_OFFLOAD
#define STRICT NSGATE_RULES_STRICT

static const struct golden {
	const char *name;
	uint32_t hooks, flags;
	bool opened, owned, native, no_fib, no_sets, no_labels, no_conntrack;
} goldens[] = {
	{.name = "in_out", .hooks = IN_OUT, .flags = 0},
	{.name = "in_out_offload", .hooks = IN_OUT, .flags = OFFLOAD},
	{.name = "in_out_names", .hooks = IN_OUT, .flags = OFFLOAD | NSGATE_RULES_NAMES},
	{.name = "in_out_denied", .hooks = IN_OUT, .flags = DENIED},
	{.name = "in_out_strict", .hooks = IN_OUT, .flags = STRICT},
	{.name = "in_out_strict_denied", .hooks = IN_OUT, .flags = STRICT | DENIED},
	{.name = "forward", .hooks = HOOK(FORWARD), .flags = 0},
	{.name = "forward_offload", .hooks = HOOK(FORWARD), .flags = OFFLOAD},
	{.name = "forward_denied", .hooks = HOOK(FORWARD), .flags = DENIED},
	{.name = "forward_strict", .hooks = HOOK(FORWARD), .flags = STRICT},
	{.name = "forward_strict_denied", .hooks = HOOK(FORWARD), .flags = STRICT | DENIED},
	{.name = "pre_post", .hooks = PRE_POST, .flags = 0},
	{.name = "pre_post_strict_denied", .hooks = PRE_POST, .flags = STRICT | DENIED},
	{.name = "post_denied", .hooks = HOOK(POSTROUTING), .flags = DENIED},
	{.name = "in_denied", .hooks = HOOK(IN), .flags = DENIED},
	{.name = "all_hooks", .hooks = NSGATE_HOOK_BIT(NSGATE_HOOK_MAX) - 1, .flags = 0},
	{.name = "out_owned", .hooks = HOOK(OUT), .flags = STRICT, .owned = true},
	{.name = "out_native_queue", .hooks = HOOK(OUT), .flags = 0, .native = true},
	{.name = "bypass_denied", .hooks = IN_OUT, .flags = NSGATE_RULES_BYPASS | DENIED},
	{.name = "overload", .hooks = IN_OUT, .flags = NSGATE_RULES_OVERLOAD},
	{.name = "consumers", .hooks = IN_OUT, .flags = NSGATE_RULES_CONSUMERS},
	{.name = "opened_denied",
	 .hooks = IN_OUT,
	 .flags = NSGATE_RULES_BYPASS | DENIED,
	 .opened = true},
	{.name = "no_fib", .hooks = HOOK(OUT) | HOOK(POSTROUTING), .flags = 0, .no_fib = true},
	{.name = "post_no_fib", .hooks = HOOK(POSTROUTING), .flags = 0, .no_fib = true},
	{.name = "no_sets", .hooks = HOOK(OUT), .flags = DENIED, .no_sets = true},
	{.name = "forward_opened",
	 .hooks = HOOK(FORWARD),
	 .flags = NSGATE_RULES_BYPASS,
	 .opened = true},
	{.name = "no_labels", .hooks = HOOK(OUT), .flags = DENIED, .no_labels = true},
	{.name = "no_conntrack", .hooks = HOOK(OUT), .flags = DENIED, .no_conntrack = true},
};

static void print_rule_set(FILE *out, const struct golden *golden)
{
	static const struct nsgate_link loopback = {.ifindex = NSGATE_LOOPBACK_INDEX, .name = "lo"};
	const struct rules_queues queues = {
		.backend = golden->native ? NSGATE_BACKEND_NFT_QUEUE : NSGATE_BACKEND_NFT_XT,
		.owned = golden->owned,
		.fib = !golden->no_fib,
		.cookie = COOKIE,
		.first = QUEUE_FIRST,
		.count = QUEUE_COUNT,
		.links = {.list = &loopback, .count = 1},
	};
	const struct nsgate_rules_spec spec = {
		.hooks = golden->hooks,
		.flags = golden->flags,
		.generation = 1,
		.bypass_count = golden->flags & NSGATE_RULES_CONSUMERS ? 2 : 0,
		.bypass = {{.value = 1, .mask = 1}, {.value = 0x20, .mask = 0xf0}},
	};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* knows the links' names */

	assert_true(fd >= 0);
	kernel.out = out;
	kernel.lacks_sets = golden->no_sets;
	kernel.lacks_labels = golden->no_labels;
	kernel.lacks_conntrack = golden->no_conntrack;
	assert_int_equal(golden->opened ? rules_open(fd, &queues, &spec)
					: rules_install(fd, &queues, &spec),
			 0);
	close(fd);
}

#define FILES "tests/unit/rules/"

static bool writes(void)
{
	const char *golden = getenv("NSGATE_GOLDEN");

	return golden && strcmp(golden, "write") == 0;
}

/* The difference goes to where the test's own words go. Return: whether there is one. */
static bool differs(const char *file, const char *text)
{
	char command[512];
	FILE *diff;

	snprintf(command, sizeof(command), "diff -u --label %s --label now %s - >&2", file, file);
	diff = popen(command, "we"); /* NOLINT(bugprone-command-processor,cert-env33-c): diff */
	assert_non_null(diff);
	fputs(text, diff);
	return pclose(diff) != 0;
}

static bool is_as_before(const struct golden *golden)
{
	char file[128], *text = NULL;
	size_t length;
	bool same = true;
	FILE *out = open_memstream(&text, &length);

	assert_non_null(out);
	print_rule_set(out, golden);
	assert_int_equal(fclose(out), 0);
	snprintf(file, sizeof(file), FILES "%s.nft", golden->name);
	if (writes()) {
		out = fopen(file, "we");
		assert_non_null(out);
		fputs(text, out);
		assert_int_equal(fclose(out), 0);
	} else {
		same = !differs(file, text);
	}
	free(text);
	return same;
}

static void every_rule_set_has_its_text(void **state)
{
	bool same = true;

	(void)state;
	for (size_t i = 0; i < COUNT(goldens); i++)
		same &= is_as_before(&goldens[i]);
	if (!same)
		fail_msg("the rules are not those of " FILES ": see above. If they are meant to "
			 "be so, `make golden` writes the files anew, and git tells what changed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_rule_set_has_its_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
