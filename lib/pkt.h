/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One packet as a policy sees it: what the queue said of it (filled in by the caller) and what its
 * headers say (filled in by pkt_parse()). No I/O, no allocation, no kernel needed.
 */
#ifndef NSGATE_PKT_H
#define NSGATE_PKT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

enum pkt_direction {
	PKT_DIRECTION_IN,
	PKT_DIRECTION_OUT,
	PKT_DIRECTION_FORWARD,
	PKT_DIRECTION_MAX
};

/* Which fields hold something; a match on a field that does not never matches. */
enum pkt_have {
	PKT_HAVE_PORTS = 1 << 0,	  /* sport, dport */
	PKT_HAVE_ICMP = 1 << 1,		  /* icmp_type, icmp_code */
	PKT_HAVE_TCP_FLAGS = 1 << 2,	  /* tcp_flags */
	PKT_HAVE_MAC = 1 << 3,		  /* src_mac; set by the caller */
	PKT_HAVE_UID = 1 << 4,		  /* uid; set by the caller */
	PKT_HAVE_GID = 1 << 5,		  /* gid; set by the caller */
	PKT_HAVE_FRAGMENT = 1 << 6,	  /* it is a fragment (any, the first included) */
	PKT_HAVE_LATER_FRAGMENT = 1 << 7, /* a fragment other than the first: no ports in it */
	PKT_HAVE_DOMAIN = 1 << 8,	  /* domains: the remote address is known by a name */
};

/* An address in network byte order; IPv4 in the first four bytes, the rest zero. */
struct pkt_addr {
	union {
		uint8_t bytes[16];
		uint32_t words[4];
		uint64_t quads[2];
	};
};

/*
 * What connection tracking says of a packet, as far as the caller knows: one of the states at most,
 * and whether it goes the flow's other way. The states are those of nft(8)'s "ct state": the first
 * packet of a flow that conntrack expects is RELATED and not NEW, and so is an ICMP error about a
 * flow. A packet of which nothing is known has no bit and matches no state.
 */
enum pkt_ct {
	PKT_CT_NEW = 1 << 0,	     /* it would open a flow */
	PKT_CT_REPLY = 1 << 1,	     /* of a flow's reply direction, whatever the state */
	PKT_CT_ESTABLISHED = 1 << 2, /* of a flow that has seen packets both ways */
	PKT_CT_RELATED = 1 << 3,   /* it opens a flow that is expected, or is an error about one */
	PKT_CT_INVALID = 1 << 4,   /* it fits no flow and opens none */
	PKT_CT_UNTRACKED = 1 << 5, /* a rule of the namespace says notrack */
};
#define PKT_CT_ALL 0x3f

/* What a packet is to the DNS. */
enum pkt_query {
	PKT_QUERY_NONE,	     /* no query */
	PKT_QUERY_GOOD,	     /* a query: query_lists, query_type */
	PKT_QUERY_MALFORMED, /* it is where a query should be */
	PKT_QUERY_NOT_YET,   /* a segment without data, of a connection for queries */
};

struct pkt {
	/* From the queue, set by the caller before pkt_parse(). */
	uint32_t mark; /* the namespace's own, all 32 bits */
	uint32_t uid, gid;
	uint32_t length;   /* of the IP packet on the wire, bytes */
	uint64_t iif_bits; /* bit i: the input link's name matches the policy's pattern i */
	uint64_t oif_bits; /* the same for the output link */
	uint8_t src_mac[6];
	uint8_t hook;	   /* enum nsgate_hook */
	uint8_t direction; /* enum pkt_direction */
	uint8_t ct;	   /* enum pkt_ct */

	/* From the headers. */
	uint8_t family;	  /* AF_INET or AF_INET6 */
	uint8_t protocol; /* IPPROTO_*: the one after the IPv6 extension headers */
	uint8_t ttl;	  /* or hop limit */
	uint8_t dscp;
	uint8_t icmp_type, icmp_code;
	uint8_t tcp_flags;     /* the eight bits FIN..CWR as in the header's byte 13 */
	uint16_t have;	       /* enum pkt_have */
	uint16_t sport, dport; /* host byte order */
	uint32_t l4_offset;    /* of the transport header from the IP header, bytes */
	struct pkt_addr src, dst;

	/* Of names (lib/names); 0 where no policy asks. Lists are the policy's: bit i is list i. */
	uint64_t domains;     /* that have a name of the remote address */
	uint64_t query_lists; /* that have the name asked for */
	uint16_t query_type;  /* the type asked for, as in RFC 1035, 3.2.2 */
	uint8_t query;	      /* enum pkt_query */

	/*
	 * Fields whose value nothing is known of (enum policy_field bits, policy.h): set by
	 * pkt_reverse() only. A rule that asks for one matches when it forbids, and does not
	 * when it allows.
	 */
	uint64_t unknown;
};

/*
 * Parse an IPv4 or IPv6 packet's headers.
 * @pkt: the fields of the queue are kept, those of the headers overwritten
 * @data: from the IP header on, `caplen` bytes of it copied, `length` bytes on the wire
 * Return: 0; -EBADMSG where the headers are truncated by the sender, contradict themselves or are
 * neither IPv4 nor IPv6; such a packet must be dropped and counted. A packet whose headers do not
 * fit into `caplen` though they would in `length` is -EBADMSG too: the copy range is chosen so
 * that honest headers fit.
 * Formats: RFC 791, RFC 8200 (extension headers: at most 16 of them), RFC 9293, RFC 768, RFC 792,
 * RFC 4443, RFC 9260 (SCTP), RFC 4340 (DCCP), RFC 3828 (UDP-Lite).
 */
int pkt_parse(struct pkt *pkt, const uint8_t *data, size_t caplen, size_t length);

/* 127.0.0.0/8 (RFC 1122 3.2.1.3), ::1 (RFC 4291 2.5.3). */
static inline bool pkt_addr_is_loopback(uint8_t family, const struct pkt_addr *address)
{
	static const struct pkt_addr ipv6 = {.bytes = {[15] = 1}};

	if (family == AF_INET)
		return address->bytes[0] == 127;
	return memcmp(address, &ipv6, sizeof(ipv6)) == 0;
}

/*
 * Turn a packet of a flow's reply direction into the packet of the original direction that it
 * answers, as far as that can be known: addresses, ports and links change places, in becomes out,
 * echo-reply becomes echo-request. What cannot be known is set in `unknown`.
 */
void pkt_reverse(struct pkt *ret_original, const struct pkt *reply);

#endif
