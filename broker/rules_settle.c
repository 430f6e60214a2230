/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * settle_<hook> sees every packet that judge_<hook> or the agent let through, and acts on the
 * agent's answer in the packet mark. A packet that was not queued carries nothing there and
 * leaves at the first rule. One that was queued and let pass without the agent still bears
 * NSGATE_MARK_UNJUDGED, and is counted. In the hook out the chain is of type route: where the agent
 * changed the mark, the kernel has just routed the packet by a mark with nsgate's byte in it, and
 * has to do so again by the mark that the routing rules may know. The notice that a rejection sends
 * passes the hooks as any packet, so the flow is noted as rejected before it is made (see
 * rules_judge.c).
 */
#include "rules_set.h"

#include <linux/in.h>
#include <linux/netfilter.h>

#include "nsgate/hook.h"
#include "nsgate/mark.h"

/*
 * chain clear_out: what the agent accepted without touching the mark has only judge_out's own bits
 * in it, and was routed before they came. Without them it is at settle_out as if it had not been
 * queued, and is not routed again, which is a twelfth of what a leaving packet costs.
 */
static void clear_rules(const struct rules_set *set)
{
	const uint32_t for_settling =
		NSGATE_MARK_REMEMBER | NSGATE_MARK_REJECT | NSGATE_MARK_UNJUDGED;
	struct nft_batch *batch = set->batch;
	char chain[RULES_CHAIN_NAME_MAX];

	rules_chain_name(chain, "clear", NSGATE_HOOK_OUT);
	nft_add_base_chain(batch, chain, "filter", NSGATE_HOOK_OUT, RULES_CLEAR_PRIORITY);

	/* meta mark & 0x70000000 == 0 meta mark set meta mark & 0x00ffffff */
	nft_rule_begin(batch, chain);
	nft_match_meta(batch, NFT_META_MARK, for_settling, NFT_CMP_EQ, 0);
	nft_set_meta_mark(batch, ~NSGATE_MARK_MASK, 0);
	nft_rule_end(batch);
}

/* chain reject_<hook> */
static void reject_rules(const struct rules_set *set, uint32_t hook)
{
	struct nft_batch *batch = set->batch;
	char chain[RULES_CHAIN_NAME_MAX];

	rules_chain_name(chain, "reject", hook);
	nft_add_chain(batch, chain);

	/* meta mark 0xa9c35e71 drop: an answer to judge_<hook>, which has been emptied since */
	nft_rule_begin(batch, chain);
	nft_match_meta(batch, NFT_META_MARK, UINT32_MAX, NFT_CMP_EQ, NSGATE_MARK_DENIED);
	nft_verdict(batch, NF_DROP);
	nft_rule_end(batch);

	/* ct mark set ct mark | 0x10000000; a rule of its own: a packet may have no entry */
	if (set->ct_mark) {
		nft_rule_begin(batch, chain);
		nft_set_ct_mark(batch, UINT32_MAX, NSGATE_CTMARK_REJECTED);
		nft_rule_end(batch);
	}

	/* The kernel takes `reject` in every hook but postrouting: there, just drop. */
	nft_rule_begin(batch, chain);
	if (hook == NSGATE_HOOK_POSTROUTING) {
		nft_verdict(batch, NF_DROP);
		nft_rule_end(batch);
		return;
	}

	/* meta l4proto tcp reject with tcp reset */
	nft_match_protocol(batch, NFT_META_L4PROTO, IPPROTO_TCP);
	nft_reject_tcp_reset(batch);
	nft_rule_end(batch);

	/* reject with icmpx port-unreachable */
	nft_rule_begin(batch, chain);
	nft_reject_port_unreachable(batch);
	nft_rule_end(batch);
}

static void remember_rules(const struct rules_set *set, const char *chain, uint32_t hook)
{
	struct nft_batch *batch = set->batch;
	uint32_t bit = rules_remember_bit(set->hooks, hook);
	uint32_t generation = set->generation << NSGATE_CTMARK_GEN_SHIFT;

	if (!set->ct_mark || !bit)
		return;

	/* meta mark & 0x10000000 != 0 ct mark & 0x0fff0000 == 0x00010000 ct mark set ct mark | B */
	nft_rule_begin(batch, chain);
	nft_match_meta(batch, NFT_META_MARK, NSGATE_MARK_REMEMBER, NFT_CMP_NEQ, 0);
	nft_match_ct(batch, NFT_CT_MARK, NSGATE_CTMARK_GEN_MASK, NFT_CMP_EQ, generation);
	nft_set_ct_mark(batch, UINT32_MAX, bit);
	nft_rule_end(batch);

	/* ... != 0x00010000 ct mark set ct mark & 0x0000ffff | 0x00010000 | B */
	nft_rule_begin(batch, chain);
	nft_match_meta(batch, NFT_META_MARK, NSGATE_MARK_REMEMBER, NFT_CMP_NEQ, 0);
	nft_match_ct(batch, NFT_CT_MARK, NSGATE_CTMARK_GEN_MASK, NFT_CMP_NEQ, generation);
	nft_set_ct_mark(batch, ~NSGATE_CTMARK_MASK, generation | bit);
	nft_rule_end(batch);
}

void rules_settle(const struct rules_set *set, uint32_t hook)
{
	struct nft_batch *batch = set->batch;
	char chain[RULES_CHAIN_NAME_MAX], reject[RULES_CHAIN_NAME_MAX];

	if (hook == NSGATE_HOOK_OUT)
		clear_rules(set);
	reject_rules(set, hook);
	rules_chain_name(reject, "reject", hook);
	rules_chain_name(chain, "settle", hook);
	nft_add_base_chain(batch, chain, hook == NSGATE_HOOK_OUT ? "route" : "filter", hook,
			   RULES_SETTLE_PRIORITY);

	/* meta mark & 0xff000000 == 0 accept */
	nft_rule_begin(batch, chain);
	nft_match_meta(batch, NFT_META_MARK, NSGATE_MARK_MASK, NFT_CMP_EQ, 0);
	nft_verdict(batch, NF_ACCEPT);
	nft_rule_end(batch);

	/* meta mark & 0x40000000 != 0 counter name C */
	if (set->may_pass) {
		nft_rule_begin(batch, chain);
		nft_match_meta(batch, NFT_META_MARK, NSGATE_MARK_UNJUDGED, NFT_CMP_NEQ, 0);
		nft_count(batch, nsgate_counter_names[set->unjudged]);
		nft_rule_end(batch);
	}

	/* meta mark & 0x20000000 != 0 goto reject_in */
	nft_rule_begin(batch, chain);
	nft_match_meta(batch, NFT_META_MARK, NSGATE_MARK_REJECT, NFT_CMP_NEQ, 0);
	nft_branch(batch, NFT_GOTO, reject);
	nft_rule_end(batch);

	remember_rules(set, chain, hook);

	/* meta mark set meta mark & 0x00ffffff */
	nft_rule_begin(batch, chain);
	nft_set_meta_mark(batch, ~NSGATE_MARK_MASK, 0);
	nft_rule_end(batch);
}
