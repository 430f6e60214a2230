// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Entering is safe because of what the descriptor can be and what is done behind it. setns() gets
 * CLONE_NEWNET, so nothing but the network namespace can change, whatever the descriptor is. Inside
 * nothing is called but socket(), connect() to the kernel, and open() of one file below /proc; one
 * message goes to the kernel where that has to load a module first (queue_proc.h). A pidfd cannot
 * come to mean another process.
 *
 * The files of a network namespace below /proc belong to the root of the user namespace that owns
 * it, and some open for nobody else. nsgate-enter does not override file permissions: the child
 * enters that user namespace, where it may. Whoever is root in there can then signal the child, so
 * it does nothing else: it has no descriptor but those that it needs, and it cannot be traced or
 * dumped. It is ended at the deadline like all others.
 *
 * A path may lead anywhere: into a file system that somebody without privileges serves, to a device
 * or a pipe. Only what was found to be a file of a namespace is opened for real, and a path that
 * does not come back holds up nobody but this child.
 */
#include "enter/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "queue_proc.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* asm-generic/socket.h, since Linux 5.14 */
#endif

/* ---- OPEN ---- */

static int enter_netns(int fd)
{
	const int moved = fd < 0 ? unshare(CLONE_NEWNET) : setns(fd, CLONE_NEWNET);

	return moved < 0 ? -errno : 0;
}

/*
 * Connected to the kernel: who has NET_ADMIN in there can neither forge messages nor fill it up.
 * Return: the socket or -errno.
 */
static int open_netlink(int protocol)
{
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	int err, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&kernel, sizeof(kernel)) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* Return: 0 or -errno. */
static int add_netlink(struct ops_result *result, int protocol)
{
	const int fd = open_netlink(protocol);

	if (fd < 0)
		return fd;
	result->fds[result->fd_count++] = fd;
	return 0;
}

static int add_proc(struct ops_result *result)
{
	const int fd = queue_proc_open();

	if (fd == -EACCES) /* it has an owner, who can be asked */
		result->answer.proc_error = fd;
	else if (fd < 0)
		return fd;
	else
		result->fds[result->fd_count++] = fd;
	return 0;
}

static int open_wanted(const struct nsgate_enter_request *request, struct ops_result *result)
{
	static const int protocols[NSGATE_ENTER_WANT_END] = {
		[NSGATE_ENTER_RULES] = NETLINK_NETFILTER,
		[NSGATE_ENTER_AUX] = NETLINK_NETFILTER,
		[NSGATE_ENTER_ROUTE] = NETLINK_ROUTE,
		[NSGATE_ENTER_MONITOR] = NETLINK_NETFILTER,
	};
	int err = 0;

	for (unsigned int i = 0; !err && i < request->queues; i++)
		err = add_netlink(result, NETLINK_NETFILTER);
	for (unsigned int i = 0; !err && i < NSGATE_ENTER_WANT_END; i++) {
		if (!(request->want & 1U << i))
			continue;
		err = i == NSGATE_ENTER_PROC ? add_proc(result) : add_netlink(result, protocols[i]);
	}
	return err;
}

static int identify(struct nsgate_enter_answer *answer)
{
	socklen_t length = sizeof(answer->cookie);
	struct stat st;
	int err = 0, fd = open_netlink(NETLINK_ROUTE);

	if (fd < 0)
		return fd;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &answer->cookie, &length) < 0 ||
	    stat("/proc/thread-self/ns/net", &st) < 0)
		err = -errno;
	else
		answer->inode = st.st_ino;
	close(fd);
	return err;
}

static int op_open(const struct nsgate_enter_request *request, int fd, struct ops_result *result)
{
	int err = request->queues > NSGATE_QUEUES_MAX ? -EINVAL : enter_netns(fd);

	if (!err)
		err = open_wanted(request, result);
	return err ? err : identify(&result->answer);
}

/* ---- OPEN_AS_OWNER ---- */

/* All descriptors but these two, neither of which is -1. */
static int close_others(int a, int b)
{
	const unsigned int low = (unsigned int)(a < b ? a : b),
			   high = (unsigned int)(a < b ? b : a);

	/* By number: musl has no function of that name. */
	if ((low && syscall(SYS_close_range, 0, low - 1, 0) < 0) ||
	    (high > low + 1 && syscall(SYS_close_range, low + 1, high - 1, 0) < 0) ||
	    syscall(SYS_close_range, high + 1, ~0U, 0) < 0)
		return -errno;
	return 0;
}

static int enter_owner(void)
{
	int err = 0, owner, netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (netns < 0)
		return -errno;
	owner = ioctl(netns, NS_GET_USERNS);
	if (owner < 0 || setns(owner, CLONE_NEWUSER) < 0)
		err = -errno;
	if (owner >= 0)
		close(owner);
	close(netns);
	return err;
}

static int op_open_as_owner(const struct nsgate_enter_request *request, int fd,
			    struct ops_result *result)
{
	int err, proc;

	(void)request;
	if (fd < 0)
		return -EINVAL;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	err = close_others(fd, NSGATE_ENTER_FD);
	if (!err)
		err = enter_netns(fd);
	if (!err)
		err = enter_owner();
	if (err)
		return err;
	proc = open(QUEUE_PROC_PATH, O_RDONLY | O_CLOEXEC);
	if (proc < 0)
		return -errno;
	result->fds[result->fd_count++] = proc;
	return 0;
}

/* ---- paths and processes ---- */

static int op_resolve(const struct nsgate_enter_request *request, int fd, struct ops_result *result)
{
	int err = 0, opened, place = open(request->path, O_PATH | O_CLOEXEC);
	struct statfs fs;
	char self[64];

	(void)fd;
	if (place < 0)
		return -errno;
	if (fstatfs(place, &fs) < 0) {
		err = -errno;
	} else if (fs.f_type != NSFS_MAGIC) {
		err = -ENOENT;
	} else {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", place);
		opened = open(self, O_RDONLY | O_CLOEXEC);
		if (opened < 0)
			err = -errno;
		else
			result->fds[result->fd_count++] = opened;
	}
	close(place);
	return err;
}

/* The kernel tells it as "Pid:\t123", in the reader's pid namespace. Return: it or -errno. */
static int pid_of(int pidfd)
{
	static const char key[] = "\nPid:";
	char path[64], text[1024] = "\n";
	const char *found;
	ssize_t length;
	long pid;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	length = read(fd, text + 1, sizeof(text) - 2);
	close(fd);
	if (length < 0)
		return -errno;
	text[1 + length] = '\0';
	found = strstr(text, key);
	if (!found)
		return -EINVAL;
	pid = strtol(found + sizeof(key) - 1, NULL, 10);
	return pid < 0 ? -ESRCH : (int)pid; /* it was waited for */
}

static int op_process(const struct nsgate_enter_request *request, int fd, struct ops_result *result)
{
	int err, pid = fd < 0 ? -EINVAL : pid_of(fd);

	(void)request;
	if (pid < 0)
		return pid;
	result->answer.number = pid;
	err = enter_netns(fd);
	return err ? err : identify(&result->answer);
}

static int op_watch(const struct nsgate_enter_request *request, int fd, struct ops_result *result)
{
	const int watch = inotify_add_watch(fd, request->path, request->mask);

	if (watch < 0)
		return -errno;
	result->answer.number = watch;
	return 0;
}

/* ---- */

typedef int op(const struct nsgate_enter_request *request, int fd, struct ops_result *result);

static op *const ops[NSGATE_ENTER_OP_END] = {
	[NSGATE_ENTER_OPEN] = op_open,	     [NSGATE_ENTER_OPEN_AS_OWNER] = op_open_as_owner,
	[NSGATE_ENTER_RESOLVE] = op_resolve, [NSGATE_ENTER_PROCESS] = op_process,
	[NSGATE_ENTER_WATCH] = op_watch,
};

void ops_serve(const struct nsgate_enter_request *request, int fd, struct ops_result *ret)
{
	int err = -EINVAL;

	ret->answer = (struct nsgate_enter_answer){.id = request->id};
	ret->fd_count = 0;
	if (request->op < NSGATE_ENTER_OP_END && ops[request->op] &&
	    memchr(request->path, '\0', sizeof(request->path)))
		err = ops[request->op](request, fd, ret);
	if (!err)
		return;
	ret->answer = (struct nsgate_enter_answer){.id = request->id, .error = err};
	ret->fd_count = 0;
}
