/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A verdict that changes the mark of an outgoing packet makes the kernel route it again, by the
 * mark as it is then. nsgate's own byte must not show in that: routing rules name whole marks.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../broker/rules.h"
#include "nsgate/hook.h"
#include "nsgate/mark.h"
#include "platform.h"

#define PORT 6500
#define MARK 0x10

/* 192.0.2.1 is at both ends: by the link `plain`, and for marked packets by `marked`. */
static int far_end(int here, const char *link, int net)
{
	int netns = platform_netns_new();

	platform_link(here, netns, link, net);
	platform_netns_enter(netns);
	platform_must("ip addr add 192.0.2.1/32 dev lo");
	platform_netns_enter(here);
	return netns;
}

static bool heard(int fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	char byte;

	return poll(&pfd, 1, timeout_ms) == 1 && recv(fd, &byte, 1, 0) == 1;
}

struct bed {
	struct platform_queue queue;
	int plain, marked; /* receivers */
};

/*
 * Send with `mark`, answer as the agent does (accept_with() in agent/queue_judge.c): with a mark
 * only where the lower bits are to be `set` otherwise or there are `bits` for the settle chain, and
 * then without those of the judge chain.
 */
static void check(struct bed *bed, uint32_t mark, uint32_t set, uint32_t bits, bool marked,
		  const char *what)
{
	struct platform_packet packet;
	int sender = platform_connect(-1, AF_INET, SOCK_DGRAM, "192.0.2.1", PORT);
	uint32_t answer;

	/* Connected before it is marked: what matters is the route of the packet. */
	if (setsockopt(sender, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 ||
	    send(sender, "x", 1, 0) != 1 ||
	    platform_receive(&bed->queue, &packet, PLATFORM_WAIT_MS) != 1)
		platform_fail("no packet");
	answer = set | bits;
	platform_verdict(&bed->queue, packet.id, NF_ACCEPT, set != mark || bits ? &answer : NULL);
	platform_ok(heard(marked ? bed->marked : bed->plain, PLATFORM_WAIT_MS), "%s", what);
	heard(bed->plain, 0);
	heard(bed->marked, 0);
	close(sender);
}

int main(void)
{
	struct bed bed;
	int here, plain, marked, rules;

	platform_begin();
	here = platform_netns_here();
	plain = far_end(here, "plain", 1);
	marked = far_end(here, "marked", 2);
	platform_must("ip route add default via 10.1.0.2");
	platform_must("ip route add default via 10.2.0.2 table 100");
	platform_must("ip rule add fwmark %u lookup 100", MARK);
	bed.plain = platform_bound(plain, AF_INET, SOCK_DGRAM, "192.0.2.1", PORT);
	bed.marked = platform_bound(marked, AF_INET, SOCK_DGRAM, "192.0.2.1", PORT);
	rules = platform_netlink(-1);
	platform_queue_open(&bed.queue, -1, 0);
	if (platform_rules(rules, NSGATE_HOOK_BIT(NSGATE_HOOK_OUT), 0, 1) < 0)
		platform_fail("rules_install");

	check(&bed, 0, 0, 0, false, "an unmarked packet goes the plain way");
	check(&bed, MARK, MARK, 0, true, "a packet that its sender marked goes the marked way");
	check(&bed, MARK, MARK, NSGATE_MARK_REMEMBER, true, "also where its flow is remembered");
	check(&bed, 0, MARK, 0, true, "a packet that the policy marked goes the marked way");
	check(&bed, 0, MARK, NSGATE_MARK_REMEMBER, true, "also where its flow is remembered");
	check(&bed, MARK, 0, 0, false, "a packet that the policy unmarked goes the plain way");
	platform_ok(rules_remove(rules) == 0, "the table goes");
	return platform_end();
}
