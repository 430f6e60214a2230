// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * The files of a network namespace below /proc belong to the root of the user namespace that owns
 * it, and some open for nobody else. The broker has no right to override that, and wants none. A
 * child enters that user namespace, where it may, and passes the descriptor back.
 *
 * Whoever is root in there may then signal the child, and trace it, were that not prevented. So,
 * unlike the child of kit.c, it shares no memory with the broker, cannot be traced or dumped, has
 * closed all other descriptors, and is waited for no longer than OPEN_TIMEOUT_MS.
 */
#include "kit_owned.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc.h"

#define OPEN_TIMEOUT_MS 1000

/* musl has no function of that name. */
static bool close_between(unsigned int first, unsigned int last)
{
	return syscall(SYS_close_range, first, last, 0) == 0;
}

/* All but these two, of which neither is -1. */
static bool close_others(int a, int b)
{
	unsigned int low = (unsigned int)(a < b ? a : b), high = (unsigned int)(a < b ? b : a);

	return (low == 0 || close_between(0, low - 1)) &&
	       (high == low + 1 || close_between(low + 1, high - 1)) &&
	       close_between(high + 1, ~0U);
}

static bool enter_owner(void)
{
	int netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int owner = netns < 0 ? -1 : ioctl(netns, NS_GET_USERNS);
	bool entered = owner >= 0 && setns(owner, CLONE_NEWUSER) == 0;

	fd_close(&owner);
	fd_close(&netns);
	return entered;
}

static void child(int target, const char *path, int answer)
{
	struct nsgate_msg_plain message;
	int fd = -1;

	errno = 0;
	if (prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
	    close_others(target, answer) && setns(target, CLONE_NEWNET) == 0 && enter_owner())
		fd = open(path, O_RDONLY | O_CLOEXEC);
	ipc_header(&message.header, NSGATE_MSG_PROBE, (uint32_t)(fd < 0 ? errno : 0));
	(void)ipc_send(answer, &message.header, &fd, fd < 0 ? 0 : 1);
	_exit(0);
}

/* Return: the descriptor or -errno. */
static int receive(int answer)
{
	struct pollfd ready = {.fd = answer, .events = POLLIN};
	union nsgate_msg message;
	unsigned int count;
	int err, fd = -1;

	do
		err = poll(&ready, 1, OPEN_TIMEOUT_MS);
	while (err < 0 && errno == EINTR);
	if (err <= 0)
		return err < 0 ? -errno : -ETIMEDOUT;
	err = ipc_receive(answer, &message, &fd, 1, &count);
	if (err)
		return err;
	if (count == 1)
		return fd;
	return message.header.id ? -(int)message.header.id : -EACCES;
}

int kit_owned_open(int target, const char *path)
{
	int fd, pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		child(target, path, pair[1]);
	fd = pid < 0 ? -errno : 0;
	close(pair[1]);
	if (pid > 0) {
		fd = receive(pair[0]);
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close(pair[0]);
	return fd;
}
