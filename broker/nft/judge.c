/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * judge_<hook> ends with the packet accepted by what the kernel knows of its flow, or queued under
 * the number that says what that is (nsgate/flow.h). It reads marks only to tell the agent's
 * answers, and writes none. Accepting only leaves this chain: a later base chain, settle_<hook>
 * too, still sees the packet.
 *
 * Where nobody judges and all may pass, just the queue is left out.
 *
 * The kernel counts nowhere what it drops because nobody has bound the queue. So what is to be
 * queued is counted right before (agent/stats/unbound.c says what becomes of it).
 *
 * The order follows the number of packets: one test of the conntrack state sends the rare kinds to
 * odd_<hook> (broker/nft/odd.c), then flows that need no asking leave. Denied flows
 * (broker/nft/denied.c) come last: only what would be queued as a packet of the original direction
 * is looked up.
 */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/rtnetlink.h>

#include "nsgate/hook.h"
#include "broker/nft/guard.h"
#include "broker/nft/odd.h"
#include "broker/nft/way.h"

#define STATE_NEW NF_CT_STATE_BIT(IP_CT_NEW)
#define STATE_RELATED NF_CT_STATE_BIT(IP_CT_RELATED)

static enum nsgate_counter offload_counter(uint32_t hook)
{
	if (hook == NSGATE_HOOK_FORWARD)
		return NSGATE_COUNTER_OFFLOADED_FORWARD;
	return rules_hook_incoming(hook) ? NSGATE_COUNTER_OFFLOADED_IN
					 : NSGATE_COUNTER_OFFLOADED_OUT;
}

void rules_accept_offloaded(const struct rules_set *set, uint32_t hook)
{
	nft_count(set->batch, nsgate_counter_names[offload_counter(hook)]);
	nft_verdict(set->batch, NF_ACCEPT);
	nft_rule_end(set->batch);
}

void rules_queue(const struct rules_set *set, enum nsgate_flow flow)
{
	struct nft_queue_range range = set->queue;

	/* counter name "asked" queue flags bypass,fanout to 40000-40003 */
	if (set->opened) {
		nft_count(set->batch, nsgate_counter_names[NSGATE_COUNTER_AGENT_DOWN]);
		nft_verdict(set->batch, NF_ACCEPT);
	} else {
		range.first = (uint16_t)(range.first + nsgate_flow_offset(flow, range.count));
		nft_count(set->batch, nsgate_counter_names[NSGATE_COUNTER_ASKED]);
		nft_queue(set->batch, &range);
	}
	nft_rule_end(set->batch);
}

void rules_match_original(const struct rules_set *set, const struct rules_way *way)
{
	rules_match_links(set->batch, way->links);
	nft_match_ct_direction(set->batch, IP_CT_DIR_ORIGINAL);
}

void rules_match_reply(const struct rules_set *set, const struct rules_way *way)
{
	rules_match_links(set->batch, way->links);
	nft_match_ct_direction(set->batch, IP_CT_DIR_REPLY);
}

void rules_end_known(const struct rules_set *set, const char *chain, uint32_t hook,
		     const struct rules_way *way, rules_end *end)
{
	nft_rule_begin(set->batch, chain);
	rules_match_original(set, way);
	rules_match_accepted(set, 1U << way->own);
	end(set, hook);

	nft_rule_begin(set->batch, chain);
	rules_match_reply(set, way);
	rules_match_accepted(set, way->answers);
	end(set, hook);
}

static void accept_known(const struct rules_set *set, const char *chain, uint32_t hook)
{
	const struct rules_ways ways = rules_ways(hook);

	for (size_t i = 0; i < ways.count; i++)
		rules_end_known(set, chain, hook, &ways.list[i], rules_accept_offloaded);
}

static void begin_replies(const struct rules_set *set, const char *chain,
			  const struct rules_way *way)
{
	nft_rule_begin(set->batch, chain);
	rules_match_links(set->batch, way->links);
}

/* Without labels nobody knows how a flow began: the policy is asked what it answers. */
static void queue_replies(const struct rules_set *set, const char *chain, uint32_t hook)
{
	const struct rules_ways ways = rules_ways(hook);

	for (size_t i = 0; set->ct_label && i < ways.count; i++) {
		const struct rules_way *way = &ways.list[i];

		begin_replies(set, chain, way);
		rules_match_accepted(set, way->answers);
		rules_queue(set, NSGATE_FLOW_REPLY_KNOWN);

		begin_replies(set, chain, way);
		rules_match_passed(set, way->answers, NFT_CMP_NEQ);
		rules_match_unsure(set);
		rules_queue(set, NSGATE_FLOW_REPLY_UNSURE);

		begin_replies(set, chain, way);
		rules_match_passed(set, way->answers, NFT_CMP_NEQ);
		rules_queue(set, NSGATE_FLOW_REPLY_STALE);
	}
	/* A flow that was there before the rules. */
	if (set->ct_label) {
		nft_rule_begin(set->batch, chain);
		rules_match_passed(set, RULES_ANY_WAY, NFT_CMP_EQ);
		rules_queue(set, NSGATE_FLOW_REPLY_UNSURE);
	}
	nft_rule_begin(set->batch, chain);
	rules_queue(set, set->ct_label ? NSGATE_FLOW_REPLY : NSGATE_FLOW_REPLY_STALE);
}

/* chain replies_<hook>: packets of the reply direction. */
static void goto_replies(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char replies[RULES_CHAIN_NAME_MAX];

	rules_chain_name(replies, "replies", hook);
	nft_add_chain(set->batch, replies);
	queue_replies(set, replies, hook);

	/* ct direction reply goto replies_in */
	nft_rule_begin(set->batch, chain);
	nft_match_ct_direction(set->batch, IP_CT_DIR_REPLY);
	nft_branch(set->batch, NFT_GOTO, replies);
	nft_rule_end(set->batch);
}

static void queue_known(const struct rules_set *set, const char *chain, uint32_t hook)
{
	const struct rules_ways ways = rules_ways(hook);

	for (size_t i = 0; i < ways.count; i++) {
		nft_rule_begin(set->batch, chain);
		rules_match_links(set->batch, ways.list[i].links);
		rules_match_accepted(set, 1U << ways.list[i].own);
		rules_queue(set, NSGATE_FLOW_KNOWN);
	}
}

static void queue_state(const struct rules_set *set, const char *chain, uint32_t state,
			enum nsgate_flow flow)
{
	nft_rule_begin(set->batch, chain);
	nft_match_ct(set->batch, NFT_CT_STATE, state, NFT_CMP_NEQ, 0);
	rules_queue(set, flow);
}

/* Packets of the original direction. */
static void queue_originals(const struct rules_set *set, const char *chain, uint32_t hook)
{
	queue_state(set, chain, STATE_NEW, NSGATE_FLOW_NEW);
	if (set->ct_label) {
		nft_rule_begin(set->batch, chain);
		rules_match_unsure(set);
		rules_queue(set, NSGATE_FLOW_UNSURE);
	}
	if (set->ct_label && !(set->offload && rules_hook_offloads(hook)))
		queue_known(set, chain, hook);
	queue_state(set, chain, STATE_RELATED, NSGATE_FLOW_EXPECTED);
	/* A flow that was there before the rules. */
	if (set->ct_label) {
		nft_rule_begin(set->batch, chain);
		rules_match_passed(set, RULES_ANY_WAY, NFT_CMP_EQ);
		rules_queue(set, NSGATE_FLOW_UNSURE);
	}
	nft_rule_begin(set->batch, chain);
	rules_queue(set, NSGATE_FLOW_ORIGINAL);
}

/* A packet that comes with a mark: the agent's answer to one that it sent round, or anybody's. */
static void jump_answers(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char answers[RULES_CHAIN_NAME_MAX], target[RULES_CHAIN_NAME_MAX];

	rules_chain_name(answers, "answers", hook);
	nft_add_chain(set->batch, answers);

	rules_reject_chain(set, hook);
	rules_chain_name(target, "reject", hook);
	nft_rule_begin(set->batch, answers);
	rules_match_answer(set, NSGATE_ANSWER_REJECT);
	nft_branch(set->batch, NFT_GOTO, target);
	nft_rule_end(set->batch);

	if (rules_denies(set, hook))
		rules_denied_chains(set, hook);
	rules_chain_name(target, "denied", hook);
	nft_rule_begin(set->batch, answers);
	rules_match_answer(set, NSGATE_ANSWER_DENY);
	if (rules_denies(set, hook))
		nft_branch(set->batch, NFT_GOTO, target);
	else
		nft_verdict(set->batch, NF_DROP);
	nft_rule_end(set->batch);

	/* That one is no answer to a packet that goes round: somebody made it up. */
	nft_rule_begin(set->batch, answers);
	rules_match_answer(set, NSGATE_ANSWER_REMEMBER);
	nft_verdict(set->batch, NF_DROP);
	nft_rule_end(set->batch);

	/* meta mark != 0 jump answers_in */
	nft_rule_begin(set->batch, chain);
	nft_match_meta(set->batch, NFT_META_MARK, UINT32_MAX, NFT_CMP_NEQ, 0);
	nft_branch(set->batch, NFT_JUMP, answers);
	nft_rule_end(set->batch);
}

/*
 * What is sent to many is copied for whoever listens here, in postrouting, and both share an entry
 * that is in no table yet: the copy would be dropped where it is queued. So such packets are judged
 * in the hook out, before there are two.
 */
static const uint32_t to_many[] = {RTN_MULTICAST, RTN_BROADCAST};

static void accept_looped(const struct rules_set *set, const char *chain)
{
	/* iif 0 ct status & confirmed == 0 fib daddr type multicast accept */
	for (size_t i = 0; set->fib && i < sizeof(to_many) / sizeof(to_many[0]); i++) {
		nft_rule_begin(set->batch, chain);
		nft_match_meta(set->batch, NFT_META_IIF, UINT32_MAX, NFT_CMP_EQ, 0);
		nft_match_ct(set->batch, NFT_CT_STATUS, IPS_CONFIRMED, NFT_CMP_EQ, 0);
		nft_match_destination(set->batch, NFT_CMP_EQ, to_many[i]);
		nft_verdict(set->batch, NF_ACCEPT);
		nft_rule_end(set->batch);
	}
}

static void accept_if_to_one(const struct rules_set *set, const char *chain)
{
	/* fib daddr type != multicast fib daddr type != broadcast accept */
	nft_rule_begin(set->batch, chain);
	for (size_t i = 0; set->fib && i < sizeof(to_many) / sizeof(to_many[0]); i++)
		nft_match_destination(set->batch, NFT_CMP_NEQ, to_many[i]);
	nft_verdict(set->batch, NF_ACCEPT);
	nft_rule_end(set->batch);
}

static void judge(const struct rules_set *set, uint32_t hook, bool looped_alone)
{
	struct nft_batch *batch = set->batch;
	char chain[RULES_CHAIN_NAME_MAX];

	rules_chain_name(chain, "judge", hook);
	nft_add_base_chain(batch, chain, "filter", hook, RULES_JUDGE_PRIORITY);
	if (set->strict && hook == NSGATE_HOOK_OUT)
		guard_drop_fragments(batch, chain);

	if (looped_alone)
		accept_if_to_one(set, chain);
	jump_answers(set, chain, hook);
	if (hook == NSGATE_HOOK_POSTROUTING && set->ct_state)
		accept_looped(set, chain);
	rules_odd(set, chain, hook);
	if (!set->ct_state)
		return;
	if (set->offload && set->ct_label && rules_hook_offloads(hook))
		accept_known(set, chain, hook);
	goto_replies(set, chain, hook);
	if (rules_denies(set, hook))
		rules_denied_drop(set, chain, hook);
	queue_originals(set, chain, hook);
}

void rules_judge(const struct rules_set *set, uint32_t hook)
{
	judge(set, hook, false);
}

void rules_judge_looped(const struct rules_set *set)
{
	judge(set, NSGATE_HOOK_OUT, true);
}
