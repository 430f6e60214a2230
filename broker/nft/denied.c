/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A dropped first packet never confirms its conntrack entry, so no label can say that a flow was
 * denied. Sets do: denied4_<hook> and denied6_<hook> hold the flows, and judge_<hook>
 * sends what is in there to dropped_<hook>, which counts and drops it. Only packets of the original
 * direction come so far (broker/nft/judge.c): replies, and what the kernel itself says of a flow,
 * are none of a denial's business.
 *
 * The agent answers a packet whose flow is to be noted with NF_REPEAT and the mark
 * NSGATE_ANSWER_DENY. So the packet enters judge_<hook> again at once, and nothing stands between
 * the answer and the drop. A container that sends packets with that mark denies its own flows. The
 * chain ends with the drop, whether there was room in the set or not, a flow to note or none, and
 * sets in this kernel or none. Where judge_<hook> is empty, settle_<hook> drops it.
 *
 * Each replacement of the rules begins with new sets. The kernel adds to the old ones until the
 * moment that the new ones are in force; and the agent tells of no denial by one policy while the
 * rules are of another (agent/ns/policy.c). So what a set holds was denied by the policy in force.
 */
#include "broker/nft/denied.h"

#include <linux/in.h>
#include <linux/netfilter.h>

#include "nsgate/hook.h"
#include "broker/nft/rule.h"

/*
 * How long a denial lasts. Long enough for what is tried again (TCP sends most of its SYNs in that
 * time, a resolver its question for some 10 s) to cost one question; short, as who looks at the
 * hits of a rule or at its log lines sees a flow that goes on but once in this time.
 */
#define TIMEOUT_MS 30000

/* A flow that has timed out takes its place until then. The kernel walks the whole set for it. */
#define SWEEP_MS 10000

/*
 * Flows of a set. It bounds the kernel's memory where somebody makes up source addresses: 0.1 MB.
 * When the set is full, further flows are decided packet by packet, as without it. The kernel makes
 * room for all of them beforehand: 16 KiB.
 */
#define FLOWS_MAX 768

void denied_sets_add(const struct rules_set *set, uint32_t hook, const bool exist[RULES_FAMILIES])
{
	for (int family = 0; family < RULES_FAMILIES; family++) {
		char name[RULES_CHAIN_NAME_MAX];
		const struct nft_set wanted = {
			.name = name,
			.key_type = rules_flow_type((enum rules_family)family),
			.key_bytes = rules_flow_bytes((enum rules_family)family),
			.size = FLOWS_MAX,
			.timeout_ms = TIMEOUT_MS,
			.sweep_ms = SWEEP_MS,
		};

		rules_denied_set_name(name, (enum rules_family)family, hook);
		if (exist[family])
			nft_delete_set(set->batch, name);
		if (rules_remembers(set, hook))
			nft_add_set(set->batch, &wanted);
	}
}

/* Packets that the agent sent round with that answer. */
static const struct rule denied_rules[] = {
	{IF_REMEMBERS, {{do_note_denied, RULES_FAMILY_IPV4}}},
	{IF_REMEMBERS, {{do_note_denied, RULES_FAMILY_IPV6}}},
	{0, {{do_verdict, NF_DROP}}},
};

/* Packets of denied flows. The books are by direction and by protocol. */
static const struct rule dropped_rules[] = {
	{0, {{do_count_denied}}},
	{0,
	 {{on_l4proto, IPPROTO_TCP}, {do_count, NSGATE_COUNTER_DENIED_TCP}, {do_verdict, NF_DROP}}},
	{0,
	 {{on_l4proto, IPPROTO_UDP}, {do_count, NSGATE_COUNTER_DENIED_UDP}, {do_verdict, NF_DROP}}},
	{0, {{do_count, NSGATE_COUNTER_DENIED_OTHER}, {do_verdict, NF_DROP}}},
};

static const struct rule_chain denied_chains[] = {
	{ROLE_DENIED, 0, IF_DENIES, RULES(denied_rules)},
	{ROLE_DROPPED, 0, IF_REMEMBERS, RULES(dropped_rules)},
};

void denied_chains_add(const struct rules_set *set, uint32_t hook)
{
	rule_chains_add(set, hook, denied_chains, sizeof(denied_chains) / sizeof(denied_chains[0]));
}
