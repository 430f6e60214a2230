/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A new agent on an old queue socket: packets that its predecessor read and did not decide are
 * delivered again, each once, by a batch verdict NF_REPEAT up to the last id given out.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "broker/nft/rules.h"
#include "nsgate/hook.h"
#include "platform.h"

#define PORT 6100
#define PACKETS 20
#define PENDING_COLUMN 3
#define ID_COLUMN 8

static unsigned int receive_all(const struct platform_queue *queue, uint32_t ids[PACKETS])
{
	struct platform_packet packet;
	unsigned int count = 0;

	while (count < PACKETS && platform_receive(queue, &packet, PLATFORM_QUIET_MS) == 1)
		ids[count++] = packet.id;
	return count;
}

static unsigned int heard_all(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	unsigned int count = 0;
	char byte;

	while (poll(&pfd, 1, PLATFORM_QUIET_MS) == 1 && recv(fd, &byte, 1, 0) == 1)
		count++;
	return count;
}

int main(void)
{
	struct platform_queue queue;
	struct platform_packet packet;
	uint32_t before[PACKETS], after[PACKETS], newest = 0, last;
	unsigned int heard;
	int rules, proc, sender, receiver;
	bool fresh = true;

	platform_begin();
	rules = platform_netlink(-1);
	proc = platform_open_queue_stats();
	platform_queue_open(&queue, -1, 0);
	if (platform_rules(rules, NSGATE_HOOK_BIT(NSGATE_HOOK_OUT), 0, 1) < 0)
		platform_fail("rules_install");
	receiver = platform_bound(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	sender = platform_connect(-1, AF_INET, SOCK_DGRAM, NULL, PORT);

	/* The predecessor reads ten of twenty, and dies. */
	for (int i = 0; i < PACKETS; i++)
		send(sender, "x", 1, 0);
	for (int i = 0; i < PACKETS / 2; i++)
		platform_receive(&queue, &packet, PLATFORM_WAIT_MS);

	/* Its successor throws away what is in the socket and finds out where the queue stands. */
	while (platform_receive(&queue, &packet, 0) == 1)
		newest = packet.id;
	last = (uint32_t)platform_queue_column(proc, 0, ID_COLUMN);
	platform_ok(last == newest, "the id column tells the last id given out (%u)", last);
	platform_ok(platform_queue_column(proc, 0, PENDING_COLUMN) == PACKETS,
		    "packets read and not decided are pending");

	platform_verdict_batch(&queue, NSGATE_FLOW_NEW, last, NF_REPEAT);
	platform_ok(receive_all(&queue, after) == PACKETS, "each is delivered again");
	for (int i = 0; i < PACKETS; i++)
		fresh &= (int32_t)(after[i] - last) > 0;
	platform_ok(fresh, "under a new id");
	platform_ok(platform_receive(&queue, &packet, 0) == 0, "none twice");
	platform_verdict_batch(&queue, NSGATE_FLOW_NEW, after[PACKETS - 1], NF_ACCEPT);
	heard = heard_all(receiver);
	platform_ok(heard == PACKETS, "all arrive, once (%u)", heard);

	platform_verdict_batch(&queue, NSGATE_FLOW_NEW, after[PACKETS - 1], NF_REPEAT);
	platform_ok(platform_receive(&queue, &packet, PLATFORM_WAIT_MS) == -ENOENT,
		    "with nothing pending the batch is answered ENOENT");

	for (int i = 0; i < 4; i++)
		send(sender, "x", 1, 0);
	receive_all(&queue, before);
	platform_verdict_batch(&queue, NSGATE_FLOW_NEW, before[1], NF_DROP);
	platform_verdict_batch(&queue, NSGATE_FLOW_NEW, before[3], NF_ACCEPT);
	heard = heard_all(receiver);
	platform_ok(heard == 2, "a batch verdict decides everything up to its id (%u)", heard);
	platform_ok(rules_remove(rules) == 0, "the table goes");
	return platform_end();
}
