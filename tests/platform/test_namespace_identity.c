/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a namespace is known, entered without a race, kept alive, and read from outside.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "platform.h"

static uint64_t cookie(int fd)
{
	uint64_t value = 0;
	socklen_t size = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &value, &size) < 0)
		platform_fail("SO_NETNS_COOKIE");
	return value;
}

static ino_t inode(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		platform_fail("fstat");
	return st.st_ino;
}

static void check_identity(void)
{
	int a = platform_netns_new(), b = platform_netns_new();
	int in_a = platform_netlink(a), again = platform_netlink(a), in_b = platform_netlink(b);
	int found = ioctl(in_a, SIOCGSKNS);

	platform_ok(found >= 0 && inode(found) == inode(a) && inode(found) != inode(b),
		    "SIOCGSKNS tells the namespace of a socket");
	platform_ok(cookie(in_a) == cookie(again) && cookie(in_a) != cookie(in_b) && cookie(in_a),
		    "SO_NETNS_COOKIE is one number per namespace");
	close(found);
	close(in_a);
	close(again);
	close(in_b);
	close(a);
	close(b);
}

static bool gone_in_time(const char *link)
{
	for (int waited = 0; waited < PLATFORM_WAIT_MS; waited += 20) {
		if (platform_run("ip link show %s", link))
			return true;
		nanosleep(&(struct timespec){.tv_nsec = 20 * 1000000}, NULL);
	}
	return false;
}

static void check_pinning(void)
{
	int here = platform_netns_here(), other = platform_netns_new();
	int socket_there = platform_netlink(other);

	platform_link(here, other, "pin", 1);
	close(other);
	nanosleep(&(struct timespec){.tv_nsec = PLATFORM_QUIET_MS * 1000000}, NULL);
	platform_ok(!platform_run("ip link show pin"),
		    "an open netlink socket keeps a namespace without processes");
	close(socket_there);
	platform_ok(gone_in_time("pin"), "its last close lets the namespace go");
	close(here);
}

static void check_proc_file(void)
{
	int here = platform_netns_here(), other = platform_netns_new();
	struct platform_queue queue;
	int file;

	platform_netns_enter(other);
	file = platform_open_queue_stats();
	platform_netns_enter(here);
	platform_ok(platform_queue_column(file, 5, 1) == -1, "a namespace without queue 5");
	platform_queue_open(&queue, other, 5);
	platform_ok(platform_queue_column(file, 5, 1) == 5,
		    "nfnetlink_queue opened in a namespace tells of that one, read anywhere");
	close(queue.fd);
	close(file);
	close(other);
	close(here);
}

/* A process in a namespace of its own, until it is killed. */
static pid_t container(void)
{
	int ready[2];
	char byte;
	pid_t child;

	if (pipe(ready) < 0 || (child = fork()) < 0)
		platform_fail("fork");
	if (child == 0) {
		alarm(PLATFORM_SECONDS);
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		platform_fail("container");
	close(ready[0]);
	return child;
}

static int enter(int pidfd)
{
	return setns(pidfd, CLONE_NEWNET) < 0 ? -errno : 0;
}

static void check_pidfd(void)
{
	int here = platform_netns_here(), there;
	pid_t child = container();
	int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	siginfo_t info;

	platform_ok(pidfd >= 0 && enter(pidfd) == 0, "setns() takes a pidfd");
	there = platform_netns_here();
	platform_ok(inode(there) != inode(here), "and enters the namespace of the process");
	close(there);
	platform_netns_enter(here);

	kill(child, SIGKILL);
	waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOWAIT);
	platform_ok(enter(pidfd) == -ESRCH, "a dead process that nobody waited for: ESRCH");
	waitpid(child, NULL, 0);
	platform_ok(enter(pidfd) == -ESRCH, "a process that is gone: ESRCH");
	close(pidfd);
	close(here);
}

int main(void)
{
	platform_begin();
	check_identity();
	check_pinning();
	check_proc_file();
	check_pidfd();
	return platform_end();
}
