/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the targets behind ipc_receive() have in common: descriptors to send along, messages that
 * are right but for what the input changes, and counting what is open.
 */
#ifndef NSGATE_FUZZ_MESSAGES_H
#define NSGATE_FUZZ_MESSAGES_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "ipc.h"
#include "nsgate/proto.h"
#include "nsgate/shm.h"

/* ---- descriptors ---- */

enum donor {
	DONOR_NETNS,
	DONOR_NETFILTER, /* a NETLINK_NETFILTER socket */
	DONOR_ROUTE,	 /* a NETLINK_ROUTE socket */
	DONOR_PROC, /* /proc/net/netfilter/nfnetlink_queue, or where that is not, a text like it */
	DONOR_SHM,  /* counters of one queue */
	DONOR_SHM_TWO,
	DONOR_ALIVE, /* pidfd of a process that lives */
	DONOR_ENDED, /* pidfd of one that has ended */
	DONOR_NULL,
	DONOR_PIPE, /* the reading end; nothing ever comes */
	DONOR_DIRECTORY,
	DONOR_EVENT, /* readable for ever */
	DONOR_MAX
};

static int donors[DONOR_MAX];

/* A file of memory with `text` in it, or of so many zeroes. */
static inline int memory_file(const char *text, size_t size)
{
	const int fd = memfd_create("fuzz", MFD_CLOEXEC);

	MUST(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	MUST(!text || pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
	return fd;
}

/* Counters as the broker hands them over. */
static inline void lay_out(int file, unsigned int queues)
{
	struct shm_layout layout;

	shm_lay_out(&layout);
	for (unsigned int i = 0; i < queues; i++)
		MUST(pwrite(file, &layout, sizeof(layout), (off_t)(i * layout.size)) ==
		     sizeof(layout));
}

static inline int open_ended(void)
{
	const pid_t pid = fork();
	int fd;

	if (pid == 0)
		_exit(0);
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	MUST(pid > 0 && fd >= 0 && waitpid(pid, NULL, 0) == pid);
	return fd;
}

static inline void donors_open(void)
{
	int ends[2];

	MUST(pipe2(ends, O_CLOEXEC) == 0);
	donors[DONOR_NETNS] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	donors[DONOR_NETFILTER] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	donors[DONOR_ROUTE] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	donors[DONOR_PROC] = open("/proc/net/netfilter/nfnetlink_queue", O_RDONLY | O_CLOEXEC);
	if (donors[DONOR_PROC] < 0)
		donors[DONOR_PROC] =
			memory_file("    0      1     0 2 65531     0     0        7  1\n", 0);
	donors[DONOR_SHM] = memory_file(NULL, SHM_BLOCK_SIZE);
	lay_out(donors[DONOR_SHM], 1);
	donors[DONOR_SHM_TWO] = memory_file(NULL, 2 * SHM_BLOCK_SIZE);
	lay_out(donors[DONOR_SHM_TWO], 2);
	donors[DONOR_ALIVE] = (int)syscall(SYS_pidfd_open, getpid(), 0);
	donors[DONOR_ENDED] = open_ended();
	donors[DONOR_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
	donors[DONOR_PIPE] = ends[0];
	donors[DONOR_DIRECTORY] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	donors[DONOR_EVENT] = eventfd(1, EFD_CLOEXEC);
	for (int i = 0; i < DONOR_MAX; i++)
		MUST(donors[i] >= 0);
}

static inline unsigned int count_open(void)
{
	static DIR *open_files;
	unsigned int count = 0;

	if (!open_files)
		open_files = opendir("/proc/self/fd");
	MUST(open_files);
	rewinddir(open_files);
	while (readdir(open_files))
		count++;
	return count;
}

/* ---- messages ---- */

/*
 * Let the input change the body of a message that is right: at most four stretches of bytes. Each
 * is two bytes of place and one of length, the bytes, and ends the changes where the length is 0.
 */
static inline void change_body(struct input *input, union nsgate_msg *message)
{
	uint8_t *bytes = (uint8_t *)message;

	for (int i = 0; i < 4; i++) {
		size_t at = input_take(input, 2) % sizeof(*message);
		size_t length = input_take(input, 1) % 32;

		if (length == 0)
			return;
		for (; length > 0 && at < sizeof(*message); length--, at++)
			bytes[at] = (uint8_t)input_take(input, 1);
	}
}

/*
 * Send a message, with descriptors that the input may choose: 0 those that fit (`fitting`), else
 * one less than that number, each named by a byte. Return: whether it was sent.
 */
static inline bool send_message(struct input *input, int fd, const union nsgate_msg *message,
				const enum donor *fitting, unsigned int fitting_count)
{
	unsigned int count = input_take(input, 1) % (NSGATE_NSFD_MAX + 2);
	int fds[NSGATE_NSFD_MAX + 1];

	if (message->header.length > sizeof(*message))
		return false;
	if (count > 0) {
		count--;
		for (unsigned int i = 0; i < count; i++)
			fds[i] = donors[input_take(input, 1) % DONOR_MAX];
	} else {
		count = fitting_count;
		for (unsigned int i = 0; i < count; i++)
			fds[i] = donors[fitting[i]];
	}
	return ipc_send(fd, &message->header, fds, count) == 0;
}

/* An answer has a status that we give, and a line for people. */
static inline void check_reply(const struct nsgate_msg_reply *reply)
{
	MUST(reply->status <= NSGATE_STATUS_BUSY);
	MUST(ipc_text_valid(reply->text, sizeof(reply->text)));
}

#endif
