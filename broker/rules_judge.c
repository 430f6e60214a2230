/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * judge_<hook> ends with the packet accepted by the kernel's own knowledge, or queued with what
 * that knowledge is in the top byte of its mark. Accepting only leaves this chain: a later base
 * chain, settle_<hook> too, still sees the packet.
 *
 * Where the policy lets packets pass without a verdict, they are marked so before the queue; the
 * agent's answer takes the mark away. Where nobody judges and all may pass, just the queue is left
 * out.
 *
 * The kernel counts nowhere what it drops because nobody has bound the queue. So what is to be
 * queued is counted right before (agent/unbound.c says what becomes of it).
 *
 * The order follows the number of packets: flows that need no asking leave first, then one test
 * of the conntrack state sends the rare kinds to notices_<hook>. Denied flows (rules_denied.c) come
 * last: only what would be queued as a packet of the original direction is looked up.
 *
 * Notices are what the kernel itself says: neighbour discovery, and the resets and unreachables
 * with which settle_<hook> rejects. Queueing those would have the policy judge its own answers.
 * They differ from what a container with raw sockets can send in that no socket of a process owns
 * them: `meta skuid` has a value only for owned packets. In the incoming hooks there is no owner
 * any more, and they count only on the loopback, where the outgoing hooks have seen them. The
 * kernel's own are short and never fragments; the limits on length keep anything that lost its
 * owner in reassembly from carrying much.
 */
#include "rules_guard.h"
#include "rules_set.h"

#include <linux/icmp.h>
#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>

#include "nsgate/hook.h"
#include "nsgate/mark.h"

#define LOOPBACK_INDEX 1 /* in every namespace: include/net/net_namespace.h */

#define STATE_NEW NF_CT_STATE_BIT(IP_CT_NEW)
#define STATE_RELATED NF_CT_STATE_BIT(IP_CT_RELATED)
#define STATE_ODD (NF_CT_STATE_INVALID_BIT | NF_CT_STATE_UNTRACKED_BIT | STATE_RELATED)

#define UID_NOBODY_HAS UINT32_MAX /* (uid_t)-1 */

#define IPV6_HOP_LIMIT_OFFSET 7
#define TCP_FLAGS_OFFSET 13
#define TCP_FLAG_BYTE_RST 0x04
#define ICMP_TYPE_OFFSET 0
#define ICMP_CODE_OFFSET 1
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PORT_CODE 4

/* The longest that the kernel makes of each: headers alone; RFC 1812 4.3.2.3; RFC 4443 2.4 (c). */
#define RESET_BYTES_MAX 60
#define ICMP_BYTES_MAX 576
#define ICMPV6_BYTES_MAX 1280

#define CTMARK_DIRECTIONS (NSGATE_CTMARK_IN | NSGATE_CTMARK_OUT | NSGATE_CTMARK_FORWARD)

static uint32_t generation_bits(const struct rules_set *set)
{
	return set->generation << NSGATE_CTMARK_GEN_SHIFT;
}

/* The hook whose acceptance covers the replies that pass `hook`; for those that offload. */
static uint32_t opposite_hook(uint32_t hook)
{
	if (hook == NSGATE_HOOK_FORWARD)
		return hook;
	return hook == NSGATE_HOOK_IN ? NSGATE_HOOK_OUT : NSGATE_HOOK_IN;
}

static bool hook_incoming(uint32_t hook)
{
	return hook == NSGATE_HOOK_IN || hook == NSGATE_HOOK_PREROUTING;
}

static const char *offload_counter(uint32_t hook)
{
	if (hook == NSGATE_HOOK_FORWARD)
		return nsgate_counter_names[NSGATE_COUNTER_OFFLOADED_FORWARD];
	return nsgate_counter_names[hook_incoming(hook) ? NSGATE_COUNTER_OFFLOADED_IN
							: NSGATE_COUNTER_OFFLOADED_OUT];
}

/* ct mark & (generation, bit) == this generation, bit */
static void match_accepted(const struct rules_set *set, uint32_t bit)
{
	nft_match_ct(set->batch, NFT_CT_MARK, NSGATE_CTMARK_GEN_MASK | bit, NFT_CMP_EQ,
		     generation_bits(set) | bit);
}

/* ... of the original direction */
static void match_known_original(const struct rules_set *set, uint32_t hook)
{
	match_accepted(set, rules_remember_bit(set->hooks, hook));
	nft_match_ct_direction(set->batch, IP_CT_DIR_ORIGINAL);
}

/* For packets of the reply direction. Where the flow's own direction is not policed, all are. */
static void match_known_reply(const struct rules_set *set, uint32_t hook)
{
	uint32_t opposite = opposite_hook(hook);

	if (set->hooks & NSGATE_HOOK_BIT(opposite))
		match_accepted(set, rules_remember_bit(set->hooks, opposite));
}

static bool replies_can_be_known(const struct rules_set *set, uint32_t hook)
{
	return set->ct_mark || !(set->hooks & NSGATE_HOOK_BIT(opposite_hook(hook)));
}

static void accept_known(const struct rules_set *set, const char *chain, uint32_t hook)
{
	struct nft_batch *batch = set->batch;

	/* ct mark & 0x8fff0000 == 0x80010000 ct direction original counter name C accept */
	if (set->ct_mark) {
		nft_rule_begin(batch, chain);
		match_known_original(set, hook);
		nft_count(batch, offload_counter(hook));
		nft_verdict(batch, NF_ACCEPT);
		nft_rule_end(batch);
	}

	/* ct direction reply ct mark & 0x4fff0000 == 0x40010000 counter name C accept */
	if (replies_can_be_known(set, hook)) {
		nft_rule_begin(batch, chain);
		nft_match_ct_direction(batch, IP_CT_DIR_REPLY);
		match_known_reply(set, hook);
		nft_count(batch, offload_counter(hook));
		nft_verdict(batch, NF_ACCEPT);
		nft_rule_end(batch);
	}
}

static void add_flags_rule_end(const struct rules_set *set, uint32_t flags)
{
	nft_set_meta_mark(set->batch, UINT32_MAX, flags);
	nft_rule_end(set->batch);
}

static void queue_rule(const struct rules_set *set, const char *chain)
{
	/* counter name "asked" meta mark set meta mark | 0x40000000 */
	if (set->may_pass) {
		nft_rule_begin(set->batch, chain);
		nft_count(set->batch, nsgate_counter_names[NSGATE_COUNTER_ASKED]);
		add_flags_rule_end(set, NSGATE_MARK_UNJUDGED);
	}

	if (set->opened)
		return;

	/* counter name "asked" queue flags bypass,fanout to 0-3 */
	nft_rule_begin(set->batch, chain);
	if (!set->may_pass)
		nft_count(set->batch, nsgate_counter_names[NSGATE_COUNTER_ASKED]);
	nft_queue(set->batch, &set->queue);
	nft_rule_end(set->batch);
}

/* ct mark holds a generation, but not the one in force. */
static void match_stale(const struct rules_set *set)
{
	nft_match_ct(set->batch, NFT_CT_MARK, NSGATE_CTMARK_GEN_MASK, NFT_CMP_NEQ, 0);
	nft_match_ct(set->batch, NFT_CT_MARK, NSGATE_CTMARK_GEN_MASK, NFT_CMP_NEQ,
		     generation_bits(set));
}

/* Is the other direction of the flows whose replies pass `hook` (prerouting, postrouting) policed?
 */
static bool origin_policed(const struct rules_set *set, uint32_t hook)
{
	const uint32_t outgoing =
		NSGATE_HOOK_BIT(NSGATE_HOOK_OUT) | NSGATE_HOOK_BIT(NSGATE_HOOK_POSTROUTING);
	const uint32_t incoming =
		NSGATE_HOOK_BIT(NSGATE_HOOK_IN) | NSGATE_HOOK_BIT(NSGATE_HOOK_PREROUTING);

	return set->hooks & (hook_incoming(hook) ? outgoing : incoming);
}

/* chain replies_<hook>: packets of the reply direction, all queued. */
static void reply_rules(const struct rules_set *set, uint32_t hook)
{
	struct nft_batch *batch = set->batch;
	bool offloads = rules_hook_offloads(hook);
	uint32_t bits = CTMARK_DIRECTIONS;
	char chain[RULES_CHAIN_NAME_MAX];

	rules_chain_name(chain, "replies", hook);
	nft_add_chain(batch, chain);
	if (offloads)
		bits = rules_remember_bit(set->hooks, opposite_hook(hook));

	/* meta mark set meta mark | 0x02000000 */
	nft_rule_begin(batch, chain);
	add_flags_rule_end(set, NSGATE_MARK_REPLY);

	/* ct mark & 0x4fff0000 == 0x40010000 meta mark set meta mark | 0x04000000 */
	if (offloads && replies_can_be_known(set, hook)) {
		nft_rule_begin(batch, chain);
		match_known_reply(set, hook);
		add_flags_rule_end(set, NSGATE_MARK_KNOWN);
	}

	/* ct mark & 0xe0000000 != 0 ct mark & 0x0fff0000 == 0x00010000 meta mark set ... */
	if (!offloads && set->ct_mark) {
		nft_rule_begin(batch, chain);
		nft_match_ct(batch, NFT_CT_MARK, bits, NFT_CMP_NEQ, 0);
		match_accepted(set, 0);
		add_flags_rule_end(set, NSGATE_MARK_KNOWN);
	}

	/* A flow that no hook judged: ct mark & 0xe0000000 == 0 meta mark set ... | 0x04000000 */
	if (!offloads && !origin_policed(set, hook)) {
		nft_rule_begin(batch, chain);
		if (set->ct_mark)
			nft_match_ct(batch, NFT_CT_MARK, bits, NFT_CMP_EQ, 0);
		add_flags_rule_end(set, NSGATE_MARK_KNOWN);
	}

	/* ct mark & 0x40000000 != 0 ct mark & 0x0fff0000 != { 0, 0x00010000 } ... | 0x08000000 */
	if (set->ct_mark) {
		nft_rule_begin(batch, chain);
		nft_match_ct(batch, NFT_CT_MARK, bits, NFT_CMP_NEQ, 0);
		match_stale(set);
		add_flags_rule_end(set, NSGATE_MARK_STALE);
	}
	queue_rule(set, chain);
}

/* Leave notices_<hook> unless the packet comes from the kernel itself. */
static void return_unless_kernel(const struct rules_set *set, const char *chain, uint32_t hook)
{
	struct nft_batch *batch = set->batch;

	nft_rule_begin(batch, chain);
	if (hook_incoming(hook)) /* iif != lo return */
		nft_match_meta(batch, NFT_META_IIF, UINT32_MAX, NFT_CMP_NEQ, LOOPBACK_INDEX);
	else /* meta skuid != 4294967295 return */
		nft_match_meta(batch, NFT_META_SKUID, UINT32_MAX, NFT_CMP_NEQ, UID_NOBODY_HAS);
	nft_verdict(batch, NFT_RETURN);
	nft_rule_end(batch);
}

/*
 * Neighbour discovery (RFC 4861 4.1-4.5), and the multicast listener reports without which a
 * snooping bridge would not carry it (RFC 3810 5): a link is dead without them. Their hop limits
 * keep them on the link.
 */
static const struct {
	uint8_t hop_limit, first, last;
} link_upkeep[] = {{255, 133, 137}, {1, 130, 132}, {1, 143, 143}};

/*
 * Forwarded packets pass postrouting too. No forwarded one has a hop limit of 255, but one of 1 is
 * possible: there, listener reports are left to the policy.
 */
static void accept_link_upkeep(const struct rules_set *set, const char *chain, uint32_t hook)
{
	struct nft_batch *batch = set->batch;

	for (size_t i = 0; i < sizeof(link_upkeep) / sizeof(link_upkeep[0]); i++) {
		if (hook == NSGATE_HOOK_POSTROUTING && link_upkeep[i].hop_limit != 255)
			continue;
		/* meta nfproto ipv6 meta l4proto ipv6-icmp ip6 hoplimit 255 icmpv6 type 133-137
		 * accept */
		nft_rule_begin(batch, chain);
		nft_match_protocol(batch, NFT_META_NFPROTO, NFPROTO_IPV6);
		nft_match_protocol(batch, NFT_META_L4PROTO, IPPROTO_ICMPV6);
		nft_match_byte(batch, NFT_PAYLOAD_NETWORK_HEADER, IPV6_HOP_LIMIT_OFFSET, UINT8_MAX,
			       link_upkeep[i].hop_limit);
		nft_match_byte_range(batch, NFT_PAYLOAD_TRANSPORT_HEADER, ICMP_TYPE_OFFSET,
				     link_upkeep[i].first, link_upkeep[i].last);
		nft_verdict(batch, NF_ACCEPT);
		nft_rule_end(batch);
	}
}

struct icmp_kind {
	uint8_t family;
	uint8_t protocol;
	uint8_t type;
	uint8_t code;
	uint32_t bytes_max;
};

static const struct icmp_kind unreachables[] = {
	{NFPROTO_IPV4, IPPROTO_ICMP, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, ICMP_BYTES_MAX},
	{NFPROTO_IPV6, IPPROTO_ICMPV6, ICMPV6_UNREACHABLE, ICMPV6_PORT_CODE, ICMPV6_BYTES_MAX},
};

static void accept_unreachable(const struct rules_set *set, const char *chain,
			       const struct icmp_kind *kind)
{
	struct nft_batch *batch = set->batch;

	/* meta nfproto ipv4 icmp type 3 icmp code 3 meta length <= 576 accept */
	nft_rule_begin(batch, chain);
	nft_match_protocol(batch, NFT_META_NFPROTO, kind->family);
	nft_match_protocol(batch, NFT_META_L4PROTO, kind->protocol);
	nft_match_byte(batch, NFT_PAYLOAD_TRANSPORT_HEADER, ICMP_TYPE_OFFSET, UINT8_MAX,
		       kind->type);
	nft_match_byte(batch, NFT_PAYLOAD_TRANSPORT_HEADER, ICMP_CODE_OFFSET, UINT8_MAX,
		       kind->code);
	nft_match_length_max(batch, kind->bytes_max);
	nft_verdict(batch, NF_ACCEPT);
	nft_rule_end(batch);
}

static void accept_reset(const struct rules_set *set, const char *chain)
{
	struct nft_batch *batch = set->batch;

	/* meta l4proto tcp tcp flags & rst == rst meta length <= 60 accept */
	nft_rule_begin(batch, chain);
	nft_match_protocol(batch, NFT_META_L4PROTO, IPPROTO_TCP);
	nft_match_byte(batch, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_OFFSET, TCP_FLAG_BYTE_RST,
		       TCP_FLAG_BYTE_RST);
	nft_match_length_max(batch, RESET_BYTES_MAX);
	nft_verdict(batch, NF_ACCEPT);
	nft_rule_end(batch);
}

/*
 * What is forwarded has no owner either. (The kernel's own neighbour discovery shows the link that
 * it leaves by here, so that comes first.)
 */
static void return_if_forwarded(const struct rules_set *set, const char *chain)
{
	/* iif != 0 return */
	nft_rule_begin(set->batch, chain);
	nft_match_meta(set->batch, NFT_META_IIF, UINT32_MAX, NFT_CMP_NEQ, 0);
	nft_verdict(set->batch, NFT_RETURN);
	nft_rule_end(set->batch);
}

/* chain notices_<hook>: packets that conntrack calls related, invalid or untracked. */
static void notice_rules(const struct rules_set *set, uint32_t hook)
{
	struct nft_batch *batch = set->batch;
	char chain[RULES_CHAIN_NAME_MAX];

	rules_chain_name(chain, "notices", hook);
	nft_add_chain(batch, chain);
	if (hook_incoming(hook))
		accept_link_upkeep(set, chain, hook);
	return_unless_kernel(set, chain, hook);
	if (!hook_incoming(hook))
		accept_link_upkeep(set, chain, hook);
	if (hook == NSGATE_HOOK_POSTROUTING)
		return_if_forwarded(set, chain);

	/* ct state related ct mark & 0x10000000 == 0 return */
	if (set->ct_mark) {
		nft_rule_begin(batch, chain);
		nft_match_ct(batch, NFT_CT_STATE, STATE_RELATED, NFT_CMP_NEQ, 0);
		nft_match_ct(batch, NFT_CT_MARK, NSGATE_CTMARK_REJECTED, NFT_CMP_EQ, 0);
		nft_verdict(batch, NFT_RETURN);
		nft_rule_end(batch);
	}
	accept_reset(set, chain);
	for (size_t i = 0; i < sizeof(unreachables) / sizeof(unreachables[0]); i++)
		accept_unreachable(set, chain, &unreachables[i]);
}

static void jump_odd(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char notices[RULES_CHAIN_NAME_MAX];

	/* ct state { invalid, untracked, related } jump notices_in */
	rules_chain_name(notices, "notices", hook);
	nft_rule_begin(set->batch, chain);
	if (set->ct_state)
		nft_match_ct(set->batch, NFT_CT_STATE, STATE_ODD, NFT_CMP_NEQ, 0);
	nft_branch(set->batch, NFT_JUMP, notices);
	nft_rule_end(set->batch);
}

static void goto_replies(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char replies[RULES_CHAIN_NAME_MAX];

	/* ct direction reply goto replies_in */
	rules_chain_name(replies, "replies", hook);
	nft_rule_begin(set->batch, chain);
	nft_match_ct_direction(set->batch, IP_CT_DIR_REPLY);
	nft_branch(set->batch, NFT_GOTO, replies);
	nft_rule_end(set->batch);
}

/* Packets of the original direction that are to be queued. */
static void mark_original(const struct rules_set *set, const char *chain, uint32_t hook)
{
	/* ct mark & 0x8fff0000 == 0x80010000 ct direction original meta mark set ... | 0x04000000
	 */
	if (set->ct_mark && rules_hook_offloads(hook) && !set->offload) {
		nft_rule_begin(set->batch, chain);
		match_known_original(set, hook);
		add_flags_rule_end(set, NSGATE_MARK_KNOWN);
	}

	/* ct state new meta mark set meta mark | 0x01000000 */
	if (set->ct_state) {
		nft_rule_begin(set->batch, chain);
		nft_match_ct(set->batch, NFT_CT_STATE, STATE_NEW, NFT_CMP_NEQ, 0);
		add_flags_rule_end(set, NSGATE_MARK_NEW);
	}
}

/* What came with a packet does not count; but for the agent's answer to one that it denies. */
static void clear_mark(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char denied[RULES_CHAIN_NAME_MAX];

	/* meta mark & 0xff000000 != 0 jump denied_in, or meta mark set meta mark & 0x00ffffff */
	if (rules_denies(set, hook)) {
		rules_denied_chains(set, hook);
		rules_chain_name(denied, "denied", hook);
	}
	nft_rule_begin(set->batch, chain);
	nft_match_meta(set->batch, NFT_META_MARK, NSGATE_MARK_MASK, NFT_CMP_NEQ, 0);
	if (rules_denies(set, hook))
		nft_branch(set->batch, NFT_JUMP, denied);
	else
		nft_set_meta_mark(set->batch, ~NSGATE_MARK_MASK, 0);
	nft_rule_end(set->batch);
}

void rules_judge(const struct rules_set *set, uint32_t hook)
{
	struct nft_batch *batch = set->batch;
	char chain[RULES_CHAIN_NAME_MAX];

	rules_chain_name(chain, "judge", hook);
	nft_add_base_chain(batch, chain, "filter", hook, RULES_JUDGE_PRIORITY);
	if (set->strict && hook == NSGATE_HOOK_OUT)
		guard_drop_fragments(batch, chain);

	clear_mark(set, chain, hook);
	if (set->offload && set->ct_state && rules_hook_offloads(hook))
		accept_known(set, chain, hook);
	if (hook != NSGATE_HOOK_FORWARD) {
		notice_rules(set, hook);
		jump_odd(set, chain, hook);
	}
	if (set->ct_state) {
		reply_rules(set, hook);
		goto_replies(set, chain, hook);
	}
	if (rules_denies(set, hook))
		rules_denied_drop(set, chain, hook);
	mark_original(set, chain, hook);
	queue_rule(set, chain);
}
