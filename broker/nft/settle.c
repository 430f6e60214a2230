/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * settle_<hook> sees every packet that judge_<hook> or the agent let through, and notes its flow in
 * the conntrack entry's label: that it passed this way, and that the policy in force accepted it.
 * It is there in the hooks in, out and forward whether they are judged or not, as replies are known
 * by the way that the first packets came. It decides nothing, and leaves marks as they are.
 *
 * What reaches it was accepted, with three exceptions that may only pass: where nobody judges
 * (`opened`), and where a policy lets packets pass without a verdict or hands them to other
 * programs (`selective`). There a flow is accepted if the agent's mark "remember" says so, or if
 * the mark that the policy names for it does, which a consumer sets ("bypass_mark").
 *
 * Errors and replies note nothing. A first packet of TCP that is no SYN is of a connection that
 * was there before; which of its ends opened it is not known, and that is noted, too. So is it of
 * a flow that is established when its first packet comes here: conntrack begins to look some time
 * before the rules of a batch are in force, and takes whichever packet it sees first for the first.
 *
 * An answer that goes round the hook ends in judge_<hook>. Where that has been emptied, as before a
 * detach, the packet comes here, and is dropped.
 */
#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>

#include "nsgate/hook.h"
#include "broker/nft/set.h"
#include "broker/nft/way.h"

#define STATE_NEW NF_CT_STATE_BIT(IP_CT_NEW)
#define STATE_ESTABLISHED NF_CT_STATE_BIT(IP_CT_ESTABLISHED)
#define STATE_RELATED NF_CT_STATE_BIT(IP_CT_RELATED)
#define TCP_FLAGS_OFFSET 13
#define TCP_FLAG_BYTE_SYN 0x02

void rules_match_answer(const struct rules_set *set, enum nsgate_answer answer)
{
	nft_match_meta(set->batch, NFT_META_MARK, UINT32_MAX, NFT_CMP_EQ, set->answers[answer]);
}

/* ---- answers ---- */

/*
 * chain reject_<hook>. Its answer goes to the packet's source, which the sender chose: it is sent
 * only if it comes back here, or to the link that the packet came by.
 */
void rules_reject_chain(const struct rules_set *set, uint32_t hook)
{
	struct nft_batch *batch = set->batch;
	char chain[RULES_CHAIN_NAME_MAX];

	rules_chain_name(chain, "reject", hook);
	nft_add_chain(batch, chain);

	/* The kernel takes `reject` in every hook but postrouting: there, just drop. */
	if (hook == NSGATE_HOOK_POSTROUTING) {
		nft_rule_begin(batch, chain);
		nft_verdict(batch, NF_DROP);
		nft_rule_end(batch);
		return;
	}

	/* out: fib saddr type != local drop; in: iif lo fib saddr type != local drop */
	if (hook != NSGATE_HOOK_FORWARD) {
		nft_rule_begin(batch, chain);
		if (rules_hook_incoming(hook))
			rules_match_links(batch, RULES_LOOP_IN);
		if (set->fib)
			nft_match_local_source(batch, NFT_CMP_NEQ);
		nft_verdict(batch, NF_DROP);
		nft_rule_end(batch);
	}

	/* in, forward: iif != lo fib saddr . iif oif missing drop */
	if (hook != NSGATE_HOOK_OUT && set->fib) {
		nft_rule_begin(batch, chain);
		rules_match_links(batch, RULES_LINK_IN);
		nft_match_source_elsewhere(batch);
		nft_verdict(batch, NF_DROP);
		nft_rule_end(batch);
	}

	/* meta l4proto tcp reject with tcp reset */
	nft_rule_begin(batch, chain);
	nft_match_protocol(batch, NFT_META_L4PROTO, IPPROTO_TCP);
	nft_reject_tcp_reset(batch);
	nft_rule_end(batch);

	/* reject with icmpx port-unreachable */
	nft_rule_begin(batch, chain);
	nft_reject_port_unreachable(batch);
	nft_rule_end(batch);
}

/* ---- noting ---- */

static void accept_if_noted(const struct rules_set *set, const char *chain,
			    const struct rules_ways *ways)
{
	uint32_t wanted = 0;

	/*
	 * Over the loopback a packet passes two hooks, so the other one's note says nothing of this
	 * one; on a link it does.
	 */
	for (size_t i = 0; i < ways->count; i++) {
		wanted |= 1U << ways->list[i].own;
		wanted |= ways->list[i].answers & ~(1U << NSGATE_WAY_IN_LOOP) &
			  ~(1U << NSGATE_WAY_OUT_LOOP);
	}
	/* ct label & L != 0 accept */
	nft_rule_begin(set->batch, chain);
	rules_match_accepted(set, wanted);
	nft_verdict(set->batch, NF_ACCEPT);
	nft_rule_end(set->batch);
}

static void accept_if_no_original(const struct rules_set *set, const char *chain)
{
	/* ct direction reply accept */
	nft_rule_begin(set->batch, chain);
	nft_match_ct_direction(set->batch, IP_CT_DIR_REPLY);
	nft_verdict(set->batch, NF_ACCEPT);
	nft_rule_end(set->batch);

	/* ct state related ct status & expected == 0 accept */
	nft_rule_begin(set->batch, chain);
	nft_match_ct(set->batch, NFT_CT_STATE, STATE_RELATED, NFT_CMP_NEQ, 0);
	nft_match_ct(set->batch, NFT_CT_STATUS, IPS_EXPECTED, NFT_CMP_EQ, 0);
	nft_verdict(set->batch, NF_ACCEPT);
	nft_rule_end(set->batch);
}

/*
 * chain unsure, to which packets go whose flow's direction is a guess; chain guessed, which says
 * which these are.
 *
 * An entry has room for a label if some rule sets labels when the entry is made, and the first
 * expression that asks for conntrack has it look at packets. So the rule of the former comes first
 * in a batch: entries that are made before the batch is in force can be noted later.
 */
void rules_unsure(const struct rules_set *set)
{
	static const char unsure[] = "unsure", guessed[] = "guessed";

	nft_add_chain(set->batch, unsure);
	nft_rule_begin(set->batch, unsure);
	rules_note_unsure(set);
	nft_rule_end(set->batch);

	/* meta l4proto tcp ct state new tcp flags & syn == 0 goto unsure */
	nft_add_chain(set->batch, guessed);
	nft_rule_begin(set->batch, guessed);
	nft_match_ct(set->batch, NFT_CT_STATE, STATE_NEW, NFT_CMP_NEQ, 0);
	nft_match_protocol(set->batch, NFT_META_L4PROTO, IPPROTO_TCP);
	nft_match_byte(set->batch, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_OFFSET,
		       TCP_FLAG_BYTE_SYN, 0);
	nft_branch(set->batch, NFT_GOTO, unsure);
	nft_rule_end(set->batch);

	/* ct state established ct label & passed == 0 goto unsure */
	nft_rule_begin(set->batch, guessed);
	nft_match_ct(set->batch, NFT_CT_STATE, STATE_ESTABLISHED, NFT_CMP_NEQ, 0);
	rules_match_passed(set, RULES_ANY_WAY, NFT_CMP_EQ);
	nft_branch(set->batch, NFT_GOTO, unsure);
	nft_rule_end(set->batch);
}

static void note_unsure(const struct rules_set *set, const char *chain)
{
	nft_rule_begin(set->batch, chain);
	nft_branch(set->batch, NFT_JUMP, "guessed");
	nft_rule_end(set->batch);
}

static void note_ways(const struct rules_set *set, const char *chain, const struct rules_ways *ways,
		      bool accepted)
{
	for (size_t i = 0; i < ways->count; i++) {
		nft_rule_begin(set->batch, chain);
		rules_match_links(set->batch, ways->list[i].links);
		rules_note(set, ways->list[i].own, accepted);
		nft_rule_end(set->batch);
	}
}

/* chain noted_<hook>: the flow is accepted. */
static void noted_rules(const struct rules_set *set, const char *chain,
			const struct rules_ways *ways)
{
	nft_add_chain(set->batch, chain);
	accept_if_no_original(set, chain);
	note_unsure(set, chain);
	note_ways(set, chain, ways, true);
}

/* ---- packets with a mark ---- */

static bool is_judged(const struct rules_set *set, uint32_t hook)
{
	return set->hooks & NSGATE_HOOK_BIT(hook);
}

static void drop_answer(const struct rules_set *set, const char *chain, enum nsgate_answer answer)
{
	nft_rule_begin(set->batch, chain);
	rules_match_answer(set, answer);
	nft_verdict(set->batch, NF_DROP);
	nft_rule_end(set->batch);
}

static void note_if_remembered(const struct rules_set *set, const char *chain, uint32_t hook)
{
	const bool notes = set->ct_label && set->selective && !set->opened && is_judged(set, hook);
	char noted[RULES_CHAIN_NAME_MAX];

	rules_chain_name(noted, "noted", hook);
	/* meta mark R meta mark set 0 goto noted_in */
	nft_rule_begin(set->batch, chain);
	rules_match_answer(set, NSGATE_ANSWER_REMEMBER);
	nft_clear_meta_mark(set->batch);
	if (notes)
		nft_branch(set->batch, NFT_GOTO, noted);
	nft_rule_end(set->batch);

	/* meta mark & MASK == VALUE goto noted_in */
	for (uint32_t i = 0; notes && i < set->bypass_count; i++) {
		nft_rule_begin(set->batch, chain);
		nft_match_meta(set->batch, NFT_META_MARK, set->bypass[i].mask, NFT_CMP_EQ,
			       set->bypass[i].value);
		nft_branch(set->batch, NFT_GOTO, noted);
		nft_rule_end(set->batch);
	}
}

static void jump_marked(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char marked[RULES_CHAIN_NAME_MAX];

	rules_chain_name(marked, "marked", hook);
	nft_add_chain(set->batch, marked);
	drop_answer(set, marked, NSGATE_ANSWER_REJECT);
	drop_answer(set, marked, NSGATE_ANSWER_DENY);
	note_if_remembered(set, marked, hook);

	/* meta mark != 0 jump marked_in */
	nft_rule_begin(set->batch, chain);
	nft_match_meta(set->batch, NFT_META_MARK, UINT32_MAX, NFT_CMP_NEQ, 0);
	nft_branch(set->batch, NFT_JUMP, marked);
	nft_rule_end(set->batch);
}

/*
 * Is what comes here accepted? In a hook that is not judged it is, unless another hook judges the
 * same packets: what leaves is judged in postrouting after it was here; what arrives was judged in
 * prerouting, and noted there.
 */
static bool is_accepted(const struct rules_set *set, uint32_t hook)
{
	if (is_judged(set, hook))
		return !set->selective && !set->opened;
	if (hook != NSGATE_HOOK_IN && is_judged(set, NSGATE_HOOK_POSTROUTING))
		return false;
	return hook == NSGATE_HOOK_OUT || !is_judged(set, NSGATE_HOOK_PREROUTING);
}

void rules_settle(const struct rules_set *set, uint32_t hook)
{
	const bool judged = is_judged(set, hook);
	const struct rules_ways ways = rules_ways(hook);
	char chain[RULES_CHAIN_NAME_MAX], noted[RULES_CHAIN_NAME_MAX];

	rules_chain_name(noted, "noted", hook);
	if (set->ct_label && judged && set->selective)
		noted_rules(set, noted, &ways);

	rules_chain_name(chain, "settle", hook);
	nft_add_base_chain(set->batch, chain, "filter", hook, RULES_SETTLE_PRIORITY);
	jump_marked(set, chain, hook);
	/* Prerouting sees before in does what in has to judge: left behind, it notes nothing. */
	if (!set->ct_label || !(judged || rules_hook_offloads(hook)))
		return;
	accept_if_noted(set, chain, &ways);
	accept_if_no_original(set, chain);
	note_unsure(set, chain);
	note_ways(set, chain, &ways, is_accepted(set, hook));
}
