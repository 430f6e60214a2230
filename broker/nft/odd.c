/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * odd_<hook> sees what conntrack calls related, invalid or untracked.
 *
 * **Related** is a packet that speaks of another one's flow: an ICMP error, or a reset that the
 * kernel sends instead of one; and the first packet of a connection that a helper expects, which
 * goes back to be treated as any first packet.
 *
 * A packet that shares a conntrack entry which is in no table yet is dropped where it is queued by
 * kernels with commit 7d8dc1c7be8d (Linux 6.11) as it was at first; those tried last queue an error
 * (test_unconfirmed). Errors and resets about a flow's first packet share it. Nobody but the kernel
 * can make one, as the entry is found by no packet that comes from elsewhere; so they pass.
 *
 * Errors belong to the flow that they speak of, and have a direction in it. About packets of the
 * original direction they come the way of its replies; about replies the way of originals. So they
 * are known where any packet of that way and direction is. With two limits, as an error quotes
 * some of the packet that it is about, and anybody with a raw socket can make one:
 *
 *   - They are no longer than what is honest: headers alone for a reset; RFC 1812 4.3.2.3 for
 *     IPv4, RFC 4443 2.4 (c) for IPv6.
 *   - What leaves is the kernel's own, which no socket owns. Such a notice passes if the flow was
 *     ever let pass that way, under whichever policy, or if nothing is known of it: it tells the
 *     other side that its packet was rejected, or found no port. A flow that came over the loopback
 *     is no licence to answer somebody outside who never asked.
 *
 * All else is queued: the policy decides.
 */
#include "broker/nft/odd.h"

#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>

#include "nsgate/hook.h"
#include "broker/nft/upkeep.h"

#define STATE_RELATED NF_CT_STATE_BIT(IP_CT_RELATED)
#define STATE_ODD (NF_CT_STATE_INVALID_BIT | NF_CT_STATE_UNTRACKED_BIT | STATE_RELATED)
#define FORWARDED (1U << NSGATE_WAY_FORWARD)
#define LOOPS (1U << NSGATE_WAY_IN_LOOP | 1U << NSGATE_WAY_OUT_LOOP)

#define RESET_BYTES_MAX 60
#define ICMP_BYTES_MAX 576
#define ICMPV6_BYTES_MAX 1280

static void accept_notice(const struct rules_set *set)
{
	nft_count(set->batch, nsgate_counter_names[NSGATE_COUNTER_NOTICES]);
	nft_verdict(set->batch, NF_ACCEPT);
	nft_rule_end(set->batch);
}

/*
 * Of the kernel itself: by a way that the flow has gone, whoever let it. What is rejected when it
 * comes by the loopback has only left by it.
 */
static void accept_of_kernel(const struct rules_set *set, const char *chain,
			     const struct rules_way *way, uint32_t also)
{
	if (way->links == RULES_LOOP_OUT)
		also |= LOOPS;
	nft_rule_begin(set->batch, chain);
	rules_match_original(set, way);
	rules_match_passed(set, 1U << way->own | also, NFT_CMP_NEQ);
	accept_notice(set);

	nft_rule_begin(set->batch, chain);
	rules_match_reply(set, way);
	rules_match_passed(set, way->answers | also, NFT_CMP_NEQ);
	accept_notice(set);
}

static void end_known(const struct rules_set *set, uint32_t hook)
{
	if (set->offload && rules_hook_offloads(hook))
		rules_accept_offloaded(set, hook);
	else
		rules_queue(set, NSGATE_FLOW_ERROR_KNOWN);
}

static void queue_error(const struct rules_set *set, const char *chain)
{
	nft_rule_begin(set->batch, chain);
	rules_queue(set, NSGATE_FLOW_ERROR);
}

/* chain notices_<hook>: errors and resets of honest length, by whom they may be. */
static void notice_rules(const struct rules_set *set, const char *chain, uint32_t hook)
{
	const struct rules_ways ways = rules_ways(hook);
	/* A router's own errors are about what it forwards. */
	const uint32_t also = rules_hook_outgoing(hook) ? FORWARDED : 0;

	nft_add_chain(set->batch, chain);
	for (size_t i = 0; set->ct_label && i < ways.count; i++) {
		const struct rules_way *way = &ways.list[i];

		/* What came by the loopback left by it, and was looked at there. */
		if ((rules_hook_outgoing(hook) && way->links != RULES_FORWARDED) ||
		    way->links == RULES_LOOP_IN)
			accept_of_kernel(set, chain, way, also);
		else
			rules_end_known(set, chain, hook, way, end_known);
	}
	if (set->ct_label && !rules_hook_outgoing(hook)) {
		queue_error(set, chain);
		return;
	}
	/* A flow that was there before the rules, or a kernel without labels. */
	nft_rule_begin(set->batch, chain);
	if (set->ct_label)
		rules_match_passed(set, RULES_ANY_WAY, NFT_CMP_EQ);
	accept_notice(set);
	queue_error(set, chain);
}

static void goto_notices(const struct rules_set *set, const char *chain, const char *notices,
			 uint8_t family, uint8_t protocol, uint32_t bytes_max)
{
	/* meta nfproto ipv4 meta l4proto icmp meta length <= 576 goto notices_in */
	nft_rule_begin(set->batch, chain);
	if (family != NFPROTO_UNSPEC)
		nft_match_protocol(set->batch, NFT_META_NFPROTO, family);
	nft_match_protocol(set->batch, NFT_META_L4PROTO, protocol);
	nft_match_length_max(set->batch, bytes_max);
	nft_branch(set->batch, NFT_GOTO, notices);
	nft_rule_end(set->batch);
}

/* chain errors_<hook> */
static void error_rules(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char notices[RULES_CHAIN_NAME_MAX];

	rules_chain_name(notices, "notices", hook);
	notice_rules(set, notices, hook);
	nft_add_chain(set->batch, chain);

	/* meta skuid != 4294967295 queue: a program made it */
	if (rules_hook_outgoing(hook)) {
		nft_rule_begin(set->batch, chain);
		nft_match_owned(set->batch);
		rules_queue(set, NSGATE_FLOW_ERROR);
	}
	goto_notices(set, chain, notices, NFPROTO_UNSPEC, IPPROTO_TCP, RESET_BYTES_MAX);
	goto_notices(set, chain, notices, NFPROTO_IPV4, IPPROTO_ICMP, ICMP_BYTES_MAX);
	goto_notices(set, chain, notices, NFPROTO_IPV6, IPPROTO_ICMPV6, ICMPV6_BYTES_MAX);
	queue_error(set, chain);
}

static void match_related(const struct rules_set *set)
{
	nft_match_ct(set->batch, NFT_CT_STATE, STATE_RELATED, NFT_CMP_NEQ, 0);
}

static void related_rules(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char errors[RULES_CHAIN_NAME_MAX];

	/* ct state related ct status & expected != 0 return */
	nft_rule_begin(set->batch, chain);
	match_related(set);
	nft_match_ct(set->batch, NFT_CT_STATUS, IPS_EXPECTED, NFT_CMP_NEQ, 0);
	nft_verdict(set->batch, NFT_RETURN);
	nft_rule_end(set->batch);

	/* ct state related ct status & confirmed == 0 counter name notices accept */
	nft_rule_begin(set->batch, chain);
	match_related(set);
	nft_match_ct(set->batch, NFT_CT_STATUS, IPS_CONFIRMED, NFT_CMP_EQ, 0);
	accept_notice(set);

	/* ct state related goto errors_in */
	rules_chain_name(errors, "errors", hook);
	error_rules(set, errors, hook);
	nft_rule_begin(set->batch, chain);
	match_related(set);
	nft_branch(set->batch, NFT_GOTO, errors);
	nft_rule_end(set->batch);
}

void rules_odd(const struct rules_set *set, const char *chain, uint32_t hook)
{
	struct nft_batch *batch = set->batch;
	char odd[RULES_CHAIN_NAME_MAX];

	rules_upkeep(set, hook);
	rules_chain_name(odd, "odd", hook);
	nft_add_chain(batch, odd);
	rules_jump_upkeep(set, odd, hook);
	if (set->ct_state) {
		related_rules(set, odd, hook);

		/* ct state invalid queue */
		nft_rule_begin(batch, odd);
		nft_match_ct(batch, NFT_CT_STATE, NF_CT_STATE_INVALID_BIT, NFT_CMP_NEQ, 0);
		rules_queue(set, NSGATE_FLOW_INVALID);
	}
	nft_rule_begin(batch, odd);
	rules_queue(set, NSGATE_FLOW_UNTRACKED);

	/* ct state { invalid, untracked, related } jump odd_in */
	nft_rule_begin(batch, chain);
	if (set->ct_state)
		nft_match_ct(batch, NFT_CT_STATE, STATE_ODD, NFT_CMP_NEQ, 0);
	nft_branch(batch, NFT_JUMP, odd);
	nft_rule_end(batch);
}
