/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several queue numbers on one socket: messages and verdicts name theirs, ids count by each, and a
 * batch verdict reaches its own alone. Other sockets have numbers in between.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/queue_setup.h"
#include "platform.h"

#define FIRST 100
#define STRIDE 3
#define PORT 6300 /* and the next ones, each to a number */
#define EACH 4
#define PORTS 3
#define PENDING_COLUMN 3
#define ID_COLUMN 8

struct bed {
	struct platform_queue queue;
	int proc;
	int senders[PORTS], receivers[PORTS];
	uint16_t numbers[PORTS];
};

static void say_all(const struct bed *bed)
{
	for (int i = 0; i < EACH; i++)
		for (int port = 0; port < PORTS; port++)
			if (send(bed->senders[port], "x", 1, 0) != 1)
				platform_fail("send");
}

static int heard(const struct bed *bed, int port)
{
	struct pollfd pfd = {.fd = bed->receivers[port], .events = POLLIN};
	char byte;
	int count = 0;

	while (poll(&pfd, 1, PLATFORM_QUIET_MS) == 1 && recv(pfd.fd, &byte, 1, 0) == 1)
		count++;
	return count;
}

/* Read all packets. Return: whether they came in turn, by the numbers of their ports. */
static bool receive_all(const struct bed *bed, uint32_t ret_last[PORTS])
{
	struct platform_packet packet;
	bool good = true;

	for (int i = 0; i < EACH; i++)
		for (int port = 0; port < PORTS; port++) {
			good &= platform_receive(&bed->queue, &packet, PLATFORM_WAIT_MS) == 1 &&
				packet.dport == PORT + port &&
				packet.number == bed->numbers[port] &&
				(i == 0 || packet.id == ret_last[port] + 1);
			ret_last[port] = packet.id;
		}
	return good && platform_receive(&bed->queue, &packet, 0) == 0;
}

static bool pending(const struct bed *bed, int first, int second, int third)
{
	return platform_queue_column(bed->proc, bed->numbers[0], PENDING_COLUMN) == first &&
	       platform_queue_column(bed->proc, bed->numbers[1], PENDING_COLUMN) == second &&
	       platform_queue_column(bed->proc, bed->numbers[2], PENDING_COLUMN) == third;
}

static void check_batches(const struct bed *bed)
{
	uint32_t last[PORTS] = {0};

	say_all(bed);
	platform_ok(receive_all(bed, last),
		    "one socket gets the packets of all numbers in their order, and which it was");
	platform_ok(last[0] == EACH && last[1] == EACH && last[2] == EACH,
		    "ids count by each number (%u, %u, %u)", last[0], last[1], last[2]);
	platform_verdict_batch(&bed->queue, bed->numbers[1], last[1], NF_ACCEPT);
	platform_ok(pending(bed, EACH, 0, EACH) && heard(bed, 1) == EACH,
		    "a batch verdict decides what came by its number");
	platform_ok(heard(bed, 0) == 0 && heard(bed, 2) == 0, "and nothing of the others");
	platform_verdict_batch(&bed->queue, bed->numbers[0], last[0], NF_REPEAT);
	platform_ok(pending(bed, EACH, 0, EACH) &&
			    platform_queue_column(bed->proc, bed->numbers[0], ID_COLUMN) ==
				    2 * EACH &&
			    platform_queue_column(bed->proc, bed->numbers[2], ID_COLUMN) == EACH,
		    "what goes round comes by its number again, under a new id");
	platform_verdict_batch(&bed->queue, bed->numbers[0], 2 * EACH, NF_ACCEPT);
	platform_verdict_batch(&bed->queue, bed->numbers[2], last[2], NF_DROP);
	platform_ok(pending(bed, 0, 0, 0) && heard(bed, 0) == EACH && heard(bed, 2) == 0,
		    "one is accepted, the other dropped, in two messages of one socket");
}

/* The messages of the packets that went round are still to be read. */
static void drain(const struct bed *bed)
{
	struct platform_packet packet;

	while (platform_receive(&bed->queue, &packet, 0) == 1)
		;
}

static void check_wrong_number(const struct bed *bed)
{
	struct platform_packet packet, refusal;

	drain(bed);
	if (send(bed->senders[2], "x", 1, 0) != 1 ||
	    platform_receive(&bed->queue, &packet, PLATFORM_WAIT_MS) != 1)
		platform_fail("no packet");
	packet.number = bed->numbers[0];
	platform_verdict(&bed->queue, &packet, NF_ACCEPT, NULL);
	platform_ok(platform_receive(&bed->queue, &refusal, PLATFORM_WAIT_MS) == -ENOENT &&
			    pending(bed, 0, 0, 1),
		    "an id means nothing by another number");
	packet.number = FIRST + 1;
	platform_verdict(&bed->queue, &packet, NF_ACCEPT, NULL);
	platform_ok(platform_receive(&bed->queue, &refusal, PLATFORM_WAIT_MS) == -ENODEV,
		    "a number that nobody has bound is refused");
	packet.number = bed->numbers[2];
	platform_verdict(&bed->queue, &packet, NF_ACCEPT, NULL);
	platform_ok(heard(bed, 2) == 1, "its own number lets it go");
}

static void check_neighbours(const struct bed *bed)
{
	const int other = platform_netlink(-1), third = platform_netlink(-1);

	platform_ok(queue_setup(other, FIRST + 1, STRIDE, 16) == 0,
		    "the numbers in between are another socket's");
	platform_ok(queue_setup(third, FIRST + STRIDE, STRIDE, 16) == -EBUSY,
		    "a row that has one of another's cannot be bound");
	queue_unbind(other, FIRST + 1, STRIDE);
	platform_ok(platform_queue_column(bed->proc, FIRST + 1, 1) == -1 &&
			    platform_queue_column(bed->proc, FIRST, 1) == FIRST,
		    "a row is given back, and no other");
	close(other);
	close(third);
}

static void check_release(const struct bed *bed)
{
	say_all(bed);
	platform_ok(queue_release(bed->queue.fd, FIRST, STRIDE, bed->proc) == PORTS * EACH,
		    "what waits by all numbers is let go at once");
	platform_ok(heard(bed, 0) == EACH && heard(bed, 1) == EACH && heard(bed, 2) == EACH,
		    "and arrives");
}

/* The last close ends all of them. */
static void check_close(struct bed *bed)
{
	say_all(bed);
	close(bed->queue.fd);
	for (int i = 0; i < NSGATE_FLOW_MAX; i++)
		if (platform_queue_column(bed->proc, (uint16_t)(FIRST + i * STRIDE), 1) != -1) {
			platform_ok(false, "the last close ends number %d", FIRST + i * STRIDE);
			return;
		}
	platform_ok(heard(bed, 0) + heard(bed, 1) + heard(bed, 2) == 0,
		    "the last close ends every number, and what waits by it");
}

int main(void)
{
	struct bed bed = {
		.queue = {.number = FIRST},
		.numbers = {FIRST, FIRST + STRIDE, FIRST + (NSGATE_FLOW_MAX - 1) * STRIDE}};

	int rules;

	platform_begin();
	rules = platform_netlink(-1);
	bed.proc = platform_open_queue_stats();
	bed.queue.fd = platform_netlink(-1);
	platform_ok(queue_setup(bed.queue.fd, FIRST, STRIDE, QUEUE_LENGTH_DEFAULT) == 0,
		    "a row of numbers is bound to one socket");
	platform_must("nft add table inet numbers");
	platform_must("nft 'add chain inet numbers out { type filter hook output priority 0; }'");
	for (int i = 0; i < PORTS; i++) {
		bed.receivers[i] =
			platform_bound(-1, AF_INET, SOCK_DGRAM, NULL, (uint16_t)(PORT + i));
		bed.senders[i] =
			platform_connect(-1, AF_INET, SOCK_DGRAM, NULL, (uint16_t)(PORT + i));
		platform_queue_rule(rules, "numbers", "out", IPPROTO_UDP, (uint16_t)(PORT + i),
				    bed.numbers[i]);
	}
	check_batches(&bed);
	check_wrong_number(&bed);
	check_neighbours(&bed);
	check_release(&bed);
	check_close(&bed);
	return platform_end();
}
