/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A packet is walked once, front to back, through a cursor that knows two ends: how many bytes
 * the packet has by its own account (`end`), and how many of them were copied (`captured`). Every
 * read goes through need(), which holds it against both. What a sender says in two places must
 * agree; where it does not, two readers could understand two different packets, and the one that
 * judges must not be the one that is fooled. So such packets are refused, not guessed at.
 *
 * A fragment other than the first has no transport header. The first one must hold all of it,
 * else the ports could hide in the second (RFC 1858, RFC 7112).
 */
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "nsgate/hook.h"
#include "pkt.h"
#include "policy/policy.h"

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define EXTENSIONS_MAX 16
#define LENGTH_FIELD_MAX 65535 /* of the 16-bit length fields of IPv4, IPv6 and UDP */

#define OPTION_PAD1 0
#define OPTION_JUMBO 0xc2 /* RFC 2675 */

/* What the caller says of a packet; pkt_parse() and pkt_reverse() keep or drop these on purpose. */
#define HAVE_FROM_QUEUE (PKT_HAVE_MAC | PKT_HAVE_UID | PKT_HAVE_GID)

struct cursor {
	const uint8_t *data;
	size_t captured; /* bytes that may be read */
	size_t at;	 /* of the header now looked at */
	size_t end;	 /* of the packet, by its IP header */
	bool super;	 /* longer than its own length fields can say */
};

static uint16_t load16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t load32(const uint8_t *at)
{
	return (uint32_t)load16(at) << 16 | load16(at + 2);
}

/* The next `size` bytes, or NULL where the packet or its copy ends before. */
static const uint8_t *need(const struct cursor *cursor, size_t size)
{
	size_t limit = cursor->captured < cursor->end ? cursor->captured : cursor->end;

	if (cursor->at > limit || size > limit - cursor->at)
		return NULL;
	return cursor->data + cursor->at;
}

static void take_ports(struct pkt *pkt, const uint8_t *header)
{
	pkt->sport = load16(header);
	pkt->dport = load16(header + 2);
	pkt->have |= PKT_HAVE_PORTS;
}

static int parse_tcp(struct pkt *pkt, const struct cursor *cursor)
{
	const uint8_t *tcp = need(cursor, 20);
	size_t header;

	if (!tcp)
		return -EBADMSG;
	header = (size_t)(tcp[12] >> 4) * 4;
	if (header < 20 || header > cursor->end - cursor->at)
		return -EBADMSG;
	take_ports(pkt, tcp);
	pkt->tcp_flags = tcp[13];
	pkt->have |= PKT_HAVE_TCP_FLAGS;
	return 0;
}

static int parse_udp(struct pkt *pkt, const struct cursor *cursor)
{
	const uint8_t *udp = need(cursor, 8);
	size_t length;

	if (!udp)
		return -EBADMSG;
	length = load16(udp + 4);
	if (length < 8 && !(length == 0 && cursor->super))
		return -EBADMSG;
	/* A first fragment rightly names more than it holds. */
	if (length > cursor->end - cursor->at && !(pkt->have & PKT_HAVE_FRAGMENT))
		return -EBADMSG;
	take_ports(pkt, udp);
	return 0;
}

static int parse_icmp(struct pkt *pkt, const struct cursor *cursor)
{
	const uint8_t *icmp = need(cursor, 8);

	if (!icmp)
		return -EBADMSG;
	pkt->icmp_type = icmp[0];
	pkt->icmp_code = icmp[1];
	pkt->have |= PKT_HAVE_ICMP;
	return 0;
}

/* A protocol of which only the ports matter, at the start of a header of `size` bytes. */
static int parse_ports(struct pkt *pkt, const struct cursor *cursor, size_t size)
{
	const uint8_t *header = need(cursor, size);

	if (!header)
		return -EBADMSG;
	take_ports(pkt, header);
	return 0;
}

static int parse_transport(struct pkt *pkt, const struct cursor *cursor)
{
	pkt->l4_offset = (uint32_t)cursor->at;
	if (pkt->have & PKT_HAVE_LATER_FRAGMENT)
		return 0;

	switch (pkt->protocol) {
	case IPPROTO_TCP:
		return parse_tcp(pkt, cursor);
	case IPPROTO_UDP:
		return parse_udp(pkt, cursor);
	case IPPROTO_UDPLITE:
		return parse_ports(pkt, cursor, 8);
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		return parse_ports(pkt, cursor, 12);
	case IPPROTO_ICMP: /* the other family's ICMP is just a number */
		return pkt->family == AF_INET ? parse_icmp(pkt, cursor) : 0;
	case IPPROTO_ICMPV6:
		return pkt->family == AF_INET6 ? parse_icmp(pkt, cursor) : 0;
	default:
		return 0;
	}
}

/*
 * Note what a fragment is, `offset` and `size` being its place and length in bytes.
 * Offsets that would end past the largest packet, or reach back into a TCP header, are attacks.
 */
static int note_fragment(struct pkt *pkt, size_t offset, size_t size, bool more)
{
	if (more && size % 8 != 0)
		return -EBADMSG;
	if (offset + size > LENGTH_FIELD_MAX)
		return -EBADMSG;
	pkt->have |= PKT_HAVE_FRAGMENT;
	if (offset == 0)
		return 0;
	if (pkt->protocol == IPPROTO_TCP && offset < 20)
		return -EBADMSG;
	pkt->have |= PKT_HAVE_LATER_FRAGMENT;
	return 0;
}

static int parse_ipv4(struct pkt *pkt, struct cursor *cursor)
{
	const uint8_t *ip = need(cursor, IPV4_HEADER);
	size_t header, total, offset;
	bool more;
	int err;

	if (!ip)
		return -EBADMSG;
	header = (size_t)(ip[0] & 0x0f) * 4;
	total = load16(ip + 2);
	if (total == 0 && cursor->end > LENGTH_FIELD_MAX) {
		cursor->super = true;
		total = cursor->end;
	}
	if (header < IPV4_HEADER || total < header || total > cursor->end)
		return -EBADMSG;
	cursor->end = total; /* what follows is the link's padding */
	if (!need(cursor, header))
		return -EBADMSG;

	pkt->family = AF_INET;
	pkt->protocol = ip[9];
	pkt->ttl = ip[8];
	pkt->dscp = ip[1] >> 2;
	memcpy(pkt->src.bytes, ip + 12, 4);
	memcpy(pkt->dst.bytes, ip + 16, 4);
	cursor->at = header;

	more = ip[6] & 0x20;
	offset = (size_t)(load16(ip + 6) & 0x1fff) * 8;
	if (more || offset) {
		err = note_fragment(pkt, offset, total - header, more);
		if (err < 0)
			return err;
	}
	return parse_transport(pkt, cursor);
}

/*
 * Look for a jumbo payload option in a hop-by-hop header.
 * Return: 1 with its value, 0 where there is none, -EBADMSG for options that overrun the header.
 */
static int find_jumbo(const uint8_t *header, size_t size, uint32_t *ret_length)
{
	size_t at = 2, step;
	int found = 0;

	while (at < size) {
		if (header[at] == OPTION_PAD1) {
			at++;
			continue;
		}
		if (size - at < 2)
			return -EBADMSG;
		step = 2 + (size_t)header[at + 1];
		if (step > size - at)
			return -EBADMSG;
		if (header[at] == OPTION_JUMBO) {
			if (step != 6 || found)
				return -EBADMSG;
			*ret_length = load32(header + at + 2);
			found = 1;
		}
		at += step;
	}
	return found;
}

static int parse_hop_by_hop(struct cursor *cursor, const uint8_t *header, size_t size)
{
	uint32_t jumbo;
	int found = find_jumbo(header, size, &jumbo);

	if (found <= 0)
		return found;
	/* RFC 2675: only beside a payload length of 0, and only where it is needed. */
	if (!cursor->super || jumbo <= LENGTH_FIELD_MAX || jumbo > cursor->end - IPV6_HEADER)
		return -EBADMSG;
	cursor->end = IPV6_HEADER + (size_t)jumbo;
	return 0;
}

static int parse_ipv6_fragment(struct pkt *pkt, const struct cursor *cursor, const uint8_t *header)
{
	size_t offset = load16(header + 2) & 0xfff8;
	bool more = header[3] & 1;

	pkt->protocol = header[0];
	if (!more && offset == 0) /* an "atomic" fragment is a whole packet (RFC 6946) */
		return 0;
	return note_fragment(pkt, offset, cursor->end - cursor->at - 8, more);
}

/* Step over the extension headers; pkt->protocol is the first that is none of them. */
static int parse_extensions(struct pkt *pkt, struct cursor *cursor)
{
	const uint8_t *header;
	bool fragmented = false;
	size_t size;
	int err;

	for (int i = 0;; i++) {
		switch (pkt->protocol) {
		case IPPROTO_HOPOPTS:
			if (i != 0) /* only ever the first (RFC 8200, 4.3) */
				return -EBADMSG;
			break;
		case IPPROTO_FRAGMENT:
			if (fragmented)
				return -EBADMSG;
			fragmented = true;
			break;
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_AH:
			break;
		default:
			return 0;
		}
		if (i == EXTENSIONS_MAX)
			return -EBADMSG;

		header = need(cursor, 8);
		if (!header)
			return -EBADMSG;
		if (pkt->protocol == IPPROTO_FRAGMENT) {
			err = parse_ipv6_fragment(pkt, cursor, header);
			cursor->at += 8;
			if (err < 0 || pkt->have & PKT_HAVE_LATER_FRAGMENT)
				return err;
			continue;
		}

		/* AH counts in words of four bytes less two, the others in eight less one. */
		size = pkt->protocol == IPPROTO_AH ? ((size_t)header[1] + 2) * 4
						   : ((size_t)header[1] + 1) * 8;
		if (size < 8 || size % 8 != 0 || !need(cursor, size))
			return -EBADMSG;
		if (pkt->protocol == IPPROTO_HOPOPTS) {
			err = parse_hop_by_hop(cursor, header, size);
			if (err < 0)
				return err;
		}
		pkt->protocol = header[0];
		cursor->at += size;
		if (cursor->at > cursor->end)
			return -EBADMSG;
	}
}

static int parse_ipv6(struct pkt *pkt, struct cursor *cursor)
{
	const uint8_t *ip = need(cursor, IPV6_HEADER);
	size_t payload;
	int err;

	if (!ip)
		return -EBADMSG;
	payload = load16(ip + 4);
	if (payload == 0 && cursor->end > IPV6_HEADER + LENGTH_FIELD_MAX) {
		cursor->super = true;
		payload = cursor->end - IPV6_HEADER;
	}
	if (payload > cursor->end - IPV6_HEADER)
		return -EBADMSG;
	cursor->end = IPV6_HEADER + payload;

	pkt->family = AF_INET6;
	pkt->protocol = ip[6];
	pkt->ttl = ip[7];
	pkt->dscp = (load16(ip) >> 6) & 0x3f;
	memcpy(pkt->src.bytes, ip + 8, 16);
	memcpy(pkt->dst.bytes, ip + 24, 16);
	cursor->at = IPV6_HEADER;

	err = parse_extensions(pkt, cursor);
	if (err < 0)
		return err;
	return parse_transport(pkt, cursor);
}

int pkt_parse(struct pkt *pkt, const uint8_t *data, size_t caplen, size_t length)
{
	struct cursor cursor = {
		.data = data,
		.captured = caplen < length ? caplen : length,
		.end = length,
	};

	pkt->family = 0;
	pkt->protocol = 0;
	pkt->ttl = 0;
	pkt->dscp = 0;
	pkt->icmp_type = 0;
	pkt->icmp_code = 0;
	pkt->tcp_flags = 0;
	pkt->have &= HAVE_FROM_QUEUE;
	pkt->sport = 0;
	pkt->dport = 0;
	pkt->l4_offset = 0;
	memset(&pkt->src, 0, sizeof(pkt->src));
	memset(&pkt->dst, 0, sizeof(pkt->dst));
	pkt->unknown = 0;

	if (cursor.captured == 0)
		return -EBADMSG;
	switch (data[0] >> 4) {
	case 4:
		return parse_ipv4(pkt, &cursor);
	case 6:
		return parse_ipv6(pkt, &cursor);
	default:
		return -EBADMSG;
	}
}

/* ---- the other direction ---- */

#define FIELD(name) (UINT64_C(1) << POLICY_FIELD_##name)

/* The fields that pkt_reverse() fills in for any packet. Whatever is not named here is unknown. */
#define REVERSIBLE                                                                                 \
	(FIELD(DIRECTION) | FIELD(FAMILY) | FIELD(PROTOCOL) | FIELD(SRC) | FIELD(DST) |            \
	 FIELD(SPORT) | FIELD(DPORT) | FIELD(ICMP_TYPE) | FIELD(ICMP_CODE) | FIELD(TCP_FLAGS) |    \
	 FIELD(IIF) | FIELD(OIF) | FIELD(SRC_MAC) | FIELD(UID) | FIELD(GID) | FIELD(FRAGMENT) |    \
	 FIELD(DOMAIN))

static uint8_t reverse_hook(uint8_t hook)
{
	static const uint8_t opposite[NSGATE_HOOK_MAX] = {
		[NSGATE_HOOK_PREROUTING] = NSGATE_HOOK_POSTROUTING,
		[NSGATE_HOOK_IN] = NSGATE_HOOK_OUT,
		[NSGATE_HOOK_FORWARD] = NSGATE_HOOK_FORWARD,
		[NSGATE_HOOK_OUT] = NSGATE_HOOK_IN,
		[NSGATE_HOOK_POSTROUTING] = NSGATE_HOOK_PREROUTING,
	};

	return hook < NSGATE_HOOK_MAX ? opposite[hook] : hook;
}

/* The ICMP queries that conntrack pairs with an answer. */
static bool reverse_icmp(struct pkt *pkt)
{
	static const struct {
		uint8_t family, answer, query;
	} pairs[] = {
		{AF_INET, 0, 8},     /* echo */
		{AF_INET, 14, 13},   /* timestamp */
		{AF_INET, 16, 15},   /* information */
		{AF_INET, 18, 17},   /* address mask */
		{AF_INET6, 129, 128} /* echo */
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		if (pkt->family == pairs[i].family && pkt->icmp_type == pairs[i].answer) {
			pkt->icmp_type = pairs[i].query;
			return true;
		}
	}
	return false;
}

void pkt_reverse(struct pkt *ret_original, const struct pkt *reply)
{
	struct pkt pkt = *reply;

	pkt.src = reply->dst;
	pkt.dst = reply->src;
	pkt.sport = reply->dport;
	pkt.dport = reply->sport;
	pkt.iif_bits = reply->oif_bits;
	pkt.oif_bits = reply->iif_bits;
	pkt.hook = reverse_hook(reply->hook);
	if (reply->direction == PKT_DIRECTION_IN)
		pkt.direction = PKT_DIRECTION_OUT;
	else if (reply->direction == PKT_DIRECTION_OUT)
		pkt.direction = PKT_DIRECTION_IN;
	pkt.ct = 0;
	pkt.query = PKT_QUERY_NONE;

	/*
	 * Ports, flags and ICMP types that the reply does not have the original has not either, so
	 * they are known to be absent. Where the reply has flags, the original's are anyone's
	 * guess.
	 */
	pkt.unknown = ~REVERSIBLE;
	if (pkt.have & PKT_HAVE_TCP_FLAGS)
		pkt.unknown |= FIELD(TCP_FLAGS);
	if (pkt.have & PKT_HAVE_ICMP && !reverse_icmp(&pkt))
		pkt.unknown |= FIELD(ICMP_TYPE) | FIELD(ICMP_CODE);

	/* Only what a local socket sends has an owner; only what a link brought has a sender's MAC.
	 */
	pkt.have &= (uint16_t)~HAVE_FROM_QUEUE;
	if (pkt.direction == PKT_DIRECTION_OUT)
		pkt.unknown |= FIELD(UID) | FIELD(GID);
	else
		pkt.unknown |= FIELD(SRC_MAC);

	*ret_original = pkt;
}
