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
#include "broker/nft/ndisc.h"

#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>

#include "broker/nft/rule.h"

#define IPV6_SOURCE_OFFSET 8
#define REPORTS_PER_SECOND 5

/* RFC 4861 4.1-4.5: of the link only. */
#define SOLICIT_ROUTER ICMPV6(255, 133, 133)
#define ADVERTISE_ROUTER ICMPV6(255, 134, 134)
#define NEIGHBOURS ICMPV6(255, 135, 136)
#define REDIRECT ICMPV6(255, 137, 137)
/* RFC 2710 3 and RFC 3810 5.2: of the link, too. */
#define MLD_ANY ICMPV6(1, 130, 132)
#define MLD1_REPORT ICMPV6(1, 131, 132)
#define MLD2_REPORT ICMPV6(1, 143, 143)
#define MLD1_REPORT_BYTES 72
#define MLD1_GROUP_OFFSET 8
#define MLD2_COUNT_OFFSET 6
#define MLD2_RECORDS_OFFSET 8
#define MLD2_RECORD_BYTES 20
#define MLD2_REPORT_BYTES(records) (56 + MLD2_RECORD_BYTES * (records))

/* ---- multicast listener reports ---- */

/* Of the link. What is forwarded has another one. */
static void on_link_local_source(const struct rule_context *context, NO_VALUE)
{
	static const uint8_t prefix[] = {0xfe, 0x80};

	nft_match_prefix(context->set->batch, NFT_PAYLOAD_NETWORK_HEADER, IPV6_SOURCE_OFFSET,
			 prefix, 8 * sizeof(prefix));
}

/* No address yet. */
static void on_no_source(const struct rule_context *context, NO_VALUE)
{
	static const uint8_t none[16];

	nft_match_prefix(context->set->batch, NFT_PAYLOAD_NETWORK_HEADER, IPV6_SOURCE_OFFSET, none,
			 8 * sizeof(none));
}

static void on_solicited_node(const struct rule_context *context, uint32_t offset)
{
	static const uint8_t prefix[] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff};

	nft_match_prefix(context->set->batch, NFT_PAYLOAD_TRANSPORT_HEADER, offset, prefix,
			 8 * sizeof(prefix));
}

/* So many records, each of such a group, without sources and auxiliary data. */
static void on_records(const struct rule_context *context, uint32_t records)
{
	const uint8_t count[] = {0, (uint8_t)records}, none[] = {0, 0, 0};
	struct nft_batch *batch = context->set->batch;

	nft_match_prefix(batch, NFT_PAYLOAD_TRANSPORT_HEADER, MLD2_COUNT_OFFSET, count,
			 8 * sizeof(count));
	for (uint32_t i = 0; i < records; i++) {
		const uint32_t at = MLD2_RECORDS_OFFSET + MLD2_RECORD_BYTES * i;

		nft_match_prefix(batch, NFT_PAYLOAD_TRANSPORT_HEADER, at + 1, none,
				 8 * sizeof(none));
		on_solicited_node(context, at + 4);
	}
}

/* ---- the chain ---- */

#define ACCEPT(when, kind, bytes_max)                                                              \
	{                                                                                          \
		when,                                                                              \
		{                                                                                  \
			{on_icmpv6, kind}, {on_length_max, bytes_max},                             \
			{                                                                          \
				do_accept_notice                                                   \
			}                                                                          \
		}                                                                                  \
	}
#define ACCEPT_REPORT(kind, bytes_max, source, groups, value)                                      \
	{                                                                                          \
		IF_OUTGOING,                                                                       \
		{                                                                                  \
			{on_icmpv6, kind}, {on_length_max, bytes_max}, {source}, {groups, value},  \
				{do_limit, REPORTS_PER_SECOND},                                    \
			{                                                                          \
				do_accept_notice                                                   \
			}                                                                          \
		}                                                                                  \
	}
#define ACCEPT_REPORTS(source)                                                                     \
	ACCEPT_REPORT(MLD1_REPORT, MLD1_REPORT_BYTES, source, on_solicited_node,                   \
		      MLD1_GROUP_OFFSET),                                                          \
		ACCEPT_REPORT(MLD2_REPORT, MLD2_REPORT_BYTES(1), source, on_records, 1),           \
		ACCEPT_REPORT(MLD2_REPORT, MLD2_REPORT_BYTES(2), source, on_records, 2),           \
		ACCEPT_REPORT(MLD2_REPORT, MLD2_REPORT_BYTES(3), source, on_records, 3)

/* Lengths are with the options that are in use: link addresses, a nonce (RFC 3971 5.3.2). */
static const struct rule upkeep_rules[] = {
	/* What will be forwarded is for nobody here. */
	{IF_PREROUTING | IF_FIB,
	 {{on_destination, RTN_UNICAST}, {do_verdict, (uint32_t)NFT_RETURN}}},
	ACCEPT(IF_INCOMING, SOLICIT_ROUTER, 80),
	ACCEPT(IF_INCOMING, ADVERTISE_ROUTER, 576),
	ACCEPT(IF_INCOMING, NEIGHBOURS, 88),
	ACCEPT(IF_INCOMING, REDIRECT, 1280),
	ACCEPT(IF_INCOMING, MLD_ANY, 576),
	ACCEPT(IF_INCOMING, MLD2_REPORT, 576),

	/* Of programs; then what no socket owns. */
	ACCEPT(IF_OUTGOING | NOT(IF_STRICT), SOLICIT_ROUTER, 64),
	ACCEPT(IF_OUTGOING | NOT(IF_STRICT), NEIGHBOURS, 72),
	{IF_OUTGOING, {{on_owner}, {do_verdict, (uint32_t)NFT_RETURN}}},
	ACCEPT(IF_OUTGOING, SOLICIT_ROUTER, 80),
	ACCEPT(IF_OUTGOING, NEIGHBOURS, 88),
	ACCEPT(IF_OUTGOING, REDIRECT, 1280),
	ACCEPT_REPORTS(on_link_local_source),
	ACCEPT_REPORTS(on_no_source),
};

static const struct rule_chain upkeep_chain = {ROLE_UPKEEP, 0, NOT(IF_FORWARD),
					       RULES(upkeep_rules)};

void ndisc_chain_add(const struct rules_set *set, uint32_t hook)
{
	rule_chains_add(set, hook, &upkeep_chain, 1);
}
