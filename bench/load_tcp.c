/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP: one connection that carries as much as it can, or as many connections as there can be. */
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define CHUNK (256 * 1024)
#define AT_ONCE_MAX 256
#define BACKLOG 1024

static int listen_in(char **argv)
{
	const struct sockaddr_in here = load_address("0.0.0.0", argv[1]);
	const int one = 1;
	int fd;

	load_enter(argv[0]);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	load_need(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
			  bind(fd, (const struct sockaddr *)&here, sizeof(here)) == 0 &&
			  listen(fd, BACKLOG) == 0,
		  "listen");
	puts("ready");
	fflush(stdout);
	return fd;
}

/* After each connection prints how many bytes it carried. Until killed. */
int load_tcp_sink(char **argv)
{
	const int listener = listen_in(argv);
	char *buffer = malloc(CHUNK);

	load_need(buffer != NULL, "buffer");
	for (;;) {
		const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		uint64_t bytes = 0;
		ssize_t n;

		if (fd < 0)
			continue;
		while ((n = recv(fd, buffer, CHUNK, 0)) > 0)
			bytes += (uint64_t)n;
		close(fd);
		printf("{\"received\": %llu}\n", (unsigned long long)bytes);
		fflush(stdout);
	}
}

int load_tcp_send(char **argv)
{
	const struct sockaddr_in to = load_address(argv[1], argv[2]);
	const double seconds = load_seconds(argv[3]);
	const struct timeval limit = {.tv_sec = 10};
	char *buffer = calloc(1, CHUNK), ignored;
	uint64_t start, end, bytes = 0;
	int fd;

	load_need(buffer != NULL, "buffer");
	load_enter(argv[0]);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	load_need(fd >= 0, "socket");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	load_need(connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0, "connect");
	start = load_now_ns();
	end = start + (uint64_t)(seconds * 1e9);
	while (load_now_ns() < end) {
		const ssize_t n = send(fd, buffer, CHUNK, MSG_NOSIGNAL);

		load_need(n > 0, "send");
		bytes += (uint64_t)n;
	}
	/* The sink closes once it has read everything. */
	shutdown(fd, SHUT_WR);
	load_need(recv(fd, &ignored, 1, 0) == 0, "close");
	printf("{\"sent\": %llu, \"seconds\": %.6f}\n", (unsigned long long)bytes,
	       (double)(load_now_ns() - start) / 1e9);
	free(buffer);
	return 0;
}

/* Greets every connection with one byte and closes it. Until killed. */
int load_tcp_answer(char **argv)
{
	const int listener = listen_in(argv);

	for (;;) {
		const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		(void)send(fd, "x", 1, MSG_NOSIGNAL);
		close(fd);
	}
}

static int connect_start(int epoll, const struct sockaddr_in *to)
{
	const struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT here: ports would run out */
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	load_need(fd >= 0, "socket");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	load_need(connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0 ||
			  errno == EINPROGRESS,
		  "connect");
	load_need(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll");
	return fd;
}

/* Keeps AT-ONCE connections on their way; one is done when its byte has come. */
int load_tcp_connect(char **argv)
{
	const struct sockaddr_in to = load_address(argv[1], argv[2]);
	const uint64_t at_once = load_number(argv[3], AT_ONCE_MAX);
	const double seconds = load_seconds(argv[4]);
	struct epoll_event events[AT_ONCE_MAX];
	uint64_t start, end, done = 0, failed = 0;
	int epoll;

	load_enter(argv[0]);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	load_need(epoll >= 0, "epoll");
	for (uint64_t i = 0; i < at_once; i++)
		connect_start(epoll, &to);
	start = load_now_ns();
	end = start + (uint64_t)(seconds * 1e9);
	while (load_now_ns() < end) {
		const int count = epoll_wait(epoll, events, AT_ONCE_MAX, 1000);

		for (int i = 0; i < count; i++) {
			char byte;
			const ssize_t n = recv(events[i].data.fd, &byte, 1, MSG_DONTWAIT);

			if (n < 0 && errno == EAGAIN)
				continue;
			done += n == 1;
			failed += n != 1;
			close(events[i].data.fd);
			connect_start(epoll, &to);
		}
	}
	printf("{\"done\": %llu, \"failed\": %llu, \"seconds\": %.6f}\n", (unsigned long long)done,
	       (unsigned long long)failed, (double)(load_now_ns() - start) / 1e9);
	return 0;
}
