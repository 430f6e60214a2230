/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An ICMP error about a flow's first packet shares its conntrack entry while that is in no table.
 * Where it is to be queued, a kernel may drop it (nf_ct_drop_unconfirmed() in
 * net/netfilter/nfnetlink_queue.c, since Linux 6.11) or queue it as any: Linux 6.18.44 queues it,
 * and so do Debian's 6.1.0-50, 6.12.117 and 7.3.4. So it has to pass before, as it does in
 * odd_<hook>.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platform.h"

#define PORT 6400

/* The kernel rejects a first packet. Is its sender told, and what comes to the queue? */
static bool is_told(const struct platform_queue *queue, unsigned int *ret_queued)
{
	struct platform_packet packet;
	int sender = platform_connect(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	struct pollfd pfd = {.fd = sender, .events = POLLERR};
	int error = 0;
	socklen_t size = sizeof(error);

	(void)send(sender, "x", 1, 0); /* it is told of the drop, too, by EPERM */
	*ret_queued = 0;
	while (platform_receive(queue, &packet, PLATFORM_QUIET_MS) == 1) {
		*ret_queued += 1;
		platform_verdict(queue, &packet, NF_ACCEPT, NULL);
	}
	poll(&pfd, 1, PLATFORM_QUIET_MS);
	getsockopt(sender, SOL_SOCKET, SO_ERROR, &error, &size);
	close(sender);
	return error == ECONNREFUSED;
}

int main(void)
{
	struct platform_queue queue;
	unsigned int queued;
	bool told;
	int rules;

	platform_begin();
	rules = platform_netlink(-1);
	platform_queue_open(&queue, -1, 0);
	platform_must("nft add table inet other");
	platform_must("nft 'add chain inet other first { type filter hook output priority 0; }'");
	platform_must("nft 'add chain inet other then { type filter hook output priority 10; }'");
	platform_must("nft add rule inet other first udp dport %d reject", PORT);
	told = is_told(&queue, &queued);
	platform_ok(told && queued == 0, "an error about a first packet reaches its sender");

	platform_queue_rule(rules, "other", "then", IPPROTO_ICMP, 0, 0);
	told = is_told(&queue, &queued);
	platform_ok(told == (queued == 1), "to be queued, it is queued or lost there");
	printf("figure: to be queued, it is %s\n", queued ? "queued" : "lost there");

	platform_must("nft flush chain inet other then");
	platform_must("nft 'add rule inet other then ct state related ct status & 8 == 0"
		      " counter accept'");
	platform_queue_rule(rules, "other", "then", IPPROTO_ICMP, 0, 0);
	told = is_told(&queue, &queued);
	platform_ok(told && queued == 0,
		    "accepted before as related to what is not confirmed: it does");
	platform_ok(!platform_run("nft list chain inet other then | grep 'packets 1 '"),
		    "by that rule");
	return platform_end();
}
