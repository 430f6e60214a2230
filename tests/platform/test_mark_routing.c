/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A verdict that changes the mark of an outgoing packet makes the kernel route it again, by the
 * mark as it is then, and by nothing that its sender had asked for. One without a mark does not.
 */
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/nft/rules.h"
#include "nsgate/hook.h"
#include "platform.h"

#define PORT 6500
#define MARK 0x10
#define OTHER_MARK 0x55 /* that no routing rule names */

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

/* By `link`, whatever the routes say, or by any. */
static void send_by(int fd, const char *link)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in_pktinfo))] = {0};
	struct iovec part = {.iov_base = (char[]){"x"}, .iov_len = 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	struct in_pktinfo info = {.ipi_ifindex = link ? (int)if_nametoindex(link) : 0};
	struct cmsghdr *header;

	if (link) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = IPPROTO_IP;
		header->cmsg_type = IP_PKTINFO;
		header->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(header), &info, sizeof(info));
	}
	if (sendmsg(fd, &message, 0) != 1)
		platform_fail("send");
}

/* Send with `mark`, accept with the mark `answer`, or without one where that is no other. */
static void check(struct bed *bed, const char *link, uint32_t mark, uint32_t answer, bool marked,
		  const char *what)
{
	struct platform_packet packet;
	int sender = platform_connect(-1, AF_INET, SOCK_DGRAM, "192.0.2.1", PORT);

	/* Connected before it is marked: what matters is the route of the packet. */
	if (setsockopt(sender, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0)
		platform_fail("SO_MARK");
	send_by(sender, link);
	if (platform_receive(&bed->queue, &packet, PLATFORM_WAIT_MS) != 1)
		platform_fail("no packet");
	platform_verdict(&bed->queue, &packet, NF_ACCEPT, answer != mark ? &answer : NULL);
	platform_ok(packet.mark == mark &&
			    heard(marked ? bed->marked : bed->plain, PLATFORM_WAIT_MS),
		    "%s", what);
	platform_ok(!heard(marked ? bed->plain : bed->marked, 0), "and no other way");
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

	check(&bed, NULL, 0, 0, false, "an unmarked packet goes the plain way");
	check(&bed, NULL, MARK, MARK, true, "a packet that its sender marked goes the marked way");
	check(&bed, NULL, 0, MARK, true, "a packet that the policy marked goes the marked way");
	check(&bed, NULL, MARK, 0, false, "a packet that the policy unmarked goes the plain way");

	check(&bed, "marked", 0, 0, true, "a verdict without a mark keeps the link of IP_PKTINFO");
	check(&bed, "marked", OTHER_MARK, OTHER_MARK, true, "also where the packet has one");
	check(&bed, "marked", 0, OTHER_MARK, false, "a verdict with another mark does not");

	/* Where the agent has to say it, it costs that; it is said of unmarked packets alone. */
	if (platform_rules(rules, NSGATE_HOOK_BIT(NSGATE_HOOK_OUT), NSGATE_RULES_OVERLOAD, 2) < 0)
		platform_fail("rules_install");
	check(&bed, NULL, 0, platform_answer(NSGATE_ANSWER_REMEMBER), false,
	      "an unmarked packet whose flow is remembered goes the plain way");
	platform_ok(rules_remove(rules) == 0, "the table goes");
	return platform_end();
}
