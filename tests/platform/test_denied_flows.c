/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules as a memory of denied flows: what is dropped without a question, what ends that, and
 * that an answer "denied" never lets a packet pass. The policed namespace is this one; a peer is in
 * another, and for forwarding a third behind this one.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/nft/rules.h"
#include "nsgate/hook.h"
#include "platform.h"

#define HOOK(name) NSGATE_HOOK_BIT(NSGATE_HOOK_##name)
#define IN_OUT (HOOK(IN) | HOOK(OUT))
#define DENIED (NSGATE_RULES_OFFLOAD | NSGATE_RULES_DENIED)
#define FLOWS_MAX 768 /* of a set, in broker/nft/denied.c */

/* For grep. nft tells the timeout of each element on some kernels, of the set alone on others. */
#define EXPIRES "\\(timeout [0-9a-z]* \\)\\?expires "

struct bed {
	struct platform_queue queue;
	int rules;
	int peer_netns; /* 10.1.0.1 and fd00:1::1, linked to ...2 here */
	uint16_t port;	/* a fresh one for each flow */
};

/* Two connected UDP sockets: here and at the peer, by the link. */
struct flow {
	int here, peer;
};

static int udp(int netns, int family, const char *from, uint16_t from_port, const char *to,
	       uint16_t to_port)
{
	socklen_t length;
	struct sockaddr_storage address = platform_address(family, to, to_port, &length);
	int fd = platform_bound(netns, family, SOCK_DGRAM, from, from_port);

	if (connect(fd, (struct sockaddr *)&address, length) < 0)
		platform_fail("connect");
	return fd;
}

static struct flow flow_new(struct bed *bed, int family)
{
	const char *here = family == AF_INET ? "10.1.0.2" : "fd00:1::2";
	const char *there = family == AF_INET ? "10.1.0.1" : "fd00:1::1";
	const uint16_t port = ++bed->port;

	return (struct flow){
		.here = udp(-1, family, here, port, there, port),
		.peer = udp(bed->peer_netns, family, there, port, here, port),
	};
}

static void flow_close(struct flow *flow)
{
	close(flow->here);
	close(flow->peer);
}

/* Return: 0, or the errno: who sends is told of what the kernel drops at once. */
static int say(int fd)
{
	return send(fd, "x", 1, 0) == 1 ? 0 : errno;
}

static bool heard(int fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	char byte;

	return poll(&pfd, 1, timeout_ms) == 1 && recv(fd, &byte, 1, 0) == 1;
}

/* The next packet of ours from the queue; what the kernel sends of its own accord is let go. */
static bool next_queued(struct bed *bed, struct platform_packet *packet, int timeout_ms)
{
	while (platform_receive(&bed->queue, packet, timeout_ms) == 1) {
		if (packet->protocol == IPPROTO_UDP)
			return true;
		platform_verdict(&bed->queue, packet, NF_ACCEPT, NULL);
	}
	return false;
}

static bool deny_next(struct bed *bed, struct platform_packet *packet)
{
	const uint32_t mark = platform_answer(NSGATE_ANSWER_DENY);

	return next_queued(bed, packet, PLATFORM_WAIT_MS) &&
	       platform_verdict(&bed->queue, packet, NF_REPEAT, &mark) == 0;
}

/* The packet that `from` sends is queued, denied, and does not arrive. */
static void denied(struct bed *bed, int from, int to, const char *what)
{
	struct platform_packet packet;

	platform_ok(say(from) == 0 && deny_next(bed, &packet) && !heard(to, 0) &&
			    !next_queued(bed, &packet, 0),
		    "%s: is asked about, and dropped", what);
}

static void dropped(struct bed *bed, int from, int to, const char *what)
{
	struct platform_packet packet;

	(void)say(from);
	platform_ok(!heard(to, PLATFORM_QUIET_MS) && !next_queued(bed, &packet, 0),
		    "%s: dropped unasked", what);
}

static void accepted(struct bed *bed, int from, int to, const char *what)
{
	struct platform_packet packet;

	if (say(from) != 0 || !next_queued(bed, &packet, PLATFORM_WAIT_MS)) {
		platform_ok(false, "%s: is asked about", what);
		return;
	}
	platform_verdict(&bed->queue, &packet, NF_ACCEPT, NULL);
	platform_ok(heard(to, PLATFORM_WAIT_MS), "%s: is asked about, and arrives", what);
}

static void rules(struct bed *bed, uint32_t hooks, uint32_t flags, uint32_t generation)
{
	int r = platform_rules(bed->rules, hooks, flags, generation);

	errno = -r;
	if (r < 0)
		platform_fail("rules_install");
}

static void check_family(struct bed *bed, int family, const char *name)
{
	struct flow flow = flow_new(bed, family), other = flow_new(bed, family);
	char what[64];

	snprintf(what, sizeof(what), "%s, first packet out", name);
	denied(bed, flow.here, flow.peer, what);
	snprintf(what, sizeof(what), "%s, second packet out", name);
	dropped(bed, flow.here, flow.peer, what);
	snprintf(what, sizeof(what), "%s, another flow out", name);
	accepted(bed, other.here, other.peer, what);
	flow_close(&flow);
	flow_close(&other);

	flow = flow_new(bed, family);
	snprintf(what, sizeof(what), "%s, first packet in", name);
	denied(bed, flow.peer, flow.here, what);
	snprintf(what, sizeof(what), "%s, second packet in", name);
	dropped(bed, flow.peer, flow.here, what);
	/* The other way it is another question, and the answers to it are let in. */
	snprintf(what, sizeof(what), "%s, the other way", name);
	accepted(bed, flow.here, flow.peer, what);
	platform_ok(say(flow.peer) == 0 && heard(flow.here, PLATFORM_WAIT_MS),
		    "%s, a reply that looks like the denied flow: passes", name);
	flow_close(&flow);
}

static void check_families(struct bed *bed)
{
	rules(bed, IN_OUT, DENIED, 1);
	check_family(bed, AF_INET, "IPv4");
	check_family(bed, AF_INET6, "IPv6");
	platform_ok(!platform_run("nft list counter inet nsgate denied_out |"
				  " grep 'packets 2 bytes 78'"),
		    "what was dropped going out is counted, in packets and bytes");
	platform_ok(!platform_run("nft list counter inet nsgate denied_in | grep 'packets 2 '"),
		    "what was dropped coming in is counted");
	platform_ok(!platform_run("nft list counter inet nsgate denied_udp | grep 'packets 4 '") &&
			    !platform_run("nft list counter inet nsgate denied_tcp |"
					  " grep 'packets 0 '"),
		    "and by protocol");
	platform_ok(!platform_run("nft list set inet nsgate denied4_out | grep"
				  " 'type ipv4_addr . ipv4_addr . inet_proto . inet_service . "
				  "inet_service'"),
		    "nft knows the types");
	platform_ok(!platform_run("nft list table inet nsgate | tr -d '\\n' | grep"
				  " '10.1.0.2 . 10.1.0.1 . udp . [0-9]* . [0-9]* " EXPIRES "'"),
		    "nft shows what is remembered");
	platform_ok(!platform_run("nft list table inet nsgate | tr -d '\\n' | grep"
				  " 'fd00:1::2 . fd00:1::1 . udp . [0-9]* . [0-9]* " EXPIRES "'"),
		    "nft shows what is remembered of IPv6");
}

/* What is in the sets is no change of rules, and is gone with the rules. */
static void check_change(struct bed *bed)
{
	struct flow flow = flow_new(bed, AF_INET);
	uint64_t before = 0, after = 1;
	uint32_t generation = 0;

	rules(bed, IN_OUT, DENIED, 1);
	rules_changed(bed->rules, &generation);
	rules_print(bed->rules, &before);
	denied(bed, flow.here, flow.peer, "before a change");
	platform_ok(rules_changed(bed->rules, &generation) == 0 &&
			    rules_print(bed->rules, &after) == 0 && before == after,
		    "a flow that is noted is no change of the rules");
	rules(bed, IN_OUT, DENIED, 1);
	platform_ok(rules_print(bed->rules, &after) == 0 && before == after,
		    "rules made again are the same rules");
	denied(bed, flow.here, flow.peer, "after the same rules again");
	dropped(bed, flow.here, flow.peer, "and then");
	rules(bed, IN_OUT, DENIED, 2);
	accepted(bed, flow.here, flow.peer, "after a change of policy");
	flow_close(&flow);

	flow = flow_new(bed, AF_INET);
	denied(bed, flow.peer, flow.here, "before a policy without offload");
	rules(bed, IN_OUT, 0, 3);
	accepted(bed, flow.peer, flow.here, "under a policy without offload");
	platform_ok(platform_run("nft list set inet nsgate denied4_in"),
		    "a policy without offload has no sets");
	flow_close(&flow);
}

/* A packet that waits while its set and its hook's rules are replaced, or emptied. */
static void check_late_answers(struct bed *bed)
{
	const uint32_t mark = platform_answer(NSGATE_ANSWER_DENY);
	struct flow flow = flow_new(bed, AF_INET);
	struct platform_packet packet;

	rules(bed, IN_OUT, DENIED, 1);
	say(flow.here);
	next_queued(bed, &packet, PLATFORM_WAIT_MS);
	rules(bed, IN_OUT, 0, 2);
	platform_verdict(&bed->queue, &packet, NF_REPEAT, &mark);
	platform_ok(!heard(flow.peer, PLATFORM_QUIET_MS) && !next_queued(bed, &packet, 0),
		    "rules that remember no denials drop what was denied before");
	accepted(bed, flow.here, flow.peer, "and ask about the next packet");

	rules(bed, IN_OUT, DENIED, 3);
	say(flow.here);
	next_queued(bed, &packet, PLATFORM_WAIT_MS);
	rules(bed, HOOK(IN), DENIED, 4);
	platform_verdict(&bed->queue, &packet, NF_REPEAT, &mark);
	platform_ok(!heard(flow.peer, PLATFORM_QUIET_MS),
		    "a hook that is no longer named drops what was denied before");

	rules(bed, IN_OUT, DENIED, 5);
	say(flow.here);
	next_queued(bed, &packet, PLATFORM_WAIT_MS);
	if (rules_pause(bed->rules) < 0)
		platform_fail("rules_pause");
	platform_verdict(&bed->queue, &packet, NF_REPEAT, &mark);
	platform_ok(!heard(flow.peer, PLATFORM_QUIET_MS), "so do rules that pause");
	flow_close(&flow);
}

/* Marks that come with a packet, and chains of others between the judging and the settling one. */
static void check_others(struct bed *bed)
{
	const uint32_t forged = platform_answer(NSGATE_ANSWER_DENY), harmless = forged ^ 4;
	struct flow flow = flow_new(bed, AF_INET), other = flow_new(bed, AF_INET);

	rules(bed, IN_OUT, DENIED, 1);
	platform_must("nft add table inet other");
	platform_must(
		"nft 'add chain inet other between { type filter hook output priority 15; }'");
	platform_must("nft add rule inet other between meta l4proto udp counter meta mark set 0");
	denied(bed, flow.here, flow.peer, "with a chain that takes marks off");
	platform_ok(!platform_run("nft list chain inet other between | grep 'packets 0 '"),
		    "a chain between judging and settling never sees what is denied");
	platform_must("nft delete table inet other");
	if (setsockopt(other.here, SOL_SOCKET, SO_MARK, &harmless, sizeof(harmless)) < 0)
		platform_fail("SO_MARK");
	accepted(bed, other.here, other.peer, "a packet that brings almost that mark");
	flow_close(&other);
	other = flow_new(bed, AF_INET);
	if (setsockopt(other.here, SOL_SOCKET, SO_MARK, &forged, sizeof(forged)) < 0)
		platform_fail("SO_MARK");
	dropped(bed, other.here, other.peer, "a packet that brings the mark");
	flow_close(&flow);
	flow_close(&other);
}

static void check_forward(struct bed *bed)
{
	int far = platform_netns_new(), here = platform_netns_here();
	struct flow flow;

	platform_link(here, far, "far", 2);
	platform_must("sysctl -w net.ipv4.ip_forward=1");
	platform_must("ip route add 10.1.0.0/24 dev peer || true");
	platform_netns_enter(far);
	platform_must("ip route add 10.1.0.0/24 via 10.2.0.1");
	platform_netns_enter(bed->peer_netns);
	platform_must("ip route add 10.2.0.0/24 via 10.1.0.2");
	platform_netns_enter(here);
	flow.here = udp(far, AF_INET, "10.2.0.2", 9, "10.1.0.1", 9);
	flow.peer = udp(bed->peer_netns, AF_INET, "10.1.0.1", 9, "10.2.0.2", 9);
	rules(bed, HOOK(FORWARD), DENIED, 1);
	denied(bed, flow.here, flow.peer, "forward, first packet");
	dropped(bed, flow.here, flow.peer, "forward, second packet");
	accepted(bed, flow.peer, flow.here, "forward, the other way");
	platform_ok(!platform_run("nft list counter inet nsgate denied_forward |"
				  " grep 'packets 1 '"),
		    "what was dropped on its way through is counted");
	flow_close(&flow);
	close(far);
	close(here);
}

/* Nothing passes where there is no room to note it. */
static void check_full(struct bed *bed)
{
	const int flows = FLOWS_MAX + 64;
	struct flow last = flow_new(bed, AF_INET);
	struct platform_packet packet;
	bool all = true;
	int from;

	rules(bed, IN_OUT, DENIED, 1);
	from = platform_bound(-1, AF_INET, SOCK_DGRAM, "10.1.0.2", 999);
	for (int i = 0; i < flows && all; i++) {
		socklen_t length;
		const struct sockaddr_storage to =
			platform_address(AF_INET, "10.1.0.1", (uint16_t)(10000 + i), &length);

		all = sendto(from, "x", 1, 0, (const struct sockaddr *)&to, length) == 1 &&
		      deny_next(bed, &packet) && packet.dport == 10000 + i;
	}
	platform_ok(all, "%d flows are denied", flows);
	platform_ok(!platform_run("test $(nft list set inet nsgate denied4_out |"
				  " grep -c 'expires') -gt 0"),
		    "some of them are remembered");
	denied(bed, last.here, last.peer, "a flow that finds the set full");
	denied(bed, last.here, last.peer, "its second packet");
	close(from);
	flow_close(&last);
}

int main(void)
{
	struct bed bed = {.port = 5000};
	struct rules_features features;

	platform_begin();
	bed.rules = platform_netlink(-1);
	if (rules_probe(bed.rules, &features) < 0)
		platform_fail("rules_probe");
	if (!features.label) {
		printf("skip - this kernel has no labels in connection tracking\n");
		return 77;
	}
	bed.peer_netns = platform_netns_new();
	platform_link(bed.peer_netns, platform_netns_here(), "peer", 1);
	platform_queue_open(&bed.queue, -1, 0);
	check_families(&bed);
	check_change(&bed);
	check_late_answers(&bed);
	check_others(&bed);
	check_forward(&bed);
	check_full(&bed);
	platform_ok(rules_remove(bed.rules) == 0, "the table goes");
	return platform_end();
}
