/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a process needs to give verdicts on a queue that others opened: CAP_NET_ADMIN, and nothing
 * else. The verdicter is a child with only the queue's descriptor; the queue is in this user
 * namespace, or in that of a rootless container.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/queue_setup.h"
#include "broker/nft/rules.h"
#include "nsgate/hook.h"
#include "platform.h"

#define PORT 6400
#define NOBODY 65534

enum result {
	RESULT_ACCEPTED = 0, /* no refusal came */
	RESULT_EPERM,
	RESULT_OTHER,
	RESULT_BROKEN,
};

/* Become nobody in an empty network namespace, with CAP_NET_ADMIN or with nothing. */
static int become_nobody(bool net_admin)
{
	const cap_value_t value = CAP_NET_ADMIN;
	cap_t caps = cap_init();

	if (!caps || unshare(CLONE_NEWNET) < 0 || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ||
	    setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return -1;
	if (net_admin && (cap_set_flag(caps, CAP_PERMITTED, 1, &value, CAP_SET) < 0 ||
			  cap_set_flag(caps, CAP_EFFECTIVE, 1, &value, CAP_SET) < 0))
		return -1;
	if (cap_set_proc(caps) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	cap_free(caps);
	return 0;
}

static int verdict_as_nobody(const struct platform_queue *queue, bool net_admin)
{
	struct platform_packet packet, refusal;
	int r;

	if (become_nobody(net_admin) < 0)
		return RESULT_BROKEN;
	if (platform_receive(queue, &packet, PLATFORM_WAIT_MS) != 1)
		return RESULT_BROKEN;
	if (platform_verdict(queue, &packet, NF_ACCEPT, NULL) < 0)
		return RESULT_OTHER; /* the send itself is not refused */
	r = platform_receive(queue, &refusal, PLATFORM_QUIET_MS);
	if (r == 0)
		return RESULT_ACCEPTED;
	return r == -EPERM ? RESULT_EPERM : RESULT_OTHER;
}

static int in_child(const struct platform_queue *queue, bool net_admin)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		platform_fail("fork");
	if (child == 0) {
		alarm(PLATFORM_SECONDS);
		_exit(verdict_as_nobody(queue, net_admin));
	}
	return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool heard(int fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	char byte;

	return poll(&pfd, 1, timeout_ms) == 1 && recv(fd, &byte, 1, 0) == 1;
}

static void check_here(void)
{
	struct platform_queue queue;
	int rules = platform_netlink(-1);
	int receiver = platform_bound(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	int sender = platform_connect(-1, AF_INET, SOCK_DGRAM, NULL, PORT);

	platform_queue_open(&queue, -1, 0);
	if (platform_rules(rules, NSGATE_HOOK_BIT(NSGATE_HOOK_OUT), 0, 1) < 0 ||
	    send(sender, "x", 1, 0) != 1)
		platform_fail("rules or packet");
	platform_ok(in_child(&queue, false) == RESULT_EPERM && !heard(receiver, PLATFORM_QUIET_MS),
		    "without CAP_NET_ADMIN a verdict is refused, by a message");
	if (send(sender, "x", 1, 0) != 1)
		platform_fail("send");
	platform_ok(in_child(&queue, true) == RESULT_ACCEPTED && heard(receiver, PLATFORM_WAIT_MS),
		    "nobody with CAP_NET_ADMIN alone, in another network namespace, verdicts");
	close(queue.fd);
	close(rules);
	close(receiver);
	close(sender);
}

static void check_setup_refused(void)
{
	int status, fd = platform_netlink(-1);
	pid_t child = fork();

	if (child == 0) {
		alarm(PLATFORM_SECONDS);
		if (become_nobody(false) < 0)
			_exit(RESULT_BROKEN);
		_exit(queue_setup(fd, 3, 1, 16) == -EPERM ? 0 : RESULT_OTHER);
	}
	platform_ok(waitpid(child, &status, 0) == child && status == 0,
		    "without CAP_NET_ADMIN queue_setup() says EPERM, not EBUSY");
	close(fd);
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;

	if (fd >= 0)
		close(fd);
	return r;
}

struct inside {
	int queue_fd; /* number of the descriptor inside the container, -1: it could not */
};

/* The container: queue, rules and a packet; then it waits for the verdict. Return: arrived? */
static bool rootless(int tell)
{
	struct platform_queue queue;
	int rules, receiver, sender;

	if (unshare(CLONE_NEWUSER) < 0 || write_file("/proc/self/uid_map", "0 0 1") < 0 ||
	    unshare(CLONE_NEWNET) < 0) {
		struct inside none = {-1};

		return write(tell, &none, sizeof(none)) < 0;
	}
	platform_must("ip link set lo up");
	platform_queue_open(&queue, -1, 0);
	rules = platform_netlink(-1);
	receiver = platform_bound(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	sender = platform_connect(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	if (platform_rules(rules, NSGATE_HOOK_BIT(NSGATE_HOOK_OUT), 0, 1) < 0 ||
	    send(sender, "x", 1, 0) != 1)
		platform_fail("rules or packet in the container");
	if (write(tell, &(struct inside){queue.fd}, sizeof(struct inside)) < 0)
		return false;
	return heard(receiver, 2 * PLATFORM_WAIT_MS);
}

static void check_rootless(void)
{
	struct platform_queue queue = {.number = 0};
	struct inside inside = {-1};
	int tell[2], status, pidfd, result;
	pid_t child;

	if (pipe2(tell, O_CLOEXEC) < 0 || (child = fork()) < 0)
		platform_fail("fork");
	if (child == 0) {
		alarm(PLATFORM_SECONDS);
		_exit(rootless(tell[1]) ? 0 : 1);
	}
	if (read(tell[0], &inside, sizeof(inside)) != sizeof(inside))
		platform_fail("container");
	if (inside.queue_fd < 0) {
		printf("# no user namespaces here: rootless containers not tried\n");
		waitpid(child, NULL, 0);
		return;
	}
	pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	queue.fd = (int)syscall(SYS_pidfd_getfd, pidfd, inside.queue_fd, 0);
	if (queue.fd < 0)
		platform_fail("pidfd_getfd");
	result = in_child(&queue, true);
	platform_ok(waitpid(child, &status, 0) == child && status == 0 && result == RESULT_ACCEPTED,
		    "the same verdicts for a rootless container that opened its own queue");
	close(queue.fd);
	close(pidfd);
	close(tell[0]);
	close(tell[1]);
}

int main(void)
{
	platform_begin();
	platform_backend();
	check_here();
	check_setup_refused();
	check_rootless();
	return platform_end();
}
