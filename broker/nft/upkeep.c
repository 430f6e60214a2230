// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Without neighbour discovery (RFC 4861) an IPv6 link is dead, and without multicast listener
 * reports (RFC 3810) a snooping bridge does not carry it. So both pass unjudged and are
 * counted, as far as the kernel itself needs them. All else of these kinds is queued as any packet.
 *
 * Each exemption has a limit, as whatever passes unjudged carries what somebody put in:
 *
 *   - Their hop limits keep them on the link: 255 is what no router lets through, 1 what none
 *     forwards.
 *   - Lengths. A solicitation carries an address and a link address; only what routers say may be
 *     longer.
 *   - What leaves is the kernel's own, which no socket owns. A program's (rdisc6, a DHCP client)
 *     may only ask, and answer, as the kernel would; where a policy is strict it may not.
 *   - Any process may have the kernel report a group of its choice. The reports that the link needs
 *     are of groups that are made of an address's last three bytes (ff02::1:ff00:0/104, RFC 4291
 *     2.7.1); these alone pass, few at a time.
 *
 * Forwarded packets pass prerouting and postrouting too. Prerouting leaves out what is for somebody
 * else. In postrouting none of them has a hop limit of 255, nor a source that is
 * of the link alone, as the kernel's reports have.
 */
#include "broker/nft/upkeep.h"

#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>

#include "nsgate/hook.h"
#include "broker/nft/way.h"

#define IPV6_HOP_LIMIT_OFFSET 7
#define IPV6_SOURCE_OFFSET 8
#define ICMP_TYPE_OFFSET 0

#define REPORTS_PER_SECOND 5
#define REPORTS_BURST 20
#define REPORT_RECORDS_MAX 3 /* one to an address of the link, mostly */

/* RFC 4861 4.1-4.5, with the options that are in use: link addresses, a nonce (RFC 3971 5.3.2). */
struct upkeep {
	uint8_t hop_limit, first, last;
	uint32_t length_max;
};

static const struct upkeep arriving[] = {
	{255, 133, 133, 80},   {255, 134, 134, 576}, {255, 135, 136, 88},
	{255, 137, 137, 1280}, {1, 130, 132, 576},   {1, 143, 143, 576},
};
static const struct upkeep of_programs[] = {{255, 133, 133, 64}, {255, 135, 136, 72}};
static const struct upkeep of_kernel[] = {
	{255, 133, 133, 80}, {255, 135, 136, 88}, {255, 137, 137, 1280}};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* meta nfproto ipv6 meta l4proto ipv6-icmp ip6 hoplimit 255 icmpv6 type 133-137 length <= N */
static void match_kind(struct nft_batch *batch, const struct upkeep *kind)
{
	nft_match_protocol(batch, NFT_META_NFPROTO, NFPROTO_IPV6);
	nft_match_protocol(batch, NFT_META_L4PROTO, IPPROTO_ICMPV6);
	nft_match_byte(batch, NFT_PAYLOAD_NETWORK_HEADER, IPV6_HOP_LIMIT_OFFSET, UINT8_MAX,
		       kind->hop_limit);
	nft_match_byte_range(batch, NFT_PAYLOAD_TRANSPORT_HEADER, ICMP_TYPE_OFFSET, kind->first,
			     kind->last);
	nft_match_length_max(batch, kind->length_max);
}

static void accept_kinds(const struct rules_set *set, const char *chain, const struct upkeep *kinds,
			 size_t count)
{
	for (size_t i = 0; i < count; i++) {
		nft_rule_begin(set->batch, chain);
		match_kind(set->batch, &kinds[i]);
		nft_count(set->batch, nsgate_counter_names[NSGATE_COUNTER_NOTICES]);
		nft_verdict(set->batch, NF_ACCEPT);
		nft_rule_end(set->batch);
	}
}

/* ---- multicast listener reports ---- */

/* The sources of a report: of the link, or none yet. What is forwarded has another one. */
static const struct report_source {
	uint8_t prefix[16];
	uint32_t bits;
} sources[] = {{{0xfe, 0x80}, 16}, {{0}, 128}};

static const uint8_t solicited_node[] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff};

static void accept_report_end(const struct rules_set *set)
{
	nft_limit(set->batch, REPORTS_PER_SECOND, REPORTS_BURST);
	nft_count(set->batch, nsgate_counter_names[NSGATE_COUNTER_NOTICES]);
	nft_verdict(set->batch, NF_ACCEPT);
	nft_rule_end(set->batch);
}

static void match_report(const struct rules_set *set, const struct upkeep *kind,
			 const struct report_source *source)
{
	match_kind(set->batch, kind);
	nft_match_prefix(set->batch, NFT_PAYLOAD_NETWORK_HEADER, IPV6_SOURCE_OFFSET, source->prefix,
			 source->bits);
}

static void match_group(const struct rules_set *set, uint32_t offset)
{
	nft_match_prefix(set->batch, NFT_PAYLOAD_TRANSPORT_HEADER, offset, solicited_node,
			 8 * sizeof(solicited_node));
}

/* RFC 2710 3: version 1, one group. */
static void accept_report_of_one(const struct rules_set *set, const char *chain,
				 const struct report_source *source)
{
	const struct upkeep kind = {1, 131, 132, 72};

	nft_rule_begin(set->batch, chain);
	match_report(set, &kind, source);
	match_group(set, 8);
	accept_report_end(set);
}

/* RFC 3810 5.2: version 2, so many records, each of a group without sources. */
static void accept_report_of(const struct rules_set *set, const char *chain,
			     const struct report_source *source, uint8_t records)
{
	const struct upkeep kind = {1, 143, 143, 56U + 20U * records};
	const uint8_t count[] = {0, records}, nothing[] = {0, 0, 0};

	nft_rule_begin(set->batch, chain);
	match_report(set, &kind, source);
	nft_match_prefix(set->batch, NFT_PAYLOAD_TRANSPORT_HEADER, 6, count, 8 * sizeof(count));
	for (uint32_t at = 8; at < 8 + 20U * records; at += 20) {
		nft_match_prefix(set->batch, NFT_PAYLOAD_TRANSPORT_HEADER, at + 1, nothing,
				 8 * sizeof(nothing));
		match_group(set, at + 4);
	}
	accept_report_end(set);
}

/* ---- the chain ---- */

static void return_if_owned(const struct rules_set *set, const char *chain)
{
	/* meta skuid != 4294967295 return: only what a socket owns has a user */
	nft_rule_begin(set->batch, chain);
	nft_match_owned(set->batch);
	nft_verdict(set->batch, NFT_RETURN);
	nft_rule_end(set->batch);
}

/* Prerouting sees what will be forwarded: that is nobody's upkeep here. */
static void return_if_routed(const struct rules_set *set, const char *chain)
{
	/* fib daddr type unicast return */
	nft_rule_begin(set->batch, chain);
	nft_match_destination(set->batch, NFT_CMP_EQ, RTN_UNICAST);
	nft_verdict(set->batch, NFT_RETURN);
	nft_rule_end(set->batch);
}

void rules_upkeep(const struct rules_set *set, uint32_t hook)
{
	char chain[RULES_CHAIN_NAME_MAX];

	if (hook == NSGATE_HOOK_FORWARD)
		return;
	rules_chain_name(chain, "upkeep", hook);
	nft_add_chain(set->batch, chain);
	if (hook == NSGATE_HOOK_PREROUTING && set->fib)
		return_if_routed(set, chain);
	if (rules_hook_incoming(hook)) {
		accept_kinds(set, chain, arriving, COUNT(arriving));
		return;
	}
	if (!set->strict)
		accept_kinds(set, chain, of_programs, COUNT(of_programs));
	return_if_owned(set, chain);
	accept_kinds(set, chain, of_kernel, COUNT(of_kernel));
	for (size_t i = 0; i < COUNT(sources); i++) {
		accept_report_of_one(set, chain, &sources[i]);
		for (uint8_t records = 1; records <= REPORT_RECORDS_MAX; records++)
			accept_report_of(set, chain, &sources[i], records);
	}
}

void rules_jump_upkeep(const struct rules_set *set, const char *chain, uint32_t hook)
{
	char upkeep[RULES_CHAIN_NAME_MAX];

	if (hook == NSGATE_HOOK_FORWARD)
		return;
	/* meta l4proto ipv6-icmp jump upkeep_in */
	rules_chain_name(upkeep, "upkeep", hook);
	nft_rule_begin(set->batch, chain);
	nft_match_protocol(set->batch, NFT_META_L4PROTO, IPPROTO_ICMPV6);
	nft_branch(set->batch, NFT_JUMP, upkeep);
	nft_rule_end(set->batch);
}
