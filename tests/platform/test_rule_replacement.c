/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules are replaced under waiting packets without losing them. Deleting a base chain, any base
 * chain in the namespace, loses them all.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/nft/rules.h"
#include "nsgate/hook.h"
#include "platform.h"

#define PORT 6200
#define PACKETS 5
#define PENDING_COLUMN 3
#define HOOK(name) NSGATE_HOOK_BIT(NSGATE_HOOK_##name)

struct bed {
	struct platform_queue queue;
	int rules, proc;
	int sender, receiver;
};

static void send_all(const struct bed *bed)
{
	for (int i = 0; i < PACKETS; i++) {
		if (send(bed->sender, "x", 1, 0) != 1)
			platform_fail("send");
	}
}

static long pending(const struct bed *bed)
{
	return platform_queue_column(bed->proc, 0, PENDING_COLUMN);
}

/* Decide what is in the socket like that. Return: how many packets arrived. */
static int arrived_with(const struct bed *bed, uint32_t verdict, const uint32_t *mark)
{
	struct pollfd pfd = {.fd = bed->receiver, .events = POLLIN};
	struct platform_packet packet;
	char byte;
	int count = 0;

	while (platform_receive(&bed->queue, &packet, PLATFORM_QUIET_MS) == 1)
		platform_verdict(&bed->queue, &packet, verdict, mark);
	while (poll(&pfd, 1, PLATFORM_QUIET_MS) == 1 && recv(bed->receiver, &byte, 1, 0) == 1)
		count++;
	return count;
}

static int arrived(const struct bed *bed)
{
	return arrived_with(bed, NF_ACCEPT, NULL);
}

/* How many arrive although they were rejected, or denied. */
static int arrived_after(const struct bed *bed, enum nsgate_answer answer)
{
	const uint32_t mark = platform_answer(answer);

	return arrived_with(bed, NF_REPEAT, &mark);
}

/* The ICMP unreachable of a rejection is an error of the sending socket; forget it. */
static void forget_error(const struct bed *bed)
{
	int error;
	socklen_t size = sizeof(error);

	getsockopt(bed->sender, SOL_SOCKET, SO_ERROR, &error, &size);
}

static void install(const struct bed *bed, uint32_t hooks, uint32_t generation)
{
	if (platform_rules(bed->rules, hooks, NSGATE_RULES_OFFLOAD, generation) < 0)
		platform_fail("rules_install");
}

int main(void)
{
	struct bed bed;

	platform_begin();
	bed.rules = platform_netlink(-1);
	bed.proc = platform_open_queue_stats();
	platform_queue_open(&bed.queue, -1, 0);
	bed.receiver = platform_bound(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	bed.sender = platform_connect(-1, AF_INET, SOCK_DGRAM, NULL, PORT);

	install(&bed, HOOK(OUT), 1);
	send_all(&bed);
	install(&bed, HOOK(OUT), 2);
	platform_ok(pending(&bed) == PACKETS, "packets wait on while rules are replaced");
	install(&bed, HOOK(FORWARD), 3);
	platform_ok(pending(&bed) == PACKETS, "also where the hook is no longer named");
	platform_ok(arrived(&bed) == PACKETS, "and arrive");
	send_all(&bed);
	platform_ok(pending(&bed) == 0 && arrived(&bed) == PACKETS,
		    "a hook no longer named queues nothing");

	install(&bed, HOOK(OUT), 4);
	send_all(&bed);
	install(&bed, HOOK(FORWARD), 5);
	platform_ok(arrived_after(&bed, NSGATE_ANSWER_REJECT) == 0,
		    "a rejection is one also where the hook is no longer named");
	forget_error(&bed);
	install(&bed, HOOK(OUT), 6);
	send_all(&bed);
	install(&bed, HOOK(FORWARD), 7);
	platform_ok(arrived_after(&bed, NSGATE_ANSWER_DENY) == 0, "so is a denial");
	install(&bed, HOOK(OUT), 8);
	send_all(&bed);
	install(&bed, HOOK(FORWARD), 9);
	{
		const uint32_t mark = platform_answer(NSGATE_ANSWER_REMEMBER);

		platform_ok(arrived_with(&bed, NF_ACCEPT, &mark) == PACKETS,
			    "what was accepted and to be remembered passes there");
	}
	install(&bed, HOOK(OUT), 10);
	send_all(&bed);
	if (rules_pause(bed.rules) < 0)
		platform_fail("rules_pause");
	platform_ok(arrived_after(&bed, NSGATE_ANSWER_REJECT) == 0, "and during a pause");
	forget_error(&bed);

	install(&bed, HOOK(OUT), 11);
	send_all(&bed);
	platform_ok(rules_pause(bed.rules) == 0 && pending(&bed) == PACKETS,
		    "packets wait on while rules are paused");
	platform_ok(arrived(&bed) == PACKETS, "and arrive");
	send_all(&bed);
	platform_ok(pending(&bed) == 0 && arrived(&bed) == PACKETS, "paused rules queue nothing");

	install(&bed, HOOK(OUT), 12);
	platform_must("nft add table inet other");
	platform_must("nft 'add chain inet other spare { type filter hook input priority 0; }'");
	send_all(&bed);
	platform_must("nft add rule inet other spare accept");
	platform_must("nft flush chain inet other spare");
	platform_ok(pending(&bed) == PACKETS, "changing another table's rules drops nothing");
	platform_must("nft delete table inet other");
	platform_ok(pending(&bed) == 0 && arrived(&bed) == 0,
		    "deleting any base chain drops all that waits");

	send_all(&bed);
	platform_ok(rules_remove(bed.rules) == 0 && pending(&bed) == 0 && arrived(&bed) == 0,
		    "so does removing the table");
	return platform_end();
}
