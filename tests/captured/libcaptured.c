// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Preloaded into nsgate-agent (LD_PRELOAD), this library is an agent that was taken over: its
 * control thread makes whatever system calls a test asks for, confined as it is by then.
 *
 * The test made the file NSGATE_CAPTURED and maps it too. It writes a request and waits for the
 * answer; buffers lie behind the requests, in the same file, at addresses counted from `base`. No
 * call of the library's own is needed once the file is mapped, so neither Landlock nor seccomp
 * stands between the two.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nsgate/proto.h"

#define TURN_MS 5

/* Laid out as in captured.py. */
struct page {
	uint64_t base;	/* where it is mapped in here */
	uint64_t state; /* 1: a request waits; 0: answered */
	int64_t number; /* of the system call */
	int64_t arguments[6];
	int64_t result;
	/* What the agent says of itself when a broker connects. */
	int64_t forge_hooks; /* hooks of the rules in each NS_HELD; 0: the true ones */
	int64_t forge_fd;    /* in place of each NS_HELD's pidfd; 0: the true one */
	int64_t keep;	     /* keep the descriptors of the next NS_HELD */
	int64_t kept;	     /* how many are kept */
	int64_t say_again;   /* say that NS_HELD once more, at the end */
};

static struct page *page;
static int (*next_epoll_wait)(int, struct epoll_event *, int, int);
static ssize_t (*next_sendmsg)(int, const struct msghdr *, int);

__attribute__((constructor)) static void capture(void)
{
	/* What starts it, and what its log goes to, are not it. */
	const bool is_agent = strcmp(program_invocation_short_name, "nsgate-agent") == 0;
	const char *path = is_agent ? getenv("NSGATE_CAPTURED") : NULL;
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	struct stat st;
	void *map;

	next_epoll_wait =
		(int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
	next_sendmsg = (ssize_t(*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return;
	page = map;
	page->base = (uintptr_t)map;
}

static void serve(void)
{
	const int64_t *a = page->arguments;
	long result;

	if (!__atomic_load_n(&page->state, __ATOMIC_ACQUIRE))
		return;
	result = syscall(page->number, a[0], a[1], a[2], a[3], a[4], a[5]);
	page->result = result < 0 ? -(int64_t)errno : result;
	__atomic_store_n(&page->state, 0, __ATOMIC_RELEASE);
}

/* The control thread waits here, and workers in other calls. */
int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	if (page) {
		serve();
		if (timeout < 0 || timeout > TURN_MS)
			timeout = TURN_MS;
	}
	return next_epoll_wait(fd, events, max, timeout);
}

/* ---- what it says to a new broker ---- */

static struct {
	struct nsgate_msg_ns message;
	int fds[NSGATE_NSFD_MAX];
	unsigned int count;
} kept;

static int *fds_of(const struct msghdr *datagram, unsigned int *ret_count)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(datagram);

	if (!cmsg)
		return NULL;
	*ret_count = (unsigned int)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	return (int *)(void *)CMSG_DATA(cmsg);
}

static void forge(struct nsgate_msg_ns *held, const struct msghdr *datagram)
{
	unsigned int count = 0;
	int *fds = fds_of(datagram, &count);

	if (page->keep && fds && !kept.count) {
		kept.message = *held;
		memcpy(kept.fds, fds, count * sizeof(int));
		kept.count = count;
		page->kept = kept.count;
	}
	if (page->forge_hooks)
		held->record.rules.hooks = (uint32_t)page->forge_hooks;
	if (page->forge_fd && held->record.has_watch && fds)
		fds[NSGATE_NSFD_FIXED] = (int)page->forge_fd;
}

/* What is kept is not closed. */
int close(int fd)
{
	for (unsigned int i = 0; i < kept.count; i++)
		if (kept.fds[i] == fd)
			return 0;
	return (int)syscall(SYS_close, fd);
}

static void say_again(int fd)
{
	struct iovec part = {.iov_base = &kept.message, .iov_len = sizeof(kept.message)};
	union {
		char bytes[CMSG_SPACE(NSGATE_NSFD_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {.bytes = ""};
	struct msghdr datagram = {.msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = CMSG_SPACE(kept.count * sizeof(int))};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&datagram);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(kept.count * sizeof(int));
	memcpy(CMSG_DATA(cmsg), kept.fds, kept.count * sizeof(int));
	if (page->forge_hooks)
		kept.message.record.rules.hooks = (uint32_t)page->forge_hooks;
	(void)next_sendmsg(fd, &datagram, MSG_NOSIGNAL);
}

ssize_t sendmsg(int fd, const struct msghdr *datagram, int flags)
{
	struct nsgate_msg_header *header = datagram->msg_iov[0].iov_base;

	if (page && header->magic == NSGATE_PROTO_MAGIC) {
		if (header->type == NSGATE_MSG_NS_HELD)
			forge((struct nsgate_msg_ns *)(void *)header, datagram);
		else if (header->type == NSGATE_MSG_HELD_END && page->say_again && kept.count)
			say_again(fd);
	}
	return next_sendmsg(fd, datagram, flags);
}
