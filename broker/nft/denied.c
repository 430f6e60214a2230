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
#include "broker/nft/set.h"

#include <linux/in.h>
#include <linux/netfilter.h>
#include <stdio.h>

#include "nsgate/hook.h"

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

static const uint8_t protocols[RULES_FAMILIES] = {
	[RULES_FAMILY_IPV4] = NFPROTO_IPV4,
	[RULES_FAMILY_IPV6] = NFPROTO_IPV6,
};

void rules_denied_set_name(char name[RULES_CHAIN_NAME_MAX], enum rules_family family, uint32_t hook)
{
	rules_chain_name(name, family == RULES_FAMILY_IPV4 ? "denied4" : "denied6", hook);
}

bool rules_denies(const struct rules_set *set, uint32_t hook)
{
	return set->denied && set->hooks & NSGATE_HOOK_BIT(hook) && rules_hook_offloads(hook);
}

static bool remembers(const struct rules_set *set, uint32_t hook)
{
	return rules_denies(set, hook) && set->sets;
}

void rules_denied_sets(const struct rules_set *set, uint32_t hook, const bool exist[RULES_FAMILIES])
{
	for (int family = 0; family < RULES_FAMILIES; family++) {
		char name[RULES_CHAIN_NAME_MAX];
		const struct nft_set wanted = {
			.name = name,
			.key_type = nft_flow_type(protocols[family]),
			.key_bytes = nft_flow_bytes(protocols[family]),
			.size = FLOWS_MAX,
			.timeout_ms = TIMEOUT_MS,
			.sweep_ms = SWEEP_MS,
		};

		rules_denied_set_name(name, (enum rules_family)family, hook);
		if (exist[family])
			nft_delete_set(set->batch, name);
		if (remembers(set, hook))
			nft_add_set(set->batch, &wanted);
	}
}

static enum nsgate_counter denied_counter(uint32_t hook)
{
	if (hook == NSGATE_HOOK_FORWARD)
		return NSGATE_COUNTER_DENIED_FORWARD;
	return hook == NSGATE_HOOK_IN ? NSGATE_COUNTER_DENIED_IN : NSGATE_COUNTER_DENIED_OUT;
}

/* chain denied_<hook>: packets that the agent sent round with that answer. */
static void note_rules(const struct rules_set *set, uint32_t hook)
{
	struct nft_batch *batch = set->batch;
	char chain[RULES_CHAIN_NAME_MAX], name[RULES_CHAIN_NAME_MAX];

	rules_chain_name(chain, "denied", hook);
	nft_add_chain(batch, chain);

	/* add @denied4_in { ip saddr . ip daddr . meta l4proto . th sport . th dport } */
	for (int family = 0; remembers(set, hook) && family < RULES_FAMILIES; family++) {
		rules_denied_set_name(name, (enum rules_family)family, hook);
		nft_rule_begin(batch, chain);
		nft_load_flow(batch, protocols[family]);
		nft_add_element(batch, name);
		nft_rule_end(batch);
	}

	/* drop */
	nft_rule_begin(batch, chain);
	nft_verdict(batch, NF_DROP);
	nft_rule_end(batch);
}

/* chain dropped_<hook>: packets of denied flows. The books are by direction and by protocol. */
static void drop_rules(const struct rules_set *set, uint32_t hook)
{
	static const struct {
		uint8_t protocol;
		enum nsgate_counter counter;
	} counted[] = {
		{IPPROTO_TCP, NSGATE_COUNTER_DENIED_TCP},
		{IPPROTO_UDP, NSGATE_COUNTER_DENIED_UDP},
	};
	struct nft_batch *batch = set->batch;
	char chain[RULES_CHAIN_NAME_MAX];

	rules_chain_name(chain, "dropped", hook);
	nft_add_chain(batch, chain);

	/* counter name denied_in */
	nft_rule_begin(batch, chain);
	nft_count(batch, nsgate_counter_names[denied_counter(hook)]);
	nft_rule_end(batch);

	/* meta l4proto tcp counter name denied_tcp drop */
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
		nft_rule_begin(batch, chain);
		nft_match_protocol(batch, NFT_META_L4PROTO, counted[i].protocol);
		nft_count(batch, nsgate_counter_names[counted[i].counter]);
		nft_verdict(batch, NF_DROP);
		nft_rule_end(batch);
	}

	/* counter name denied_other drop */
	nft_rule_begin(batch, chain);
	nft_count(batch, nsgate_counter_names[NSGATE_COUNTER_DENIED_OTHER]);
	nft_verdict(batch, NF_DROP);
	nft_rule_end(batch);
}

void rules_denied_chains(const struct rules_set *set, uint32_t hook)
{
	note_rules(set, hook);
	if (remembers(set, hook))
		drop_rules(set, hook);
}

void rules_denied_drop(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char name[RULES_CHAIN_NAME_MAX], dropped[RULES_CHAIN_NAME_MAX];

	rules_chain_name(dropped, "dropped", hook);
	/* ip saddr . ip daddr . meta l4proto . th sport . th dport @denied4_in goto dropped_in */
	for (int family = 0; remembers(set, hook) && family < RULES_FAMILIES; family++) {
		rules_denied_set_name(name, (enum rules_family)family, hook);
		nft_rule_begin(set->batch, chain);
		nft_load_flow(set->batch, protocols[family]);
		nft_lookup(set->batch, name);
		nft_branch(set->batch, NFT_GOTO, dropped);
		nft_rule_end(set->batch);
	}
}
