/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue belongs to a socket, not to a process: who has a duplicate of it has the queue, and the
 * queue lasts as long as any duplicate.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/queue_setup.h"
#include "broker/nft/rules.h"
#include "nsgate/hook.h"
#include "platform.h"

#define PORT 6000
#define PENDING_COLUMN 3

struct bed {
	int rules, proc;
	int sender, receiver; /* UDP over the loopback */
};

static void say(const struct bed *bed)
{
	if (send(bed->sender, "x", 1, 0) != 1)
		platform_fail("send");
}

static bool heard(const struct bed *bed, int timeout_ms)
{
	struct pollfd pfd = {.fd = bed->receiver, .events = POLLIN};
	char byte;

	return poll(&pfd, 1, timeout_ms) == 1 && recv(bed->receiver, &byte, 1, 0) == 1;
}

static long pending(const struct bed *bed)
{
	return platform_queue_column(bed->proc, 0, PENDING_COLUMN);
}

static void install(const struct bed *bed, uint32_t flags)
{
	if (platform_rules(bed->rules, NSGATE_HOOK_BIT(NSGATE_HOOK_OUT), flags, 1) < 0)
		platform_fail("rules_install");
}

static void check_other_socket(const struct bed *bed, const struct platform_queue *queue)
{
	struct platform_queue other = {.fd = platform_netlink(-1), .number = queue->number};
	struct platform_packet packet, refusal;

	platform_ok(queue_setup(other.fd, 0, 1, 16) == -EBUSY,
		    "another socket cannot bind the queue");
	platform_ok(queue_setup(queue->fd, 0, 1, 16) == -EBUSY, "nor can its own a second time");
	say(bed);
	if (platform_receive(queue, &packet, PLATFORM_WAIT_MS) != 1)
		platform_fail("no packet");
	platform_verdict(&other, &packet, NF_ACCEPT, NULL);
	platform_ok(platform_receive(&other, &refusal, PLATFORM_WAIT_MS) == -EPERM,
		    "a verdict from another socket is refused, as a message on that socket");
	platform_ok(!heard(bed, PLATFORM_QUIET_MS) && pending(bed) == 1, "the packet still waits");
	platform_verdict(queue, &packet, NF_ACCEPT, NULL);
	platform_ok(heard(bed, PLATFORM_WAIT_MS), "the queue's own socket lets it go");
	platform_verdict(queue, &packet, NF_ACCEPT, NULL);
	platform_ok(platform_receive(queue, &refusal, PLATFORM_WAIT_MS) == -ENOENT,
		    "a second verdict on a packet is answered ENOENT");
	close(other.fd);
}

/* A child has only the inherited descriptor. Return: its exit code. */
static int in_child(const struct platform_queue *queue)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct platform_packet packet;

		alarm(PLATFORM_SECONDS);
		if (platform_receive(queue, &packet, PLATFORM_WAIT_MS) != 1)
			_exit(1);
		_exit(platform_verdict(queue, &packet, NF_ACCEPT, NULL) == 0 ? 0 : 2);
	}
	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_duplicate(const struct bed *bed, struct platform_queue *queue)
{
	struct platform_packet packet;
	int copy;

	say(bed);
	platform_ok(in_child(queue) == 0 && heard(bed, PLATFORM_WAIT_MS),
		    "another process verdicts by an inherited descriptor");

	copy = dup(queue->fd);
	say(bed);
	say(bed);
	close(queue->fd);
	platform_ok(pending(bed) == 2, "packets wait while only a duplicate is left");
	queue->fd = copy;
	while (platform_receive(queue, &packet, PLATFORM_QUIET_MS) == 1)
		platform_verdict(queue, &packet, NF_ACCEPT, NULL);
	platform_ok(heard(bed, PLATFORM_WAIT_MS) && heard(bed, PLATFORM_WAIT_MS), "and go by it");
}

static void check_last_close(const struct bed *bed, struct platform_queue *queue)
{
	say(bed);
	close(queue->fd);
	platform_ok(!heard(bed, PLATFORM_QUIET_MS) && pending(bed) == -1,
		    "the last close ends the queue and drops what waits");
	say(bed);
	platform_ok(!heard(bed, PLATFORM_QUIET_MS),
		    "with nobody bound packets are dropped though send() succeeds");
	install(bed, NSGATE_RULES_BYPASS);
	say(bed);
	platform_ok(heard(bed, PLATFORM_WAIT_MS), "with the bypass flag they pass");
	platform_queue_open(queue, -1, 0);
	say(bed);
	platform_ok(!heard(bed, PLATFORM_QUIET_MS) && pending(bed) == 1,
		    "with the bypass flag and somebody bound they wait");
	close(queue->fd);
}

static void check_setup(void)
{
	struct pollfd pfd = {.fd = platform_netlink(-1), .events = POLLIN};
	int size = 0, flag = 0;
	socklen_t size_length = sizeof(size), flag_length = sizeof(flag);

	platform_ok(queue_setup(pfd.fd, 7, 1, QUEUE_LENGTH_DEFAULT) == 0, "a queue is set up");
	platform_ok(poll(&pfd, 1, 0) == 0, "nothing is left to read");
	getsockopt(pfd.fd, SOL_SOCKET, SO_RCVBUF, &size, &size_length);
	platform_ok(size >= QUEUE_LENGTH_DEFAULT * 832, "the receive buffer holds a full queue");
	getsockopt(pfd.fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &flag, &flag_length);
	platform_ok(flag == 1, "an overrun does not block the socket");
	close(pfd.fd);
}

int main(void)
{
	struct platform_queue queue;
	struct bed bed;

	platform_begin();
	bed.rules = platform_netlink(-1);
	bed.proc = platform_open_queue_stats();
	bed.receiver = platform_bound(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	bed.sender = platform_connect(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	check_setup();
	platform_queue_open(&queue, -1, 0);
	install(&bed, 0);
	check_other_socket(&bed, &queue);
	check_duplicate(&bed, &queue);
	check_last_close(&bed, &queue);
	platform_ok(rules_remove(bed.rules) == 0, "the table goes");
	return platform_end();
}
