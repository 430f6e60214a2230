// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * The child is made by clone(CLONE_VM | CLONE_FILES | CLONE_VFORK): it shares memory and the table
 * of descriptors, so what it opens is simply there when it has exited, and the parent sleeps
 * until then. A network namespace is a property of the task, hence only the child moves. It calls
 * nothing but setns/unshare, socket and open, and sends one message to the kernel where that has to
 * load a module first, so it cannot hang on anything the container made.
 */
#include "kit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sockios.h>
#include <linux/netlink.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nsgate/proto.h"
#include "ipc.h"
#include "kit_owned.h"
#include "parting.h"
#include "queue_proc.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* asm-generic/socket.h, since Linux 5.14 */
#endif

#define CHILD_STACK_BYTES (64 * 1024)

struct entry {
	int target;
	struct kit *kit;
	int error; /* errno of the child's failure, 0: none */
};

/* Connected to the kernel: who has NET_ADMIN in there can neither forge messages nor fill it up. */
static bool open_netlink(int *fd, int protocol)
{
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	if (*fd < 0)
		*fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	return *fd >= 0 && connect(*fd, (const struct sockaddr *)&kernel, sizeof(kernel)) == 0;
}

static bool open_all(struct kit *kit)
{
	for (unsigned int i = 0; i < kit->queue_count; i++)
		if (!open_netlink(&kit->queues[i], NETLINK_NETFILTER))
			return false;
	if (!open_netlink(&kit->rules, NETLINK_NETFILTER) ||
	    !open_netlink(&kit->aux, NETLINK_NETFILTER) ||
	    !open_netlink(&kit->route, NETLINK_ROUTE))
		return false;
	if (kit->monitored && !open_netlink(&kit->monitor, NETLINK_NETFILTER))
		return false;
	if (kit->proc < 0) {
		int proc = queue_proc_open();

		if (proc == -EACCES) /* kit_open() then asks its owner */
			return true;
		if (proc < 0) {
			errno = -proc;
			return false;
		}
		kit->proc = proc;
	}
	return true;
}

static int child(void *arg)
{
	struct entry *entry = arg;
	int moved = entry->target >= 0 ? setns(entry->target, CLONE_NEWNET) : unshare(CLONE_NEWNET);

	if (moved < 0 || !open_all(entry->kit))
		entry->error = errno;
	return 0;
}

/* Close in `kit` what was not in `before`. */
static void undo(struct kit *kit, const struct kit *before)
{
	struct kit opened = *kit;

	for (unsigned int i = 0; i < kit->queue_count; i++)
		if (before->queues[i] >= 0)
			opened.queues[i] = -1;
	if (before->rules >= 0)
		opened.rules = -1;
	if (before->aux >= 0)
		opened.aux = -1;
	if (before->route >= 0)
		opened.route = -1;
	if (before->proc >= 0)
		opened.proc = -1;
	if (before->monitor >= 0)
		opened.monitor = -1;
	kit_close(&opened);
	*kit = *before;
}

int kit_open(int target, struct kit *kit)
{
	static char stack[CHILD_STACK_BYTES] __attribute__((aligned(64)));
	struct entry entry = {.target = target, .kit = kit};
	const struct kit before = *kit;
	int status;
	pid_t pid;

	pid = clone(child, stack + sizeof(stack), CLONE_VM | CLONE_FILES | CLONE_VFORK | SIGCHLD,
		    &entry);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (!entry.error && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
		entry.error = EIO; /* the child was killed */
	if (!entry.error && kit->proc < 0) {
		int proc = kit_owned_open(target, QUEUE_PROC_PATH);

		if (proc < 0)
			entry.error = -proc;
		else
			kit->proc = proc;
	}
	if (entry.error) {
		undo(kit, &before);
		return -entry.error;
	}
	return 0;
}

void kit_close(struct kit *kit)
{
	fds_close(kit->queues, NSGATE_QUEUES_MAX);
	fd_close(&kit->rules);
	fd_close(&kit->aux);
	fd_close(&kit->route);
	fd_close(&kit->proc);
	fd_close(&kit->monitor);
}

void kit_part(struct kit *kit)
{
	for (unsigned int i = 0; i < NSGATE_QUEUES_MAX; i++)
		parting_close(&kit->queues[i]);
	parting_close(&kit->aux);
	parting_close(&kit->rules);
	parting_close(&kit->monitor);
	kit_close(kit);
}

int kit_socket_netns(int socket_fd)
{
	int fd = ioctl(socket_fd, SIOCGSKNS);

	if (fd < 0)
		return -errno;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

int kit_identify(int socket_fd, uint64_t *ret_cookie, uint64_t *ret_inode)
{
	socklen_t length = sizeof(*ret_cookie);
	struct stat st;
	uint64_t cookie;
	int netns, err;

	if (getsockopt(socket_fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0)
		return -errno;
	netns = kit_socket_netns(socket_fd);
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

int kit_check_handed(const int *fds, unsigned int count, const char **ret_why)
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
