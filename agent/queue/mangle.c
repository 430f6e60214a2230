/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/queue/mangle.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <libnetfilter_queue/libnetfilter_queue_ipv4.h>
#include <libnetfilter_queue/libnetfilter_queue_tcp.h>
#include <libnetfilter_queue/libnetfilter_queue_udp.h>

#include "pkt.h"

#define DSCP_SHIFT 2 /* above the two ECN bits, RFC 3168 */
#define ECN_MASK 3
#define IP6_CLASS_SHIFT 20 /* of the traffic class in the first word, RFC 8200 */

static void fill_tcp(void *network, uint8_t family, struct tcphdr *tcp)
{
	if (family == AF_INET)
		nfq_tcp_compute_checksum_ipv4(tcp, network);
	else
		nfq_tcp_compute_checksum_ipv6(tcp, network);
}

/* Zero would mean "no checksum", RFC 768. */
static void fill_udp(void *network, uint8_t family, struct udphdr *udp)
{
	if (family == AF_INET)
		nfq_udp_compute_checksum_ipv4(udp, network);
	else
		nfq_udp_compute_checksum_ipv6(udp, network);
	if (udp->check == 0)
		udp->check = 0xffff;
}

static int fill_checksum(uint8_t *packet, size_t length, const struct pkt *pkt)
{
	const size_t left = length > pkt->l4_offset ? length - pkt->l4_offset : 0;
	void *transport = packet + pkt->l4_offset;

	/* Checksums are complete before a packet is cut into fragments. */
	if (pkt->have & PKT_HAVE_FRAGMENT)
		return 0;
	switch (pkt->protocol) {
	case IPPROTO_TCP:
		if (left < sizeof(struct tcphdr))
			return -EBADMSG;
		fill_tcp(packet, pkt->family, transport);
		return 0;
	case IPPROTO_UDP:
		if (left < sizeof(struct udphdr))
			return -EBADMSG;
		fill_udp(packet, pkt->family, transport);
		return 0;
	default:
		return -EPROTONOSUPPORT;
	}
}

static int mangle_ip4(struct iphdr *ip, size_t length, const struct mangle *mangle)
{
	if (length < sizeof(*ip) || ip->ihl < 5 || ip->ihl * 4U > length ||
	    ntohs(ip->tot_len) > length)
		return -EBADMSG;
	if (mangle->ttl >= 0)
		ip->ttl = (uint8_t)mangle->ttl;
	if (mangle->dscp >= 0)
		ip->tos = (uint8_t)(mangle->dscp << DSCP_SHIFT | (ip->tos & ECN_MASK));
	nfq_ip_set_checksum(ip);
	return 0;
}

static int mangle_ip6(struct ip6_hdr *ip, size_t length, const struct mangle *mangle)
{
	const uint32_t mask = 0x3fU << (IP6_CLASS_SHIFT + DSCP_SHIFT);

	if (length < sizeof(*ip) || sizeof(*ip) + ntohs(ip->ip6_plen) > length)
		return -EBADMSG;
	if (mangle->ttl >= 0)
		ip->ip6_hlim = (uint8_t)mangle->ttl;
	if (mangle->dscp >= 0) {
		const uint32_t dscp = (uint32_t)mangle->dscp << (IP6_CLASS_SHIFT + DSCP_SHIFT);

		ip->ip6_flow = htonl((ntohl(ip->ip6_flow) & ~mask) | (dscp & mask));
	}
	return 0;
}

int mangle_packet(uint8_t *packet, size_t length, const struct pkt *pkt,
		  const struct mangle *mangle)
{
	void *network = packet;
	int err;

	err = pkt->family == AF_INET ? mangle_ip4(network, length, mangle)
				     : mangle_ip6(network, length, mangle);
	if (!err && mangle->fill_checksum)
		err = fill_checksum(packet, length, pkt);
	return err;
}
