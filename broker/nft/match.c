/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The matches that rules are made of (broker/nft/rule.h). */
#include <linux/in.h>
#include <linux/netfilter.h>

#include "broker/nft/rule.h"

#define DNS_PORT 53
#define NO_UID UINT32_MAX /* (uid_t)-1 */
#define TCP_FLAGS_OFFSET 13
#define TCP_FLAG_SYN 0x02
#define IPV6_HOP_LIMIT_OFFSET 7
#define ICMP_TYPE_OFFSET 0

/* ---- the packet ---- */

void on_mark(const struct rule_context *context, NO_VALUE)
{
	nft_match_meta(context->set->batch, NFT_META_MARK, UINT32_MAX, NFT_CMP_NEQ, 0);
}

void on_answer(const struct rule_context *context, uint32_t answer)
{
	nft_match_meta(context->set->batch, NFT_META_MARK, UINT32_MAX, NFT_CMP_EQ,
		       context->set->answers[answer]);
}

void on_bypass(const struct rule_context *context, NO_VALUE)
{
	nft_match_meta(context->set->batch, NFT_META_MARK, context->bypass->mask, NFT_CMP_EQ,
		       context->bypass->value);
}

void on_nfproto(const struct rule_context *context, uint32_t family)
{
	nft_match_protocol(context->set->batch, NFT_META_NFPROTO, (uint8_t)family);
}

void on_l4proto(const struct rule_context *context, uint32_t protocol)
{
	nft_match_protocol(context->set->batch, NFT_META_L4PROTO, (uint8_t)protocol);
}

void on_ethertype(const struct rule_context *context, uint32_t ethertype)
{
	nft_match_ethertype(context->set->batch, (uint16_t)ethertype);
}

void on_length_max(const struct rule_context *context, uint32_t bytes)
{
	nft_match_length_max(context->set->batch, bytes);
}

void on_owner(const struct rule_context *context, NO_VALUE)
{
	nft_match_meta(context->set->batch, NFT_META_SKUID, UINT32_MAX, NFT_CMP_NEQ, NO_UID);
}

void on_route(const struct rule_context *context, NO_VALUE)
{
	nft_match_routed(context->set->batch);
}

void on_fragment(const struct rule_context *context, uint32_t family)
{
	nft_match_fragment(context->set->batch, (uint8_t)family);
}

void on_tcp_without_syn(const struct rule_context *context, NO_VALUE)
{
	on_l4proto(context, IPPROTO_TCP);
	nft_match_byte(context->set->batch, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_OFFSET,
		       TCP_FLAG_SYN, 0);
}

/* meta nfproto ipv6 meta l4proto ipv6-icmp ip6 hoplimit 255 icmpv6 type 133-137 */
void on_icmpv6(const struct rule_context *context, uint32_t value)
{
	struct nft_batch *batch = context->set->batch;

	on_nfproto(context, NFPROTO_IPV6);
	on_l4proto(context, IPPROTO_ICMPV6);
	nft_match_byte(batch, NFT_PAYLOAD_NETWORK_HEADER, IPV6_HOP_LIMIT_OFFSET, UINT8_MAX,
		       (uint8_t)(value >> 16));
	nft_match_byte_range(batch, NFT_PAYLOAD_TRANSPORT_HEADER, ICMP_TYPE_OFFSET,
			     (uint8_t)(value >> 8), (uint8_t)value);
}

/* ---- links and routes ---- */

void on_link_kind(const struct rule_context *context, uint32_t kind)
{
	rules_match_links(context->set->batch, (enum rules_link_kind)kind);
}

void on_path(const struct rule_context *context, NO_VALUE)
{
	on_link_kind(context, context->path->links);
}

void on_foreign_source(const struct rule_context *context, NO_VALUE)
{
	nft_match_local_source(context->set->batch, NFT_CMP_NEQ);
}

void on_source_elsewhere(const struct rule_context *context, NO_VALUE)
{
	nft_match_source_elsewhere(context->set->batch);
}

void on_destination(const struct rule_context *context, uint32_t type)
{
	nft_match_destination(context->set->batch, NFT_CMP_EQ, type);
}

void on_destination_not(const struct rule_context *context, uint32_t type)
{
	nft_match_destination(context->set->batch, NFT_CMP_NEQ, type);
}

/* ---- conntrack ---- */

void on_state(const struct rule_context *context, uint32_t bits)
{
	nft_match_ct(context->set->batch, NFT_CT_STATE, bits, NFT_CMP_NEQ, 0);
}

void on_status(const struct rule_context *context, uint32_t bits)
{
	nft_match_ct(context->set->batch, NFT_CT_STATUS, bits, NFT_CMP_NEQ, 0);
}

void on_status_not(const struct rule_context *context, uint32_t bits)
{
	nft_match_ct(context->set->batch, NFT_CT_STATUS, bits, NFT_CMP_EQ, 0);
}

void on_no_query(const struct rule_context *context, NO_VALUE)
{
	struct nft_batch *batch = context->set->batch;

	nft_match_meta(batch, NFT_META_IIF, UINT32_MAX, NFT_CMP_NEQ, NSGATE_LOOPBACK_INDEX);
	nft_match_meta(batch, NFT_META_OIF, UINT32_MAX, NFT_CMP_NEQ, NSGATE_LOOPBACK_INDEX);
	nft_match_ct_original_port(batch, NFT_CMP_NEQ, DNS_PORT);
}

void on_direction(const struct rule_context *context, uint32_t direction)
{
	nft_match_ct_direction(context->set->batch, (uint8_t)direction);
}

void on_denied(const struct rule_context *context, uint32_t family)
{
	char name[RULES_CHAIN_NAME_MAX];

	rules_denied_set_name(name, (enum rules_family)family, context->hook);
	rules_load_flow(context->set->batch, (enum rules_family)family);
	nft_lookup(context->set->batch, name);
}

/* ---- what the label says ---- */

void on_accepted(const struct rule_context *context, uint32_t also)
{
	rules_match_accepted(context->set, 1U << context->path->own | also);
}

void on_accepted_reply(const struct rule_context *context, uint32_t also)
{
	rules_match_accepted(context->set, context->path->answers | also);
}

void on_passed(const struct rule_context *context, uint32_t also)
{
	rules_match_passed(context->set, 1U << context->path->own | also, NFT_CMP_NEQ);
}

void on_passed_reply(const struct rule_context *context, uint32_t also)
{
	rules_match_passed(context->set, context->path->answers | also, NFT_CMP_NEQ);
}

/*
 * Over the loopback a packet passes two hooks, so the other one's label says nothing of this one;
 * on a link it does.
 */
void on_accepted_here(const struct rule_context *context, NO_VALUE)
{
	const struct rules_paths paths = rules_paths(context->hook);
	uint32_t wanted = 0;

	for (size_t i = 0; i < paths.count; i++)
		wanted |= 1U << paths.list[i].own | (paths.list[i].answers & ~RULES_LOOP_PATHS);
	rules_match_accepted(context->set, wanted);
}

void on_never_passed(const struct rule_context *context, NO_VALUE)
{
	rules_match_passed(context->set, RULES_ANY_PATH, NFT_CMP_EQ);
}

void on_unsure(const struct rule_context *context, NO_VALUE)
{
	rules_match_unsure(context->set);
}
