/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/queue/reset.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include <libnetfilter_queue/libnetfilter_queue_ipv4.h>
#include <libnetfilter_queue/libnetfilter_queue_tcp.h>

#include "pkt.h"

#define HOPS 64 /* net.ipv4.ip_default_ttl: the sender's own choice is not passed on */
#define DATA_OFFSET 12
#define OFFSET_SHIFT 4

/* Data and FIN wait for an acknowledgement. A reset is its sender's last word. */
static bool is_worth_it(const uint8_t *tcp, const struct pkt *pkt)
{
	const uint32_t header = (uint32_t)(tcp[DATA_OFFSET] >> OFFSET_SHIFT) * 4;

	return pkt->tcp_flags & (TH_FIN | TH_RST) || pkt->length > pkt->l4_offset + header;
}

static void put_tcp(const struct tcphdr *segment, struct tcphdr *ret)
{
	*ret = (struct tcphdr){
		.source = segment->source,
		.dest = segment->dest,
		.seq = segment->seq,
		.doff = sizeof(*ret) / 4,
		.rst = 1,
	};
}

static void put_ipv4(const struct pkt *pkt, struct iphdr *ret)
{
	*ret = (struct iphdr){
		.version = 4,
		.ihl = sizeof(*ret) / 4,
		.tot_len = htons(sizeof(*ret) + sizeof(struct tcphdr)),
		.frag_off = htons(IP_DF),
		.ttl = HOPS,
		.protocol = IPPROTO_TCP,
	};
	memcpy(&ret->saddr, &pkt->src, sizeof(ret->saddr));
	memcpy(&ret->daddr, &pkt->dst, sizeof(ret->daddr));
	nfq_ip_set_checksum(ret);
}

static void put_ipv6(const struct pkt *pkt, struct ip6_hdr *ret)
{
	*ret = (struct ip6_hdr){.ip6_ctlun.ip6_un1 = {
					.ip6_un1_flow = htonl(UINT32_C(6) << 28),
					.ip6_un1_plen = htons(sizeof(struct tcphdr)),
					.ip6_un1_nxt = IPPROTO_TCP,
					.ip6_un1_hlim = HOPS,
				}};
	memcpy(&ret->ip6_src, &pkt->src, sizeof(ret->ip6_src));
	memcpy(&ret->ip6_dst, &pkt->dst, sizeof(ret->ip6_dst));
}

size_t reset_make(const uint8_t *segment, size_t caplen, const struct pkt *pkt, uint8_t *ret)
{
	const size_t ip_bytes =
		pkt->family == AF_INET ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
	void *network = ret, *transport = ret + ip_bytes;
	struct tcphdr given;

	/* The kernel remembers where the header of TCP was. */
	if (pkt->l4_offset != ip_bytes || caplen < ip_bytes + sizeof(given) ||
	    !is_worth_it(segment + ip_bytes, pkt))
		return 0;
	memcpy(&given, segment + ip_bytes, sizeof(given));
	put_tcp(&given, transport);
	if (pkt->family == AF_INET) {
		put_ipv4(pkt, network);
		nfq_tcp_compute_checksum_ipv4(transport, network);
	} else {
		put_ipv6(pkt, network);
		nfq_tcp_compute_checksum_ipv6(transport, network);
	}
	return ip_bytes + sizeof(given);
}
