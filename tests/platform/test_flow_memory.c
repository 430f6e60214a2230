/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules as a memory of flows: what the agent is told about a packet's flow, what it is no
 * longer asked about, and what a new generation of the policy changes. The policed namespace is
 * this one; a peer is in another, and for forwarding a third behind this one.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../broker/conntrack.h"
#include "../../broker/rules.h"
#include "nsgate/hook.h"
#include "nsgate/mark.h"
#include "platform.h"

#define HOOK(name) NSGATE_HOOK_BIT(NSGATE_HOOK_##name)
#define IN_OUT (HOOK(IN) | HOOK(OUT))
#define OFFLOAD NSGATE_RULES_OFFLOAD

#define NEW NSGATE_MARK_NEW
#define REPLY NSGATE_MARK_REPLY
#define KNOWN NSGATE_MARK_KNOWN
#define STALE NSGATE_MARK_STALE
#define REMEMBER NSGATE_MARK_REMEMBER

struct bed {
	struct platform_queue queue;
	int rules;
	int peer_netns; /* 10.1.0.1, linked to 10.1.0.2 here */
	uint16_t port;	/* a fresh one for each flow */
};

/* Two connected UDP sockets: here and at the peer, by the link. */
struct flow {
	int here, peer;
};

static int udp(int netns, const char *from, uint16_t from_port, const char *to, uint16_t to_port)
{
	socklen_t length;
	struct sockaddr_storage address = platform_address(AF_INET, to, to_port, &length);
	int fd = platform_bound(netns, AF_INET, SOCK_DGRAM, from, from_port);

	if (connect(fd, (struct sockaddr *)&address, length) < 0)
		platform_fail("connect");
	return fd;
}

static struct flow flow_new(struct bed *bed)
{
	uint16_t port = ++bed->port;

	return (struct flow){
		.here = udp(-1, "10.1.0.2", port, "10.1.0.1", port),
		.peer = udp(bed->peer_netns, "10.1.0.1", port, "10.1.0.2", port),
	};
}

static void flow_close(struct flow *flow)
{
	close(flow->here);
	close(flow->peer);
}

static void say(int fd)
{
	if (send(fd, "x", 1, 0) != 1)
		platform_fail("send");
}

static bool heard(int fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	char byte;

	return poll(&pfd, 1, timeout_ms) == 1 && recv(fd, &byte, 1, 0) == 1;
}

/*
 * The next packet of ours from the queue. Reports of multicast listeners come whenever the kernel
 * sees fit, with a mark that is the rest of another use of that field, and are let go.
 */
static bool next_queued(struct bed *bed, struct platform_packet *packet, int timeout_ms)
{
	while (platform_receive(&bed->queue, packet, timeout_ms) == 1) {
		if (packet->protocol == IPPROTO_UDP)
			return true;
		platform_verdict(&bed->queue, packet->id, NF_ACCEPT, NULL);
	}
	return false;
}

/* Takes the next packet from the queue, which must carry `mark`, and accepts it with `answer`. */
static void asked(struct bed *bed, uint32_t mark, uint32_t answer, const char *what)
{
	struct platform_packet packet;

	if (!next_queued(bed, &packet, PLATFORM_WAIT_MS)) {
		platform_ok(false, "%s: queued", what);
		return;
	}
	answer |= packet.mark;
	answer &= ~NSGATE_MARK_MASK | REMEMBER;
	platform_ok(packet.mark == mark, "%s: queued with mark %#010x (%#010x)", what, mark,
		    packet.mark);
	platform_verdict(&bed->queue, packet.id, NF_ACCEPT, &answer);
}

/* The packet that `from` sends arrives at `to` without having been queued. */
static void passes(struct bed *bed, int from, int to, const char *what)
{
	struct platform_packet packet;

	say(from);
	platform_ok(heard(to, PLATFORM_WAIT_MS) && !next_queued(bed, &packet, 0),
		    "%s: passes unasked", what);
}

static void rules(struct bed *bed, uint32_t hooks, uint32_t flags, uint32_t generation)
{
	int r = platform_rules(bed->rules, hooks, flags, generation);

	errno = -r;
	if (r < 0)
		platform_fail("rules_install");
}

/* A flow from here that was accepted and answered. */
static struct flow accepted_flow(struct bed *bed, const char *what)
{
	struct flow flow = flow_new(bed);

	say(flow.here);
	asked(bed, NEW, REMEMBER, what);
	platform_ok(heard(flow.peer, PLATFORM_WAIT_MS), "%s: arrives", what);
	return flow;
}

static void check_offload(struct bed *bed)
{
	struct flow flow;

	rules(bed, IN_OUT, OFFLOAD, 1);
	flow = accepted_flow(bed, "first packet of a flow");
	passes(bed, flow.here, flow.peer, "second packet of an accepted flow");
	passes(bed, flow.peer, flow.here, "reply of an accepted flow");
	platform_ok(!platform_run("nft list counter inet nsgate offloaded_out | grep 'packets 1 '"),
		    "what passed out unasked is counted");
	platform_ok(!platform_run("nft list counter inet nsgate offloaded_in | grep 'packets 1 '"),
		    "what passed in unasked is counted");

	rules(bed, IN_OUT, OFFLOAD, 2);
	platform_ok(!platform_run("nft list counter inet nsgate offloaded_out | grep 'packets 1 '"),
		    "counters keep their values when rules are replaced");
	say(flow.peer);
	asked(bed, REPLY | STALE, 0, "reply after a change of policy");
	heard(flow.here, PLATFORM_WAIT_MS);
	say(flow.here);
	asked(bed, 0, REMEMBER, "next packet after a change of policy");
	heard(flow.peer, PLATFORM_WAIT_MS);
	passes(bed, flow.here, flow.peer, "after being accepted again");
	passes(bed, flow.peer, flow.here, "reply after being accepted again");
	flow_close(&flow);

	flow = flow_new(bed);
	say(flow.peer);
	asked(bed, NEW, REMEMBER, "first packet of a flow that comes in");
	heard(flow.here, PLATFORM_WAIT_MS);
	passes(bed, flow.peer, flow.here, "second packet that comes in");
	passes(bed, flow.here, flow.peer, "reply that goes out");
	flow_close(&flow);
}

/* Generations are few: the second policy of a number must not inherit the flows of the first. */
static void check_generation_used_again(struct bed *bed)
{
	struct flow flow, other;

	rules(bed, IN_OUT, OFFLOAD, 7);
	flow = accepted_flow(bed, "flow of generation 7");
	rules(bed, IN_OUT, OFFLOAD, 8);
	other = accepted_flow(bed, "flow of generation 8");
	platform_ok(conntrack_forget(bed->rules, 7) == 0, "generation 7 is forgotten");
	passes(bed, other.here, other.peer, "flow of generation 8 is not forgotten");
	rules(bed, IN_OUT, OFFLOAD, 7);
	say(flow.here);
	asked(bed, NEW, REMEMBER, "flow of the first generation 7 in the second");
	heard(flow.peer, PLATFORM_WAIT_MS);
	flow_close(&flow);
	flow_close(&other);
}

static void check_not_remembered(struct bed *bed)
{
	struct flow flow = flow_new(bed);

	rules(bed, IN_OUT, OFFLOAD, 1);
	say(flow.here);
	asked(bed, NEW, 0, "first packet, accepted without REMEMBER");
	heard(flow.peer, PLATFORM_WAIT_MS);
	say(flow.here);
	asked(bed, NEW, 0, "second packet");
	heard(flow.peer, PLATFORM_WAIT_MS);
	say(flow.peer);
	asked(bed, REPLY, 0, "reply of a flow that is not remembered");
	heard(flow.here, PLATFORM_WAIT_MS);
	flow_close(&flow);
}

static void check_every_packet(struct bed *bed)
{
	struct flow flow;

	rules(bed, IN_OUT, 0, NSGATE_CTMARK_GEN_MAX);
	flow = accepted_flow(bed, "without offload, first packet");
	say(flow.here);
	asked(bed, NEW | KNOWN, 0, "without offload, second packet before a reply");
	heard(flow.peer, PLATFORM_WAIT_MS);
	say(flow.peer);
	asked(bed, REPLY | KNOWN, 0, "without offload, reply");
	heard(flow.here, PLATFORM_WAIT_MS);
	say(flow.here);
	asked(bed, KNOWN, 0, "without offload, third packet");
	heard(flow.peer, PLATFORM_WAIT_MS);
	rules(bed, IN_OUT, 0, 1);
	say(flow.peer);
	asked(bed, REPLY | STALE, 0, "generation 4095 followed by 1: reply");
	heard(flow.here, PLATFORM_WAIT_MS);
	flow_close(&flow);
}

/* Only one direction is policed: replies to what it never saw come under no policy. */
static void check_one_hook(struct bed *bed)
{
	struct flow flow = flow_new(bed);

	rules(bed, HOOK(IN), OFFLOAD, 1);
	passes(bed, flow.here, flow.peer, "hooks in: packet that goes out");
	passes(bed, flow.peer, flow.here, "hooks in: its reply");
	flow_close(&flow);
	flow = flow_new(bed);
	say(flow.peer);
	asked(bed, NEW, REMEMBER, "hooks in: first packet that comes in");
	heard(flow.here, PLATFORM_WAIT_MS);
	passes(bed, flow.here, flow.peer, "hooks in: reply that goes out");
	flow_close(&flow);

	rules(bed, HOOK(OUT), 0, 1);
	flow = flow_new(bed);
	passes(bed, flow.peer, flow.here, "hooks out: packet that comes in");
	say(flow.here);
	asked(bed, REPLY | KNOWN, 0, "hooks out without offload: its reply");
	heard(flow.peer, PLATFORM_WAIT_MS);
	flow_close(&flow);
}

static void check_routing_hooks(struct bed *bed)
{
	uint32_t hooks = HOOK(PREROUTING) | HOOK(POSTROUTING);
	struct flow flow;

	rules(bed, hooks, OFFLOAD, 1);
	flow = accepted_flow(bed, "postrouting, first packet");
	say(flow.peer);
	asked(bed, REPLY | KNOWN, 0, "prerouting, reply");
	heard(flow.here, PLATFORM_WAIT_MS);
	rules(bed, hooks, OFFLOAD, 2);
	say(flow.peer);
	asked(bed, REPLY | STALE, 0, "prerouting, reply after a change of policy");
	heard(flow.here, PLATFORM_WAIT_MS);
	flow_close(&flow);

	/* Accepted in prerouting is not accepted in in. */
	rules(bed, HOOK(PREROUTING) | HOOK(IN), OFFLOAD, 3);
	flow = flow_new(bed);
	say(flow.peer);
	asked(bed, NEW, REMEMBER, "prerouting with in, first packet");
	asked(bed, NEW, 0, "in after prerouting, first packet");
	heard(flow.here, PLATFORM_WAIT_MS);
	say(flow.peer);
	asked(bed, NEW, 0, "prerouting with in, second packet");
	asked(bed, NEW, REMEMBER, "in after prerouting, second packet");
	heard(flow.here, PLATFORM_WAIT_MS);
	flow_close(&flow);
}

static void check_forward(struct bed *bed)
{
	int here = platform_netns_here(), far = platform_netns_new();
	struct flow flow;

	platform_link(here, far, "far", 2);
	platform_must("sysctl -w net.ipv4.ip_forward=1");
	platform_netns_enter(far);
	platform_must("ip route add 10.1.0.0/24 via 10.2.0.1");
	platform_netns_enter(bed->peer_netns);
	platform_must("ip route add 10.2.0.0/24 via 10.1.0.2");
	platform_netns_enter(here);
	flow.here = udp(far, "10.2.0.2", 9, "10.1.0.1", 9);
	flow.peer = udp(bed->peer_netns, "10.1.0.1", 9, "10.2.0.2", 9);

	rules(bed, HOOK(FORWARD), OFFLOAD, 1);
	say(flow.here);
	asked(bed, NEW, REMEMBER, "forward, first packet");
	heard(flow.peer, PLATFORM_WAIT_MS);
	passes(bed, flow.here, flow.peer, "forward, second packet");
	passes(bed, flow.peer, flow.here, "forward, reply");
	rules(bed, HOOK(FORWARD), OFFLOAD, 2);
	say(flow.peer);
	asked(bed, REPLY | STALE, 0, "forward, reply after a change of policy");
	flow_close(&flow);
	close(far);
	close(here);
}

/* Marks that belong to others: what a container sets on its packets and connections. */
static void check_marks_of_others(struct bed *bed)
{
	struct flow flow = flow_new(bed);
	uint32_t forged = 0xff00000a;

	platform_must("nft add table inet other");
	platform_must("nft 'add chain inet other early { type filter hook output priority 0; }'");
	platform_must("nft 'add chain inet other late { type filter hook output priority 30; }'");
	platform_must("nft add rule inet other early 'ct mark set ct mark | 0x1234'");
	platform_must("nft add rule inet other late meta l4proto udp meta mark 0xa"
		      " ct mark 0x40011234 counter");
	platform_must("nft add rule inet other late meta l4proto udp"
		      " 'meta mark & 0xff000000 != 0' counter");
	rules(bed, IN_OUT, OFFLOAD, 1);
	if (setsockopt(flow.here, SOL_SOCKET, SO_MARK, &forged, sizeof(forged)) < 0)
		platform_fail("SO_MARK");
	say(flow.here);
	asked(bed, NEW | 0xa, REMEMBER, "packet with a forged mark");
	heard(flow.peer, PLATFORM_WAIT_MS);
	passes(bed, flow.here, flow.peer, "second packet with a forged mark");
	platform_ok(!platform_run("nft list chain inet other late |"
				  " grep 'ct mark 0x40011234 counter packets 2 '"),
		    "the lower part of both marks is kept");
	platform_ok(!platform_run("nft list chain inet other late | grep '!= .*packets 0 '"),
		    "the byte is clear behind the rules");
	platform_must("nft delete table inet other");
	flow_close(&flow);
}

int main(void)
{
	struct bed bed = {.port = 5000};
	struct rules_features features;

	platform_begin();
	bed.rules = platform_netlink(-1);
	if (rules_probe(bed.rules, &features) < 0)
		platform_fail("rules_probe");
	if (!features.connmark) {
		printf("skip - this kernel has no connection marks\n");
		return 77;
	}
	bed.peer_netns = platform_netns_new();
	platform_link(bed.peer_netns, platform_netns_here(), "peer", 1);
	platform_queue_open(&bed.queue, -1, 0);
	check_offload(&bed);
	check_generation_used_again(&bed);
	check_not_remembered(&bed);
	check_every_packet(&bed);
	check_one_hook(&bed);
	check_routing_hooks(&bed);
	check_forward(&bed);
	check_marks_of_others(&bed);
	platform_ok(rules_remove(bed.rules) == 0, "the table goes");
	return platform_end();
}
