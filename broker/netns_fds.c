// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/netns_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sockios.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "nsgate/proto.h"
#include "broker/enter.h"
#include "ipc.h"
#include "loop.h"
#include "broker/deferred_close.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* asm-generic/socket.h, since Linux 5.14 */
#endif

/* The places of a netns that are wanted beside queues, in the order of enum nsgate_enter_want. */
static void list_places(struct netns_fds *netns, int *ret_places[NSGATE_ENTER_WANT_END])
{
	ret_places[NSGATE_ENTER_RULES] = &netns->rules;
	ret_places[NSGATE_ENTER_AUX] = &netns->aux;
	ret_places[NSGATE_ENTER_ROUTE] = &netns->route;
	ret_places[NSGATE_ENTER_MONITOR] = netns->monitored ? &netns->monitor : NULL;
	ret_places[NSGATE_ENTER_PROC] = &netns->proc;
}

/* What the netns still lacks. */
static void ask_for_missing(struct netns_fds *netns, struct enter_question *ret)
{
	int *places[NSGATE_ENTER_WANT_END];

	for (unsigned int i = 0; i < netns->queue_count; i++)
		ret->queues += netns->queues[i] < 0;
	list_places(netns, places);
	for (unsigned int i = 0; i < NSGATE_ENTER_WANT_END; i++)
		if (places[i] && *places[i] < 0)
			ret->want |= 1U << i;
}

/* Put what came where it was missing. Return: false: it is not what was asked for. */
static bool take_opened(struct netns_fds *netns, const struct enter_question *question,
			const struct enter_result *result)
{
	const bool no_proc = result->answer.proc_error != 0;
	unsigned int count = question->queues + (unsigned int)__builtin_popcount(question->want);
	int *places[NSGATE_ENTER_WANT_END];
	unsigned int n = 0;

	if (result->fd_count != count - no_proc)
		return false;
	for (unsigned int i = 0; i < netns->queue_count; i++)
		if (netns->queues[i] < 0)
			netns->queues[i] = result->fds[n++];
	list_places(netns, places);
	for (unsigned int i = 0; i < NSGATE_ENTER_WANT_END; i++)
		if (places[i] && question->want & 1U << i && !(i == NSGATE_ENTER_PROC && no_proc))
			*places[i] = result->fds[n++];
	return true;
}

static struct enter_question missing_question(int target, struct netns_fds *netns)
{
	struct enter_question question = {.op = NSGATE_ENTER_OPEN, .fd = target};

	ask_for_missing(netns, &question);
	return question;
}

/* A namespace whose table of queues is shown to its owner alone. */
static struct enter_question as_owner(int target)
{
	return (struct enter_question){.op = NSGATE_ENTER_OPEN_AS_OWNER, .fd = target};
}

/* Return: 0 or -errno; then the netns is as it was before. */
static int take_table(struct netns_fds *netns, const struct netns_fds *before,
		      struct enter_result *opened, int err, const struct enter_result *result)
{
	if (!err && result->fd_count != 1)
		err = -EIO;
	if (!err) {
		netns->proc = result->fds[0];
		return 0;
	}
	*netns = *before;
	fds_close(opened->fds, opened->fd_count);
	return err;
}

int netns_fds_open(int target, struct netns_fds *netns)
{
	const struct enter_question question = missing_question(target, netns),
				    table = as_owner(target);
	const struct netns_fds before = *netns;
	struct enter_result opened, result;
	int err = enter_call(&question, &opened);

	if (err)
		return err;
	if (!take_opened(netns, &question, &opened)) {
		fds_close(opened.fds, opened.fd_count);
		return -EIO;
	}
	if (!opened.answer.proc_error)
		return 0;
	err = enter_call(&table, &result);
	return take_table(netns, &before, &opened, err, &result);
}

static void table_opened(struct enter_pending *pending, int err, struct enter_result *result)
{
	struct netns_opening *opening = loop_owner(pending, struct netns_opening, pending);

	err = take_table(opening->netns, &opening->before, &opening->opened, err, result);
	opening->done(opening, err);
}

static void sockets_opened(struct enter_pending *pending, int err, struct enter_result *result)
{
	struct netns_opening *opening = loop_owner(pending, struct netns_opening, pending);
	const struct enter_question table = as_owner(opening->target);

	if (!err && !take_opened(opening->netns, &pending->question, result)) {
		fds_close(result->fds, result->fd_count);
		err = -EIO;
	}
	opening->opened = *result;
	if (!err && result->answer.proc_error)
		enter_ask(pending, &table, table_opened);
	else
		opening->done(opening, err);
}

void netns_fds_ask(struct netns_opening *opening, int target, struct netns_fds *netns,
		   void (*done)(struct netns_opening *opening, int err))
{
	const struct enter_question question = missing_question(target, netns);

	opening->netns = netns;
	opening->target = target;
	opening->done = done;
	opening->before = *netns;
	enter_ask(&opening->pending, &question, sockets_opened);
}

void netns_fds_forget(struct netns_opening *opening)
{
	enter_forget(&opening->pending);
}

void netns_fds_close(struct netns_fds *netns)
{
	fds_close(netns->queues, NSGATE_QUEUES_MAX);
	fd_close(&netns->rules);
	fd_close(&netns->aux);
	fd_close(&netns->route);
	fd_close(&netns->proc);
	fd_close(&netns->monitor);
}

void netns_fds_close_deferred(struct netns_fds *netns)
{
	for (unsigned int i = 0; i < NSGATE_QUEUES_MAX; i++)
		deferred_close(&netns->queues[i]);
	deferred_close(&netns->aux);
	deferred_close(&netns->rules);
	deferred_close(&netns->monitor);
}

int netns_of_socket(int socket_fd)
{
	int fd = ioctl(socket_fd, SIOCGSKNS);

	if (fd < 0)
		return -errno;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

int netns_fds_identify(int socket_fd, uint64_t *ret_cookie, uint64_t *ret_inode)
{
	socklen_t length = sizeof(*ret_cookie);
	struct stat st;
	uint64_t cookie;
	int netns, err;

	if (getsockopt(socket_fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0)
		return -errno;
	netns = netns_of_socket(socket_fd);
	if (netns < 0)
		return netns;
	err = fstat(netns, &st) < 0 ? -errno : 0;
	close(netns);
	if (err)
		return err;
	*ret_cookie = cookie;
	*ret_inode = st.st_ino;
	return 0;
}

static bool is_netlink(int fd, int protocol)
{
	int domain = -1, found = -1;
	socklen_t length = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_NETLINK)
		return false;
	length = sizeof(found);
	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &found, &length) == 0 && found == protocol;
}

/*
 * A regular file of a proc file system whose name ends as it must. A process that may mount
 * could still fake the name; that is why the broker prefers to open the file itself.
 */
static bool is_proc_queue(int fd)
{
	static const char suffix[] = "/net/netfilter/nfnetlink_queue";
	char link[64], name[256];
	struct statfs fs;
	ssize_t length;

	if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, name, sizeof(name) - 1);
	if (length < (ssize_t)(sizeof(suffix) - 1))
		return false;
	name[length] = '\0';
	return strcmp(name + length - (sizeof(suffix) - 1), suffix) == 0;
}

int netns_fds_check_handed(const int *fds, unsigned int count, const char **ret_why)
{
	static const int protocols[] = {NETLINK_NETFILTER, NETLINK_NETFILTER, NETLINK_NETFILTER,
					NETLINK_ROUTE};
	uint64_t first = 0;

	for (unsigned int i = 0; i < count && i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		uint64_t cookie;
		socklen_t length = sizeof(cookie);

		if (!is_netlink(fds[i], protocols[i])) {
			*ret_why = i == 3 ? "the fourth descriptor is not a NETLINK_ROUTE socket"
					  : "a descriptor is not a NETLINK_NETFILTER socket";
			return -EINVAL;
		}
		if (getsockopt(fds[i], SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0 ||
		    (i && cookie != first)) {
			*ret_why = "the sockets are not all of one network namespace";
			return -EINVAL;
		}
		first = cookie;
	}
	if (count == NSGATE_HANDOFF_FDS && !is_proc_queue(fds[NSGATE_HANDOFF_FDS - 1])) {
		*ret_why = "the last descriptor is not /proc/net/netfilter/nfnetlink_queue";
		return -EINVAL;
	}
	return 0;
}
