/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: a policy document.
 *
 * Must hold: it is accepted without a problem or refused with at least one, and each problem is
 * one clean line with a JSON pointer; an accepted one gives back its source to the byte, compiles
 * to the same from it, and decides packets, replies included; nothing leaks.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "nsgate/hook.h"
#include "nsgate/limits.h"
#include "nsgate/shm.h"
#include "pkt.h"

#define OF_FLOW (PKT_HAVE_PORTS | PKT_HAVE_MAC)
#define ADDRESS4(a, b, c, d)                                                                       \
	{                                                                                          \
		.bytes = { a, b, c, d }                                                            \
	}
#define ADDRESS6(last)                                                                             \
	{                                                                                          \
		.bytes = { 0x20, 0x01, 0x0d, 0xb8, [15] = (last) }                                 \
	}

static const struct pkt packets[] = {
	{.hook = NSGATE_HOOK_OUT,
	 .direction = PKT_DIRECTION_OUT,
	 .family = AF_INET,
	 .protocol = IPPROTO_TCP,
	 .ttl = 64,
	 .length = 60,
	 .ct = PKT_CT_NEW,
	 .have = OF_FLOW | PKT_HAVE_TCP_FLAGS | PKT_HAVE_UID | PKT_HAVE_GID,
	 .tcp_flags = 2,
	 .uid = 1000,
	 .gid = 1000,
	 .sport = 40000,
	 .dport = 80,
	 .oif_bits = 1,
	 .l4_offset = 20,
	 .src = ADDRESS4(10, 0, 0, 1),
	 .dst = ADDRESS4(192, 0, 2, 1)},
	{.hook = NSGATE_HOOK_IN,
	 .direction = PKT_DIRECTION_IN,
	 .family = AF_INET,
	 .protocol = IPPROTO_UDP,
	 .ttl = 1,
	 .dscp = 46,
	 .length = 1500,
	 .have = OF_FLOW,
	 .sport = 53,
	 .dport = 53,
	 .iif_bits = 3,
	 .mark = 0x10,
	 .l4_offset = 20,
	 .src = ADDRESS4(10, 0, 0, 9),
	 .dst = ADDRESS4(10, 0, 0, 1)},
	{.hook = NSGATE_HOOK_FORWARD,
	 .direction = PKT_DIRECTION_FORWARD,
	 .family = AF_INET6,
	 .protocol = IPPROTO_ICMPV6,
	 .ttl = 255,
	 .length = 100,
	 .have = PKT_HAVE_ICMP | PKT_HAVE_MAC,
	 .icmp_type = 128,
	 .iif_bits = ~0ULL,
	 .oif_bits = ~0ULL,
	 .l4_offset = 40,
	 .src = ADDRESS6(1),
	 .dst = ADDRESS6(2)},
	{.hook = NSGATE_HOOK_IN,
	 .direction = PKT_DIRECTION_IN,
	 .family = AF_INET,
	 .protocol = IPPROTO_ICMP,
	 .ttl = 64,
	 .length = 84,
	 .have = PKT_HAVE_ICMP,
	 .ct = PKT_CT_REPLY | PKT_CT_ESTABLISHED,
	 .l4_offset = 20,
	 .src = ADDRESS4(8, 8, 8, 8),
	 .dst = ADDRESS4(10, 0, 0, 1)},
	{.hook = NSGATE_HOOK_OUT,
	 .direction = PKT_DIRECTION_OUT,
	 .family = AF_INET6,
	 .protocol = IPPROTO_UDP,
	 .ttl = 64,
	 .length = 70000,
	 .have = PKT_HAVE_FRAGMENT | PKT_HAVE_LATER_FRAGMENT,
	 .mark = 0xffffffff,
	 .l4_offset = 48,
	 .src = ADDRESS6(3),
	 .dst = ADDRESS6(4)},
	{.hook = NSGATE_HOOK_PREROUTING,
	 .direction = PKT_DIRECTION_IN,
	 .family = AF_INET6,
	 .protocol = IPPROTO_SCTP,
	 .length = 52,
	 .have = PKT_HAVE_PORTS | PKT_HAVE_FRAGMENT,
	 .dport = 65535,
	 .l4_offset = 48,
	 .src = ADDRESS6(0xff)},
	{.hook = NSGATE_HOOK_POSTROUTING,
	 .direction = PKT_DIRECTION_OUT,
	 .family = AF_INET,
	 .protocol = 255,
	 .length = 20,
	 .l4_offset = 20},
};

#define PACKETS (sizeof(packets) / sizeof(packets[0]))

static struct shm_rule counters[NSGATE_RULES_MAX];

static bool is_clean(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return false;
	return true;
}

static void check_refusal(int err, const struct policy *policy,
			  const struct policy_problems *problems)
{
	MUST(err == -EINVAL && !policy);
	MUST(problems->total > 0 && problems->count > 0);
	MUST(problems->count <= problems->total && problems->count <= POLICY_PROBLEMS_MAX);
	MUST(problems->count == problems->total || problems->count == POLICY_PROBLEMS_MAX);
	for (size_t i = 0; i < problems->count; i++) {
		const struct policy_problem *problem = &problems->list[i];

		MUST(problem->pointer && problem->message);
		MUST(!*problem->pointer || *problem->pointer == '/');
		MUST(*problem->message);
		MUST(is_clean(problem->pointer) && is_clean(problem->message));
	}
}

static void check_info(const struct policy_info *info)
{
	MUST(strlen(info->name) < NSGATE_NAME_MAX);
	MUST(info->hooks && info->hooks < NSGATE_HOOK_BIT(NSGATE_HOOK_MAX));
	MUST(info->copy_length >= 40 && info->copy_length <= 65531);
	MUST(info->rule_count <= NSGATE_RULES_MAX);
	MUST(info->ifpattern_count <= NSGATE_IFPATTERNS_MAX);
	MUST(info->limit_count <= info->rule_count);
	for (size_t i = 0; i < info->rule_count; i++) {
		MUST(*info->rules[i].name && strlen(info->rules[i].name) < NSGATE_NAME_MAX);
		MUST(info->rules[i].name_hash && info->rules[i].action < POLICY_ACTION_MAX);
		MUST((info->rules[i].bypass_value & ~info->rules[i].bypass_mask) == 0);
		MUST(!info->rules[i].bypass_mask || info->rules[i].bypass_value);
		MUST(info->rules[i].action == POLICY_ACTION_QUEUE ||
		     (!info->rules[i].bypass_mask && !info->rules[i].queue_open));
	}
}

/* Decide every packet of the table and what its reply would answer. */
static void decide_all(const struct policy *policy, struct policy_decision ret[static 2 * PACKETS])
{
	const size_t rules = policy_info(policy)->rule_count;
	struct policy_state state;
	struct pkt original;

	memset(counters, 0, rules * sizeof(*counters));
	MUST(policy_state_init(&state, policy, counters) == 0);
	state.now_ns = 1000000000;
	for (size_t i = 0; i < 2 * PACKETS; i++) {
		pkt_reverse(&original, &packets[i / 2]);
		policy_decide(policy, &state, i % 2 ? &original : &packets[i / 2], &ret[i]);
		MUST(ret[i].verdict < POLICY_VERDICT_MAX);
		MUST(ret[i].rule == POLICY_RULE_DEFAULT || (size_t)ret[i].rule < rules);
		/* A question about a reversed packet counts nothing. */
		MUST(i % 2 || ret[i].rule == POLICY_RULE_DEFAULT ||
		     counters[ret[i].rule].count.packets > 0);
	}
	policy_state_free(&state);
}

static void check_policy(const struct policy *policy, const char *text, size_t size)
{
	const struct policy_info *info = policy_info(policy);
	struct policy_decision first[2 * PACKETS], second[2 * PACKETS];
	struct policy_problems problems = {.count = 0};
	struct policy *again = NULL;
	size_t length;
	const char *source = policy_source(policy, &length);

	MUST(length == size && memcmp(source, text, size) == 0 && !source[size]);
	check_info(info);
	decide_all(policy, first);
	MUST(policy_compile(source, length, &again, &problems) == 0 && problems.total == 0);
	MUST(policy_info(again)->rule_count == info->rule_count &&
	     policy_info(again)->hooks == info->hooks &&
	     policy_info(again)->copy_length == info->copy_length);
	decide_all(again, second);
	for (size_t i = 0; i < 2 * PACKETS; i++)
		MUST(first[i].verdict == second[i].verdict && first[i].rule == second[i].rule &&
		     first[i].mark == second[i].mark);
	policy_unref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;
	const int err = policy_compile(text, size, &policy, &problems);

	if (err) {
		check_refusal(err, policy, &problems);
	} else {
		MUST(policy && problems.total == 0);
		check_policy(policy, text, size);
	}
	policy_problems_free(&problems);
	policy_unref(policy);
	return 0;
}
