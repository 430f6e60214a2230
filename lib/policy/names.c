/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names that stand for numbers in packets. */
#include <netinet/in.h>
#include <string.h>

#include "policy/value.h"

/* IANA "Assigned Internet Protocol Numbers", the ones met in practice. */
const struct policy_name policy_protocols[] = {
	{"icmp", IPPROTO_ICMP},
	{"igmp", IPPROTO_IGMP},
	{"ipip", IPPROTO_IPIP},
	{"tcp", IPPROTO_TCP},
	{"udp", IPPROTO_UDP},
	{"dccp", IPPROTO_DCCP},
	{"ipv6", IPPROTO_IPV6},
	{"gre", IPPROTO_GRE},
	{"esp", IPPROTO_ESP},
	{"ah", IPPROTO_AH},
	{"icmpv6", IPPROTO_ICMPV6},
	{"ospf", 89},
	{"pim", IPPROTO_PIM},
	{"vrrp", 112},
	{"l2tp", 115},
	{"sctp", IPPROTO_SCTP},
	{"udplite", IPPROTO_UDPLITE},
	{NULL, 0},
};

/* RFC 2474 (class selectors), RFC 2597 (assured forwarding), RFC 3246 (ef), RFC 5865, RFC 8622. */
const struct policy_name policy_dscps[] = {
	{"be", 0},    {"le", 1},    {"cs0", 0},	  {"cs1", 8},	{"cs2", 16},
	{"cs3", 24},  {"cs4", 32},  {"cs5", 40},  {"cs6", 48},	{"cs7", 56},
	{"af11", 10}, {"af12", 12}, {"af13", 14}, {"af21", 18}, {"af22", 20},
	{"af23", 22}, {"af31", 26}, {"af32", 28}, {"af33", 30}, {"af41", 34},
	{"af42", 36}, {"af43", 38}, {"ef", 46},	  {"va", 44},	{NULL, 0},
};

/*
 * IANA "ICMP Type Numbers" and "ICMPv6 Type Numbers", named as iptables and nft name them. A name
 * that both families have is here twice.
 */
const struct policy_name policy_icmp_types[] = {
	{"echo-reply", 0},
	{"destination-unreachable", 3},
	{"source-quench", 4},
	{"redirect", 5},
	{"echo-request", 8},
	{"router-advertisement", 9},
	{"router-solicitation", 10},
	{"time-exceeded", 11},
	{"parameter-problem", 12},
	{"timestamp-request", 13},
	{"timestamp-reply", 14},
	{"info-request", 15},
	{"info-reply", 16},
	{"address-mask-request", 17},
	{"address-mask-reply", 18},
	{"destination-unreachable", POLICY_ICMPV6 | 1},
	{"packet-too-big", POLICY_ICMPV6 | 2},
	{"time-exceeded", POLICY_ICMPV6 | 3},
	{"parameter-problem", POLICY_ICMPV6 | 4},
	{"echo-request", POLICY_ICMPV6 | 128},
	{"echo-reply", POLICY_ICMPV6 | 129},
	{"mld-listener-query", POLICY_ICMPV6 | 130},
	{"mld-listener-report", POLICY_ICMPV6 | 131},
	{"mld-listener-done", POLICY_ICMPV6 | 132},
	{"router-solicitation", POLICY_ICMPV6 | 133},
	{"router-advertisement", POLICY_ICMPV6 | 134},
	{"neighbor-solicitation", POLICY_ICMPV6 | 135},
	{"neighbor-advertisement", POLICY_ICMPV6 | 136},
	{"redirect", POLICY_ICMPV6 | 137},
	{"nd-router-solicit", POLICY_ICMPV6 | 133},
	{"nd-router-advert", POLICY_ICMPV6 | 134},
	{"nd-neighbor-solicit", POLICY_ICMPV6 | 135},
	{"nd-neighbor-advert", POLICY_ICMPV6 | 136},
	{"nd-redirect", POLICY_ICMPV6 | 137},
	{"router-renumbering", POLICY_ICMPV6 | 138},
	{"ind-neighbor-solicit", POLICY_ICMPV6 | 141},
	{"ind-neighbor-advert", POLICY_ICMPV6 | 142},
	{"mld2-listener-report", POLICY_ICMPV6 | 143},
	{NULL, 0},
};

/* RFC 9293, RFC 3168: the bits of byte 13. */
const struct policy_name policy_tcp_flags[] = {
	{"fin", 0x01}, {"syn", 0x02}, {"rst", 0x04}, {"psh", 0x08}, {"ack", 0x10},
	{"urg", 0x20}, {"ece", 0x40}, {"cwr", 0x80}, {NULL, 0},
};

int policy_name_lookup(const struct policy_name *names, const char *name)
{
	for (size_t i = 0; names[i].name; i++) {
		if (strcmp(names[i].name, name) == 0)
			return names[i].number;
	}
	return -1;
}

bool policy_name_unknown(struct policy_reader *reader, const struct policy_name *names,
			 const char *what, const char *name)
{
	const char *candidates[64], *nearest;
	size_t count = 0;

	while (count < 64 && names[count].name) {
		candidates[count] = names[count].name;
		count++;
	}
	nearest = policy_nearest(name, candidates, count);
	if (nearest)
		policy_complain(reader, "unknown %s \"%.40s\"; did you mean \"%s\"?", what, name,
				nearest);
	else
		policy_complain(reader, "unknown %s \"%.40s\"", what, name);
	return false;
}
