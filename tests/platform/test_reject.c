/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent's REJECT answer becomes a TCP reset or an ICMP unreachable that reaches the sender,
 * with every other packet queued and dropped. No such notice passes through a queue itself, and
 * a container with raw sockets cannot pass packets off as notices, nor have such a notice sent to
 * somebody else.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "nsgate/hook.h"
#include "platform.h"

#define PORT 4000
#define HOOK(name) NSGATE_HOOK_BIT(NSGATE_HOOK_##name)
#define ALL_HOOKS (NSGATE_HOOK_BIT(NSGATE_HOOK_MAX) - 1)

/* Rejects what goes to PORT in one hook, lets it pass in the others, drops the rest. */
struct verdicter {
	uint32_t reject_hook;
	bool pass_replies;  /* also let through what comes from PORT */
	unsigned int asked; /* packets to PORT */
	unsigned int other; /* any other packets seen */
	struct platform_packet last_other;
};

static uint32_t judge(const struct platform_packet *packet, uint32_t *mark, void *data)
{
	struct verdicter *v = data;

	if (v->pass_replies && packet->sport == PORT)
		return NF_ACCEPT;
	if (!packet->protocol) /* hop-by-hop options: multicast listener reports, any time */
		return NF_DROP;
	if (packet->dport != PORT) {
		v->other++;
		v->last_other = *packet;
		return NF_DROP;
	}
	v->asked++;
	if (packet->hook != v->reject_hook)
		return NF_ACCEPT;
	*mark = platform_answer(NSGATE_ANSWER_REJECT);
	return NF_REPEAT;
}

static const char *hooks_text(uint32_t hooks)
{
	static char text[64];

	text[0] = '\0';
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		if (hooks & NSGATE_HOOK_BIT(hook))
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s",
				 text[0] ? "+" : "", nsgate_hook_names[hook]);
	}
	return text;
}

struct flow {
	int client, server; /* namespaces */
	int family;
	int type;
	const char *address; /* of the server */
};

static void send_first(int fd, int type)
{
	if (type == SOCK_DGRAM && send(fd, "x", 1, 0) != 1)
		platform_fail("send");
}

/* Does a client's first packet get refused, by a queue that sees only what it asked for? */
static void check_reject(const struct platform_queue *queue, int rules, uint32_t hooks,
			 uint32_t reject_hook, const struct flow *flow, const char *where)
{
	struct verdicter v = {.reject_hook = reject_hook};
	bool answers = reject_hook != NSGATE_HOOK_POSTROUTING;
	int server, client, error = 0;
	socklen_t size = sizeof(error);

	if (platform_rules(rules, hooks, 0, 1) < 0)
		platform_fail("rules_install");
	server = platform_bound(flow->server, flow->family, flow->type, flow->address, PORT);
	client = platform_connect(flow->client, flow->family, flow->type, flow->address, PORT);
	send_first(client, flow->type);
	platform_serve(queue, judge, &v, client, POLLERR,
		       answers ? PLATFORM_WAIT_MS : PLATFORM_QUIET_MS);
	getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &size);
	platform_ok(v.asked && error == (answers ? ECONNREFUSED : 0) && !v.other,
		    "%s, hooks %s: rejection in %s of %s over IPv%d %s (asked %u, others %u, "
		    "error %d)",
		    where, hooks_text(hooks), nsgate_hook_names[reject_hook],
		    flow->type == SOCK_STREAM ? "TCP" : "UDP", flow->family == AF_INET ? 4 : 6,
		    answers ? "reaches the sender unqueued" : "is a silent drop", v.asked, v.other,
		    error);
	if (v.other)
		printf("# saw protocol %u type %u code %u flags %#x hook %u mark %#x\n",
		       v.last_other.protocol, v.last_other.icmp_type, v.last_other.icmp_code,
		       v.last_other.tcp_flags, v.last_other.hook, v.last_other.mark);
	close(client);
	close(server);
}

static void check_kinds(const struct platform_queue *queue, int rules, uint32_t hooks,
			uint32_t reject_hook, struct flow flow, const char *address4,
			const char *address6, const char *where)
{
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM};

	for (int i = 0; i < 2; i++) {
		flow.type = types[i];
		flow.family = AF_INET;
		flow.address = address4;
		check_reject(queue, rules, hooks, reject_hook, &flow, where);
		flow.family = AF_INET6;
		flow.address = address6;
		check_reject(queue, rules, hooks, reject_hook, &flow, where);
	}
}

static void check_loopback(const struct platform_queue *queue, int rules)
{
	const struct flow flow = {.client = -1, .server = -1};
	static const struct {
		uint32_t hooks, reject;
	} cases[] = {
		{HOOK(OUT), NSGATE_HOOK_OUT},
		{HOOK(IN), NSGATE_HOOK_IN},
		{HOOK(IN) | HOOK(OUT), NSGATE_HOOK_OUT},
		{HOOK(IN) | HOOK(OUT), NSGATE_HOOK_IN},
		{ALL_HOOKS, NSGATE_HOOK_OUT},
		{ALL_HOOKS, NSGATE_HOOK_POSTROUTING},
		{ALL_HOOKS, NSGATE_HOOK_PREROUTING},
		{ALL_HOOKS, NSGATE_HOOK_IN},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_kinds(queue, rules, cases[i].hooks, cases[i].reject, flow, "127.0.0.1", "::1",
			    "loopback");
}

/* A client elsewhere; the policy is on the server's side, then on a router between them. */
static void check_remote(const struct platform_queue *queue, int rules)
{
	int here = platform_netns_here();
	int client = platform_netns_new();
	int server = platform_netns_new();
	struct flow flow = {.client = client, .server = -1};

	platform_link(client, here, "near", 1);
	platform_link(here, server, "far", 2);
	check_kinds(queue, rules, HOOK(IN), NSGATE_HOOK_IN, flow, "10.1.0.2", "fd00:1::2",
		    "remote");
	check_kinds(queue, rules, HOOK(IN) | HOOK(OUT), NSGATE_HOOK_IN, flow, "10.1.0.2",
		    "fd00:1::2", "remote");
	check_kinds(queue, rules, ALL_HOOKS, NSGATE_HOOK_PREROUTING, flow, "10.1.0.2", "fd00:1::2",
		    "remote");

	platform_must("sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
	platform_netns_enter(client);
	platform_must("ip route add 10.2.0.0/24 via 10.1.0.2");
	platform_must("ip route add fd00:2::/64 via fd00:1::2");
	platform_netns_enter(server);
	platform_must("ip route add 10.1.0.0/24 via 10.2.0.1");
	platform_must("ip route add fd00:1::/64 via fd00:2::1");
	platform_netns_enter(here);
	flow.server = server;
	check_kinds(queue, rules, ALL_HOOKS, NSGATE_HOOK_FORWARD, flow, "10.2.0.2", "fd00:2::2",
		    "router");
	check_kinds(queue, rules, ALL_HOOKS, NSGATE_HOOK_POSTROUTING, flow, "10.2.0.2", "fd00:2::2",
		    "router");
	close(client);
	close(server);
	close(here);
}

/* An established flow of which a later packet is rejected: its notice is `related`. */
static void check_midflow(const struct platform_queue *queue, int rules, int family)
{
	struct verdicter v = {.reject_hook = NSGATE_HOOK_MAX, .pass_replies = true};
	struct sockaddr_storage peer;
	socklen_t peer_size = sizeof(peer), size;
	int server, client, error = 0;
	char byte;

	if (platform_rules(rules, HOOK(IN) | HOOK(OUT), 0, 1) < 0)
		platform_fail("rules_install");
	server = platform_bound(-1, family, SOCK_DGRAM, NULL, PORT);
	client = platform_connect(-1, family, SOCK_DGRAM, NULL, PORT);
	send_first(client, SOCK_DGRAM);
	platform_serve(queue, judge, &v, server, POLLIN, PLATFORM_WAIT_MS);
	if (recvfrom(server, &byte, 1, 0, (struct sockaddr *)&peer, &peer_size) != 1)
		platform_fail("recvfrom");
	sendto(server, "y", 1, 0, (struct sockaddr *)&peer, peer_size);
	platform_serve(queue, judge, &v, client, POLLIN, PLATFORM_WAIT_MS);
	platform_ok(recv(client, &byte, 1, 0) == 1, "IPv%d: a flow is answered",
		    family == AF_INET ? 4 : 6);

	v = (struct verdicter){.reject_hook = NSGATE_HOOK_OUT};
	send_first(client, SOCK_DGRAM);
	platform_serve(queue, judge, &v, client, POLLERR, PLATFORM_WAIT_MS);
	size = sizeof(error);
	getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &size);
	platform_ok(error == ECONNREFUSED && v.asked == 1 && !v.other,
		    "IPv%d: rejection in the middle of a flow reaches the sender unqueued"
		    " (asked %u, others %u, error %d)",
		    family == AF_INET ? 4 : 6, v.asked, v.other, error);
	close(client);
	close(server);
}

static uint16_t checksum(const void *data, size_t length)
{
	const uint8_t *bytes = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | (i + 1 < length ? bytes[i + 1] : 0U);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* Over 127.0.0.1 to itself: the pseudo header (RFC 9293 3.1), then the header. */
static uint16_t tcp_checksum(const struct tcphdr *header)
{
	uint8_t whole[12 + sizeof(*header)] = {127, 0, 0, 1,	       127, 0,
					       0,   1, 0, IPPROTO_TCP, 0,   sizeof(*header)};

	memcpy(whole + 12, header, sizeof(*header));
	return checksum(whole, sizeof(whole));
}

static void must_send(int fd, const void *data, size_t size, const struct sockaddr_storage *to,
		      socklen_t length)
{
	if (sendto(fd, data, size, 0, (const struct sockaddr *)to, length) != (ssize_t)size)
		platform_fail("sendto");
}

/*
 * A TCP packet that begins no flow: conntrack has no entry for it, nor for its reset. So nobody
 * knows whose that is, and the policy is asked about it as about any packet.
 */
static void check_invalid(const struct platform_queue *queue, int rules)
{
	struct tcphdr answer = {
		.source = htons(1), .dest = htons(PORT), .syn = 1, .ack = 1, .doff = 5};
	struct verdicter v = {.reject_hook = NSGATE_HOOK_IN};
	uint8_t packet[128] = {0};
	const struct tcphdr *reset = (const struct tcphdr *)(packet + sizeof(struct iphdr));
	socklen_t length;
	struct sockaddr_storage to = platform_address(AF_INET, NULL, 0, &length);
	int raw = platform_socket(-1, AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_TCP);

	if (platform_rules(rules, HOOK(IN) | HOOK(OUT), 0, 1) < 0)
		platform_fail("rules_install");
	answer.check = tcp_checksum(&answer);
	must_send(raw, &answer, sizeof(answer), &to, length);
	platform_serve(queue, judge, &v, raw, POLLIN, PLATFORM_WAIT_MS);
	platform_ok(v.asked == 2 && v.other == 1 && v.last_other.tcp_flags & TH_RST &&
			    platform_flow(queue, &v.last_other) == NSGATE_FLOW_INVALID,
		    "a reset outside of any flow is queued as such (asked %u, others %u)", v.asked,
		    v.other);
	v = (struct verdicter){.reject_hook = NSGATE_HOOK_IN, .pass_replies = true};
	must_send(raw, &answer, sizeof(answer), &to, length);
	platform_serve(queue, judge, &v, raw, POLLIN, PLATFORM_WAIT_MS);
	platform_ok(recv(raw, packet, sizeof(packet), 0) > 0 && reset->rst,
		    "where it may pass it reaches the sender");
	close(raw);
}

static uint32_t count_and_drop(const struct platform_packet *packet, uint32_t *mark, void *data)
{
	unsigned int *count = data;

	(void)mark;
	*count += packet->protocol != 0; /* no multicast listener reports */
	return NF_DROP;
}

/* Is what was just sent seen in the queue? */
static void expect_queued(const struct platform_queue *queue, const char *what)
{
	unsigned int count = 0;

	platform_serve(queue, count_and_drop, &count, -1, 0, PLATFORM_QUIET_MS);
	platform_ok(count > 0, "%s is queued (%u)", what, count);
}

static void expect_unqueued(const struct platform_queue *queue, const char *what)
{
	unsigned int count = 0;

	platform_serve(queue, count_and_drop, &count, -1, 0, PLATFORM_QUIET_MS);
	platform_ok(count == 0, "%s is not queued (%u)", what, count);
}

#define SOLICITATION 24 /* bytes: RFC 4861 4.3, without options */

struct forged_icmp {
	struct icmphdr icmp;
	struct iphdr inner;
	uint8_t ports[8];
	uint8_t filling[1024];
};
#define FORGED_SHORT 128

static void fill_unreachable(struct forged_icmp *packet, size_t size)
{
	*packet = (struct forged_icmp){
		.icmp = {.type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH},
		.inner = {.version = 4,
			  .ihl = 5,
			  .protocol = IPPROTO_UDP,
			  .ttl = 64,
			  .tot_len = htons(28),
			  .saddr = htonl(0x0a010002),
			  .daddr = htonl(0x0a010001)},
	};
	packet->inner.check = checksum(&packet->inner, sizeof(packet->inner));
	packet->icmp.checksum = checksum(packet, size);
}

/* Fragments of one packet from a raw socket; conntrack puts them together before the rules. */
static void send_fragments(int fd, const struct sockaddr_storage *to, socklen_t length,
			   const void *payload, size_t size)
{
	const size_t step = 512;
	uint8_t buffer[sizeof(struct iphdr) + 512];
	struct iphdr header = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_ICMP};

	header.id = htons(77);
	header.daddr = ((const struct sockaddr_in *)to)->sin_addr.s_addr;
	for (size_t at = 0; at < size; at += step) {
		size_t part = size - at < step ? size - at : step;
		uint16_t more = at + part < size ? IP_MF : 0;

		header.frag_off = htons((uint16_t)(more | at / 8));
		memcpy(buffer, &header, sizeof(header));
		memcpy(buffer + sizeof(header), (const uint8_t *)payload + at, part);
		must_send(fd, buffer, sizeof(header) + part, to, length);
	}
}

/* Packets of a process with CAP_NET_RAW that look like notices. */
static void check_forgery(const struct platform_queue *queue, int rules)
{
	struct tcphdr reset = {.source = htons(1), .dest = htons(2), .rst = 1, .doff = 5};
	uint8_t solicitation[64] = {135};
	struct forged_icmp icmp;
	socklen_t length;
	struct sockaddr_storage to = platform_address(AF_INET, "10.3.0.1", 0, &length);
	int here = platform_netns_here(), other = platform_netns_new();
	int raw, hops = 255;

	platform_link(other, here, "forge", 3);
	if (platform_rules(rules, HOOK(IN) | HOOK(OUT), 0, 1) < 0)
		platform_fail("rules_install");
	fill_unreachable(&icmp, FORGED_SHORT);
	raw = platform_socket(-1, AF_INET, SOCK_RAW, IPPROTO_ICMP);
	must_send(raw, &icmp, FORGED_SHORT, &to, length);
	close(raw);
	expect_queued(queue, "an unreachable from a raw socket");

	fill_unreachable(&icmp, sizeof(icmp));
	raw = platform_socket(-1, AF_INET, SOCK_RAW, IPPROTO_RAW);
	send_fragments(raw, &to, length, &icmp, sizeof(icmp));
	close(raw);
	expect_queued(queue, "an unreachable from a raw socket, in fragments,");

	raw = platform_socket(-1, AF_INET, SOCK_RAW, IPPROTO_TCP);
	must_send(raw, &reset, sizeof(reset), &to, length);
	close(raw);
	expect_queued(queue, "a TCP reset from a raw socket");

	to = platform_address(AF_INET6, "fd00:3::1", 0, &length);
	raw = platform_socket(-1, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
	setsockopt(raw, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof(hops));
	must_send(raw, solicitation, sizeof(solicitation), &to, length);
	expect_queued(queue, "a neighbour solicitation from a raw socket that is too long");
	must_send(raw, solicitation, SOLICITATION, &to, length);
	expect_unqueued(queue, "a neighbour solicitation from a raw socket like the kernel's");
	if (platform_rules(rules, HOOK(IN) | HOOK(OUT), NSGATE_RULES_STRICT, 2) < 0) {
		printf("# this kernel guards no links: strict policies not tried\n");
	} else {
		must_send(raw, solicitation, SOLICITATION, &to, length);
		expect_queued(queue, "the same under a strict policy");
	}
	close(raw);
	close(other);
	close(here);
}

/* A packet of UDP that says it comes from there, by a raw socket. */
static void send_from(const char *source, const char *target)
{
	struct {
		struct iphdr ip;
		uint16_t ports[2], length, sum;
	} packet = {.ip = {.version = 4, .ihl = 5, .protocol = IPPROTO_UDP, .ttl = 64},
		    .ports = {htons(1), htons(PORT)},
		    .length = htons(8)};
	socklen_t length;
	struct sockaddr_storage to = platform_address(AF_INET, target, 0, &length);
	int raw = platform_socket(-1, AF_INET, SOCK_RAW, IPPROTO_RAW);

	packet.ip.tot_len = htons(sizeof(packet));
	inet_pton(AF_INET, source, &packet.ip.saddr);
	packet.ip.daddr = ((struct sockaddr_in *)&to)->sin_addr.s_addr;
	must_send(raw, &packet, sizeof(packet), &to, length);
	close(raw);
}

/* Is a packet with that source answered, to a raw socket in the namespace of that address? */
static bool is_answered(const struct platform_queue *queue, uint32_t hook, int netns,
			const char *source, const char *target)
{
	struct verdicter v = {.reject_hook = hook};
	int raw = platform_socket(netns, AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP);
	bool answered;

	send_from(source, target);
	answered = platform_serve(queue, judge, &v, raw, POLLIN, PLATFORM_QUIET_MS);
	if (v.asked == 0)
		platform_fail("nothing was asked about");
	close(raw);
	return answered;
}

/* The source of a packet is what its sender says. Nobody else is to be answered in our name. */
static void check_spoofed(const struct platform_queue *queue, int rules)
{
	int here = platform_netns_here(), other = platform_netns_new();

	platform_link(other, here, "spoof", 4);
	if (platform_rules(rules, HOOK(OUT), 0, 3) < 0)
		platform_fail("rules_install");
	platform_ok(is_answered(queue, NSGATE_HOOK_OUT, here, "10.4.0.2", "10.4.0.99"),
		    "what leaves with an address of ours is answered");
	platform_ok(!is_answered(queue, NSGATE_HOOK_OUT, other, "10.4.0.1", "10.4.0.98"),
		    "what leaves with another's address is not");
	if (platform_rules(rules, HOOK(IN), 0, 4) < 0)
		platform_fail("rules_install");
	platform_ok(is_answered(queue, NSGATE_HOOK_IN, here, "10.4.0.2", "127.0.0.1"),
		    "what comes by the loopback with an address of ours is answered");
	/* The kernel takes no other's address there, unless it is told to. */
	platform_must("sysctl -w net.ipv4.conf.all.accept_local=1 net.ipv4.conf.all.rp_filter=0"
		      " net.ipv4.conf.lo.rp_filter=0");
	platform_ok(!is_answered(queue, NSGATE_HOOK_IN, other, "10.4.0.1", "10.4.0.2"),
		    "what comes by it with another's is not");
	close(other);
	close(here);
}

int main(void)
{
	struct platform_queue queue;
	int rules;

	platform_begin();
	rules = platform_netlink(-1);
	platform_queue_open(&queue, -1, 0);
	check_loopback(&queue, rules);
	check_midflow(&queue, rules, AF_INET);
	check_midflow(&queue, rules, AF_INET6);
	check_invalid(&queue, rules);
	check_remote(&queue, rules);
	check_forgery(&queue, rules);
	check_spoofed(&queue, rules);
	return platform_end();
}
