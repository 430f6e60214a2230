/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is asked of systemd's fd store, and what of its answer at a start is believed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/fdstore.h"
#include "loop.h"
#include "notify.h"

#define MANY 200 /* datagrams: more than an unread socket takes */

static int manager = -1; /* systemd's end */

/* In the abstract namespace, by a name of the kernel's. */
static int open_manager(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t length = sizeof(address);
	char name[32];

	(void)state;
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_return_code(manager, errno);
	assert_return_code(bind(manager, (struct sockaddr *)&address, sizeof(sa_family_t)), errno);
	assert_return_code(getsockname(manager, (struct sockaddr *)&address, &length), errno);
	snprintf(name, sizeof(name), "@%.*s",
		 (int)(length - offsetof(struct sockaddr_un, sun_path) - 1), address.sun_path + 1);
	assert_return_code(setenv("NOTIFY_SOCKET", name, 1), errno);
	assert_int_equal(loop_open(), 0);
	notify_open();
	return 0;
}

static int close_manager(void **state)
{
	(void)state;
	fdstore_close();
	loop_close();
	close(manager);
	return 0;
}

/* Read one datagram; the descriptor that came with it is closed. Return: was there one? */
static bool read_one(char text[128], bool *ret_with_fd)
{
	struct iovec part = {.iov_base = text, .iov_len = 127};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr datagram = {.msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes)};
	ssize_t length = recvmsg(manager, &datagram, MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg;

	if (length < 0)
		return false;
	text[length] = '\0';
	cmsg = CMSG_FIRSTHDR(&datagram);
	*ret_with_fd = cmsg != NULL;
	if (cmsg) {
		int fd;

		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
		close(fd);
	}
	return true;
}

static void expect(const char *wanted, bool with_fd)
{
	char text[128];
	bool found;

	while (!read_one(text, &found))
		assert_int_equal(loop_step(1000), 0);
	assert_string_equal(text, wanted);
	assert_int_equal(found, with_fd);
}

static void expect_silence(void)
{
	char text[128];
	bool found;

	assert_int_equal(loop_step(0), 0);
	assert_false(read_one(text, &found));
}

static struct attachment made(uint64_t cookie, unsigned int queues, int fd)
{
	static const struct netns_fds none = NETNS_FDS_NONE;
	struct attachment attachment = {.record = {.cookie = cookie}, .netns = none, .watch = -1};

	attachment.netns.rules = fd;
	attachment.netns.queue_count = queues;
	for (unsigned int i = 0; i < queues; i++)
		attachment.netns.queues[i] = fd;
	return attachment;
}

static void test_each_has_a_name(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct attachment attachment = made(0x1a2b, 2, fd);

	(void)state;
	attachment.watch = fd;
	fdstore_keep(&attachment);
	fdstore_keep(&attachment); /* is stored: nothing is said again */
	expect("FDSTORE=1\nFDPOLL=0\nFDNAME=1a2b.r", true);
	expect("FDSTORE=1\nFDPOLL=0\nFDNAME=1a2b.w", true);
	expect("FDSTORE=1\nFDPOLL=0\nFDNAME=1a2b.q0", true);
	expect("FDSTORE=1\nFDPOLL=0\nFDNAME=1a2b.q1", true);
	fdstore_drop(&attachment);
	fdstore_drop(&attachment);
	expect("FDSTOREREMOVE=1\nFDNAME=1a2b.r", false);
	expect("FDSTOREREMOVE=1\nFDNAME=1a2b.w", false);
	expect("FDSTOREREMOVE=1\nFDNAME=1a2b.q0", false);
	expect("FDSTOREREMOVE=1\nFDNAME=1a2b.q1", false);
	expect_silence();
	close(fd);
}

/* The descriptors may be closed meanwhile; what is said keeps its order. */
static void test_full_socket_delays_and_loses_nothing(void **state)
{
	char text[64];

	(void)state;
	for (unsigned int i = 0; i < MANY; i++) {
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		struct attachment attachment = made(i, 1, fd);

		fdstore_keep(&attachment);
		if (i % 2)
			fdstore_drop(&attachment);
		close(fd);
	}
	for (unsigned int i = 0; i < MANY; i++) {
		snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%x.r", i);
		expect(text, true);
		snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%x.q0", i);
		expect(text, true);
		if (i % 2) {
			snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%x.r", i);
			expect(text, false);
			snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%x.q0", i);
			expect(text, false);
		}
	}
	expect_silence();
	for (unsigned int i = 0; i < MANY; i += 2) { /* as the next test counts names */
		struct attachment attachment = made(i, 1, -1);

		attachment.stored = FDSTORE_RULES | FDSTORE_QUEUE;
		fdstore_drop(&attachment);
		snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%x.r", i);
		expect(text, false);
		snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%x.q0", i);
		expect(text, false);
	}
}

/* What the broker is started with next must not become too long to start it with. */
static void test_names_fit_into_the_environment(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const uint64_t large = UINT64_MAX / 2; /* a cookie of sixteen digits */
	size_t length = strlen("LISTEN_FDNAMES=");
	struct attachment attachment, last = made(0, 0, -1);
	char text[128];
	bool with_fd;
	uint64_t n;

	(void)state;
	for (n = 0;; n++) {
		attachment = made(large + n, NSGATE_QUEUES_MAX, fd);
		fdstore_keep(&attachment);
		if (!attachment.stored)
			break;
		last = attachment;
		while (read_one(text, &with_fd)) {
			length += strlen(strstr(text, "FDNAME=") + strlen("FDNAME=")) + 1;
			assert_int_equal(loop_step(0), 0);
		}
	}
	assert_in_range(length, 100 * 1024, 128 * 1024 - 1); /* MAX_ARG_STRLEN */
	fdstore_drop(&last);
	fdstore_keep(&attachment);
	assert_true(attachment.stored); /* there is room again */
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_has_a_name),
		cmocka_unit_test(test_full_socket_delays_and_loses_nothing),
		cmocka_unit_test(test_names_fit_into_the_environment),
	};

	return cmocka_run_group_tests(tests, open_manager, close_manager);
}
