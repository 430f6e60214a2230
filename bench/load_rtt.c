/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Round trips of UDP. Requests leave by the clock, whether the earlier ones were answered or not,
 * so a slow answer does not hide those behind it; an answer carries the time its request left.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define WAIT_NS 500000000U /* for the last answers */
/* Buffers of the sockets, bytes: a process that has to wait for a CPU loses nothing. */
#define ROOM (16 << 20)

struct request {
	uint64_t sent_ns;
	uint8_t filler[28];
};

static int udp_socket(void)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = ROOM;

	load_need(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) == 0 &&
			  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) == 0,
		  "socket");
	return fd;
}

int load_echo(char **argv)
{
	const struct sockaddr_in here = load_address("0.0.0.0", argv[1]);
	struct sockaddr_in from;
	uint8_t buffer[2048];
	int fd;

	load_enter(argv[0]);
	fd = udp_socket();
	load_need(bind(fd, (const struct sockaddr *)&here, sizeof(here)) == 0, "bind");
	puts("ready");
	fflush(stdout);
	for (;;) { /* until killed */
		socklen_t size = sizeof(from);
		const ssize_t n =
			recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &size);

		if (n >= 0)
			(void)sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&from, size);
	}
}

static void wait_for_answer(int fd, uint64_t until_ns)
{
	const uint64_t now = load_now_ns();
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	struct timespec left;

	if (now >= until_ns)
		return;
	left.tv_sec = (time_t)((until_ns - now) / 1000000000U);
	left.tv_nsec = (long)((until_ns - now) % 1000000000U);
	ppoll(&ready, 1, &left, NULL);
}

static size_t take_answers(int fd, uint64_t *values, size_t count, size_t max)
{
	struct request answer;

	while (count < max && recv(fd, &answer, sizeof(answer), MSG_DONTWAIT) == sizeof(answer))
		values[count++] = load_now_ns() - answer.sent_ns;
	return count;
}

int load_rtt(char **argv)
{
	const uint64_t rate = load_number(argv[3], 1000000);
	const double seconds = load_seconds(argv[4]);
	const struct sockaddr_in to = load_address(argv[1], argv[2]);
	const size_t max = (size_t)((double)rate * seconds);
	uint64_t *values = calloc(max + 1, sizeof(*values)), start, late;
	struct request request = {0};
	size_t sent = 0, got = 0;
	int fd;

	load_need(values != NULL && rate > 0, "requests");
	load_enter(argv[0]);
	fd = udp_socket();
	load_need(connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0, "connect");
	start = load_now_ns();
	while (sent < max) {
		if (load_now_ns() >= start + sent * 1000000000U / rate) {
			request.sent_ns = load_now_ns();
			(void)send(fd, &request, sizeof(request), 0);
			sent++;
		}
		got = take_answers(fd, values, got, max);
		wait_for_answer(fd, start + sent * 1000000000U / rate);
	}
	late = load_now_ns() + WAIT_NS;
	while (got < sent && load_now_ns() < late) {
		wait_for_answer(fd, late);
		got = take_answers(fd, values, got, max);
	}
	printf("{\"sent\": %zu, \"answered\": %zu, \"seconds\": %.3f, ", sent, got,
	       (double)(load_now_ns() - start) / 1e9);
	load_print_percentiles(values, got);
	printf("}\n");
	free(values);
	return 0;
}
