/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names/turned.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <string.h>

#define TTL 64

/* RFC 1071. */
static uint32_t add_up(uint32_t sum, const void *data, size_t length)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i + 1 < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	if (length % 2)
		sum += (uint32_t)bytes[length - 1] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Over both addresses, protocol and length too: RFC 768, RFC 8200 8.1. */
static void fill_checksum(struct udphdr *udp, const void *addresses, size_t address_bytes)
{
	const uint16_t length = ntohs(udp->len);
	uint32_t sum = add_up(IPPROTO_UDP + (uint32_t)length, addresses, 2 * address_bytes);
	uint16_t check;

	udp->check = 0;
	check = fold(add_up(sum, udp, length));
	udp->check = htons(check ? check : 0xffff);
}

static size_t fill_ip4(uint8_t *packet, const struct pkt *pkt, size_t payload)
{
	const struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.ttl = TTL,
		.protocol = IPPROTO_UDP,
		.tot_len = htons((uint16_t)(sizeof(ip) + payload)),
		.saddr = pkt->dst.words[0],
		.daddr = pkt->src.words[0],
	};
	uint16_t check;

	memcpy(packet, &ip, sizeof(ip));
	check = htons(fold(add_up(0, packet, sizeof(ip))));
	memcpy(packet + offsetof(struct iphdr, check), &check, sizeof(check));
	return sizeof(ip);
}

static size_t fill_ip6(uint8_t *packet, const struct pkt *pkt, size_t payload)
{
	struct ip6_hdr ip = {
		.ip6_flow = htonl(6U << 28),
		.ip6_plen = htons((uint16_t)payload),
		.ip6_nxt = IPPROTO_UDP,
		.ip6_hlim = TTL,
	};

	memcpy(&ip.ip6_src, &pkt->dst, sizeof(ip.ip6_src));
	memcpy(&ip.ip6_dst, &pkt->src, sizeof(ip.ip6_dst));
	memcpy(packet, &ip, sizeof(ip));
	return sizeof(ip);
}

size_t names_turn(const struct pkt *pkt, const uint8_t *message, size_t length,
		  const struct dns_question *question, enum dns_rcode rcode, uint8_t *packet)
{
	const bool is_ip4 = pkt->family == AF_INET;
	const size_t header = is_ip4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
	struct udphdr *udp = (struct udphdr *)(void *)(packet + header);
	uint8_t *answer = packet + header + sizeof(*udp);
	size_t bytes;

	memcpy(answer, message, length);
	bytes = sizeof(*udp) + dns_query_refuse(answer, length, question, rcode);
	*udp = (struct udphdr){
		.source = htons(pkt->dport),
		.dest = htons(pkt->sport),
		.len = htons((uint16_t)bytes),
	};
	if (is_ip4)
		fill_ip4(packet, pkt, bytes);
	else
		fill_ip6(packet, pkt, bytes);
	fill_checksum(udp,
		      packet + (is_ip4 ? offsetof(struct iphdr, saddr)
				       : offsetof(struct ip6_hdr, ip6_src)),
		      is_ip4 ? 4 : 16);
	return header + bytes;
}

void names_turned_note(struct names_turned *turned, const uint8_t *packet, size_t length,
		       uint32_t mark, uint64_t now_ns)
{
	struct names_turned_packet *noted = &turned->list[turned->next++ % NAMES_TURNED_MAX];

	noted->until_ns = now_ns + NAMES_TURNED_NS;
	noted->mark = mark;
	noted->length = (uint16_t)length;
	memcpy(noted->bytes, packet, length);
}

bool names_turned_find(const struct names_turned *turned, const uint8_t *packet, size_t length,
		       uint64_t now_ns, uint32_t *ret_mark)
{
	for (size_t i = 0; i < NAMES_TURNED_MAX; i++) {
		const struct names_turned_packet *noted = &turned->list[i];

		if (noted->length != length || noted->until_ns < now_ns ||
		    memcmp(noted->bytes, packet, length) != 0)
			continue;
		*ret_mark = noted->mark;
		return true;
	}
	return false;
}
