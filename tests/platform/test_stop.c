/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a reset in the place of a rejected segment stands on (agent/queue/end.c): NF_STOP lets a
 * packet pass that the rules then do not note; a segment that leaves with its checksum still to be
 * filled in was made by the kernel's TCP, by no raw socket; and one that comes in by a link has an
 * owner if it is of a connection that is here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netlink.h"
#include "nsgate/hook.h"
#include "platform.h"

#define HOOK(name) NSGATE_HOOK_BIT(NSGATE_HOOK_##name)
#define PORT 6700
#define RAW_PORT 6701
#define SERVED_PORT 6702

struct bed {
	struct platform_queue queue;
	int rules;
	int peer;      /* 10.1.0.1 and fd00:1::1, linked to ...2 here */
	uint16_t port; /* a fresh one for each flow */
};

/* The next packet of ours; what the kernel sends of its own accord is let go. */
static bool next_queued(const struct bed *bed, struct platform_packet *packet, int timeout_ms)
{
	while (platform_receive(&bed->queue, packet, timeout_ms) == 1) {
		if (packet->protocol == IPPROTO_UDP || packet->protocol == IPPROTO_TCP)
			return true;
		platform_verdict(&bed->queue, packet, NF_ACCEPT, NULL);
	}
	return false;
}

static bool heard(int fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	char byte;

	return poll(&pfd, 1, timeout_ms) == 1 && recv(fd, &byte, 1, 0) == 1;
}

/* A datagram is new to the rules, gets that verdict, and arrives. */
static bool passes(const struct bed *bed, int from, int to, uint32_t verdict)
{
	struct platform_packet packet;

	if (send(from, "x", 1, 0) != 1)
		platform_fail("send");
	return next_queued(bed, &packet, PLATFORM_WAIT_MS) &&
	       platform_flow(&bed->queue, &packet) == NSGATE_FLOW_NEW &&
	       platform_verdict(&bed->queue, &packet, verdict, NULL) == 0 &&
	       heard(to, PLATFORM_WAIT_MS);
}

static bool passes_unasked(const struct bed *bed, int from, int to)
{
	struct platform_packet packet;

	if (send(from, "x", 1, 0) != 1)
		platform_fail("send");
	return heard(to, PLATFORM_WAIT_MS) && !next_queued(bed, &packet, 0);
}

static void check_unnoted(struct bed *bed, int family, bool outgoing)
{
	const char *address = family == AF_INET ? (outgoing ? "10.1.0.1" : "10.1.0.2")
						: (outgoing ? "fd00:1::1" : "fd00:1::2");
	const uint16_t port = ++bed->port;
	int to = platform_bound(outgoing ? bed->peer : -1, family, SOCK_DGRAM, address, port);
	int from = platform_connect(outgoing ? -1 : bed->peer, family, SOCK_DGRAM, address, port);
	const char *where = outgoing ? "leaves" : "comes in";
	const int version = family == AF_INET ? 4 : 6;

	platform_ok(passes(bed, from, to, NF_STOP) && passes(bed, from, to, NF_STOP),
		    "IPv%d: what %s by NF_STOP arrives, and is not noted", version, where);
	platform_ok(passes(bed, from, to, NF_ACCEPT) && passes_unasked(bed, from, to),
		    "IPv%d: what %s by NF_ACCEPT is", version, where);
	close(from);
	close(to);
}

/* As the agent asks for: large segments whole, and who owns them. */
static void configure(const struct platform_queue *queue)
{
	_Alignas(struct nlmsghdr) char buffer[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *nfg;

	nlh->nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->version = NFNETLINK_V0;
	nfg->res_id = htons((uint16_t)(queue->number + NSGATE_FLOW_NEW));
	mnl_attr_put_u32(nlh, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_UID_GID));
	mnl_attr_put_u32(nlh, NFQA_CFG_MASK, htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_UID_GID));
	if (netlink_request(queue->fd, nlh, NULL, NULL) < 0)
		platform_fail("NFQA_CFG_FLAGS");
}

/* Return: is the checksum of what leaves now still to be filled in? */
static bool is_unfinished(const struct bed *bed, const char *what)
{
	struct platform_packet packet;

	if (!next_queued(bed, &packet, PLATFORM_WAIT_MS))
		platform_fail(what);
	platform_verdict(&bed->queue, &packet, NF_DROP, NULL);
	return packet.skbinfo & NFQA_SKB_CSUMNOTREADY;
}

static int raw_socket(int family, bool checksummed)
{
	const int at = offsetof(struct tcphdr, check);
	int raw = platform_socket(-1, family, SOCK_RAW, IPPROTO_TCP);

	if (checksummed && setsockopt(raw, IPPROTO_IPV6, IPV6_CHECKSUM, &at, sizeof(at)) < 0)
		platform_fail("IPV6_CHECKSUM");
	return raw;
}

static void check_raw(const struct bed *bed, int family, const char *address, bool checksummed)
{
	const struct tcphdr segment = {
		.source = htons(RAW_PORT), .dest = htons(PORT), .doff = 5, .ack = 1};
	socklen_t length;
	struct sockaddr_storage to = platform_address(family, address, 0, &length);
	int raw = raw_socket(family, checksummed);

	if (sendto(raw, &segment, sizeof(segment), 0, (struct sockaddr *)&to, length) < 0)
		platform_fail("sendto");
	platform_ok(!is_unfinished(bed, "raw"), "IPv%d: a raw socket's segment is finished%s",
		    family == AF_INET ? 4 : 6, checksummed ? ", by IPV6_CHECKSUM too" : "");
	close(raw);
}

static void check_segments(const struct bed *bed, int family)
{
	const char *address = family == AF_INET ? "10.1.0.1" : "fd00:1::1";
	int client = platform_connect(-1, family, SOCK_STREAM, address, PORT);

	platform_ok(is_unfinished(bed, "TCP"), "IPv%d: a segment of TCP leaves unfinished",
		    family == AF_INET ? 4 : 6);
	close(client);
	check_raw(bed, family, address, false);
	if (family == AF_INET6)
		check_raw(bed, family, address, true);
}

/* A connection that is there before the rules, from the peer. */
struct connection {
	int listener, outside, inside;
};

static struct connection connection_new(const struct bed *bed, int family)
{
	const char *address = family == AF_INET ? "10.1.0.2" : "fd00:1::2";
	struct connection ret = {
		.listener = platform_bound(-1, family, SOCK_STREAM, address, SERVED_PORT),
		.outside = platform_connect(bed->peer, family, SOCK_STREAM, address, SERVED_PORT),
	};
	struct pollfd pfd = {.fd = ret.listener, .events = POLLIN};

	if (poll(&pfd, 1, PLATFORM_WAIT_MS) != 1)
		platform_fail("accept");
	ret.inside = accept(ret.listener, NULL, NULL);
	return ret;
}

static bool is_owned(const struct bed *bed, const char *what)
{
	struct platform_packet packet;

	if (!next_queued(bed, &packet, PLATFORM_WAIT_MS))
		platform_fail(what);
	platform_verdict(&bed->queue, &packet, NF_DROP, NULL);
	return packet.has_uid && platform_flow(&bed->queue, &packet) == NSGATE_FLOW_NEW;
}

static void check_owner(const struct bed *bed, int family, const struct connection *connection)
{
	const struct tcphdr segment = {
		.source = htons(RAW_PORT), .dest = htons(SERVED_PORT), .doff = 5, .ack = 1};
	const int version = family == AF_INET ? 4 : 6;
	socklen_t length;
	struct sockaddr_storage to =
		platform_address(family, family == AF_INET ? "10.1.0.2" : "fd00:1::2", 0, &length);
	int raw = platform_socket(bed->peer, family, SOCK_RAW, IPPROTO_TCP);

	if (send(connection->outside, "x", 1, 0) != 1)
		platform_fail("send");
	platform_ok(is_owned(bed, "segment"), "IPv%d: a connection's segment comes in owned",
		    version);
	close(connection->outside);
	while (next_queued(bed, &(struct platform_packet){.id = 0}, PLATFORM_QUIET_MS)) {
	}
	if (sendto(raw, &segment, sizeof(segment), 0, (struct sockaddr *)&to, length) < 0)
		platform_fail("sendto");
	platform_ok(!is_owned(bed, "raw"), "IPv%d: one that is only for a listening port does not",
		    version);
	close(raw);
}

int main(void)
{
	struct bed bed = {.port = 6600};
	struct connection connections[2];
	int here;

	platform_begin();
	here = platform_netns_here();
	bed.peer = platform_netns_new();
	platform_link(bed.peer, here, "wire", 1);
	bed.rules = platform_netlink(-1);
	platform_queue_open(&bed.queue, -1, 0);
	configure(&bed.queue);
	connections[0] = connection_new(&bed, AF_INET);
	connections[1] = connection_new(&bed, AF_INET6);
	if (platform_rules(bed.rules, HOOK(IN) | HOOK(OUT), NSGATE_RULES_OFFLOAD, 1) < 0)
		platform_fail("rules_install");
	for (int outgoing = 0; outgoing < 2; outgoing++) {
		check_unnoted(&bed, AF_INET, outgoing);
		check_unnoted(&bed, AF_INET6, outgoing);
	}
	check_segments(&bed, AF_INET);
	check_segments(&bed, AF_INET6);
	check_owner(&bed, AF_INET, &connections[0]);
	check_owner(&bed, AF_INET6, &connections[1]);
	close(here);
	return platform_end();
}
