// SPDX-License-Identifier: GPL-2.0-or-later
#include "notify.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "loop.h"

#define STATUS_MAX 128
#define PINGS_PER_TIMEOUT 4

static int socket_fd = -1;
static int watchdog_ms = -1;
static int64_t ping_at_ms;
static char status_sent[STATUS_MAX];

/* $WATCHDOG_PID says whom the time is meant for; without it, everybody. */
static void learn_watchdog(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	unsigned long long value = usec ? strtoull(usec, NULL, 10) / 1000 / PINGS_PER_TIMEOUT : 0;

	if (!value || value > INT_MAX || (pid && strtol(pid, NULL, 10) != (long)getpid()))
		return;
	watchdog_ms = (int)value;
}

static void limit_sending(int fd)
{
	const struct timeval patience = {.tv_sec = 1};

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

void notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = path ? strlen(path) : 0;

	if (!length || length >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, length);
	if (path[0] == '@') /* sd_notify(3): the abstract namespace */
		address.sun_path[0] = '\0';
	socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (socket_fd < 0)
		return;
	if (connect(socket_fd, (struct sockaddr *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0) {
		close(socket_fd);
		socket_fd = -1;
		return;
	}
	limit_sending(socket_fd);
	learn_watchdog();
}

void notify_replace(int fd)
{
	close(socket_fd);
	socket_fd = fd;
	limit_sending(fd);
}

int notify_fd(void)
{
	return socket_fd;
}

void notify_send(const char *state)
{
	if (socket_fd >= 0)
		(void)!send(socket_fd, state, strlen(state), MSG_NOSIGNAL);
}

int notify_send_fd(const char *state, int fd)
{
	struct iovec part = {.iov_base = (void *)(uintptr_t)state, .iov_len = strlen(state)};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr datagram = {.msg_iov = &part, .msg_iovlen = 1};

	if (socket_fd < 0)
		return -ENOTCONN;
	if (fd >= 0) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		datagram.msg_control = control.bytes;
		datagram.msg_controllen = sizeof(control.bytes);
		cmsg = CMSG_FIRSTHDR(&datagram);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	}
	while (sendmsg(socket_fd, &datagram, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

void notify_reload(void (*reload)(void))
{
	char state[64];

	snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		 clock_ns(CLOCK_MONOTONIC) / 1000);
	notify_send(state);
	reload();
	notify_send("READY=1");
}

void notify_status(const char *format, ...)
{
	char state[STATUS_MAX] = "STATUS=";
	va_list args;

	if (socket_fd < 0)
		return;
	va_start(args, format);
	vsnprintf(state + strlen(state), sizeof(state) - strlen(state), format, args);
	va_end(args);
	if (strcmp(state, status_sent) != 0 && notify_send_fd(state, -1) == 0)
		memcpy(status_sent, state, sizeof(state));
}

int notify_watchdog_ms(void)
{
	return watchdog_ms;
}

int notify_watchdog_tick(bool (*alive)(void))
{
	int64_t now = loop_now_ms();

	if (watchdog_ms < 0)
		return -1;
	if (now >= ping_at_ms) {
		if (!alive || alive())
			(void)notify_send_fd("WATCHDOG=1", -1);
		ping_at_ms = now + watchdog_ms;
	}
	return (int)(ping_at_ms - now);
}
