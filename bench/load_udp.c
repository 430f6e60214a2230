/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UDP: a stream at a rate or as fast as possible, out of one namespace or out of many. */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define BATCH 32
#define PORTS 8 /* the flows of one destination address; then comes the next address */
#define PAYLOAD_MAX 1400
#define NAMESPACES_MAX 4096

static uint8_t payload[PAYLOAD_MAX];
static struct iovec part = {.iov_base = payload};

static int udp_socket(void)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 64 << 20;

	load_need(fd >= 0, "socket");
	/* Packets that wait in the queue are charged to the sender, which must not block there. */
	load_need(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) == 0, "buffer");
	return fd;
}

static void report(uint64_t sent, uint64_t refused, uint64_t ns)
{
	printf("{\"sent\": %llu, \"refused\": %llu, \"seconds\": %.6f}\n", (unsigned long long)sent,
	       (unsigned long long)refused, (double)ns / 1e9);
}

/* When packet number `sent` is due. */
static uint64_t due(uint64_t start, uint64_t sent, uint64_t rate)
{
	return rate ? start + sent * 1000000000U / rate : 0;
}

int load_udp(char **argv)
{
	const uint64_t flows = load_number(argv[3], 4096), rate = load_number(argv[5], UINT32_MAX);
	const double seconds = load_seconds(argv[6]);
	struct sockaddr_in first, *to = calloc(flows, sizeof(*to));
	struct mmsghdr messages[BATCH] = {0};
	uint64_t start, end, sent = 0, refused = 0, flow = 0;
	/* A paced sender sends what a millisecond's tenth holds, so that it has time to sleep. */
	unsigned int batch = BATCH;
	int fd;

	load_need(to != NULL, "flows");
	first = load_address(argv[1], argv[2]);
	part.iov_len = load_number(argv[4], PAYLOAD_MAX);
	if (rate)
		batch = rate / 10000 < 1       ? 1
			: rate / 10000 > BATCH ? BATCH
					       : (unsigned int)(rate / 10000);
	for (uint64_t i = 0; i < flows; i++) {
		to[i] = first;
		to[i].sin_port = htons((uint16_t)(ntohs(first.sin_port) + i % PORTS));
		to[i].sin_addr.s_addr = htonl(ntohl(first.sin_addr.s_addr) + (uint32_t)(i / PORTS));
	}
	load_enter(argv[0]);
	fd = udp_socket();
	start = load_now_ns();
	end = start + (uint64_t)(seconds * 1e9);
	while (load_now_ns() < end) {
		int n;

		for (unsigned int i = 0; i < batch; i++) {
			messages[i].msg_hdr = (struct msghdr){.msg_name = &to[flow],
							      .msg_namelen = sizeof(*to),
							      .msg_iov = &part,
							      .msg_iovlen = 1};
			flow = flow + 1 == flows ? 0 : flow + 1;
		}
		n = sendmmsg(fd, messages, batch, 0);
		if (n < 0) {
			load_need(errno == EPERM || errno == ENOBUFS || errno == ECONNREFUSED,
				  "send");
			refused++;
			continue;
		}
		sent += (uint64_t)n;
		if (rate && due(start, sent, rate) > load_now_ns())
			load_sleep_until(due(start, sent, rate));
	}
	report(sent, refused, load_now_ns() - start);
	free(to);
	return 0;
}

static int connected_in(const char *prefix, uint64_t i, const struct sockaddr_in *to)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%s%llu", prefix, (unsigned long long)i);
	load_enter(name);
	fd = udp_socket();
	load_need(connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0, name);
	return fd;
}

/* On the loopback of each of COUNT namespaces in turn, BURST packets to each. */
int load_spread(char **argv)
{
	static int fds[NAMESPACES_MAX];
	const uint64_t count = load_number(argv[1], NAMESPACES_MAX);
	const uint64_t rate = load_number(argv[4], UINT32_MAX), burst = load_number(argv[6], BATCH);
	const double seconds = load_seconds(argv[5]);
	const struct sockaddr_in to = load_address("127.0.0.1", argv[2]);
	struct mmsghdr messages[BATCH] = {0};
	uint64_t start, end, sent = 0, refused = 0;

	part.iov_len = load_number(argv[3], PAYLOAD_MAX);
	for (uint64_t i = 0; i < burst; i++)
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
	for (uint64_t i = 0; i < count; i++)
		fds[i] = connected_in(argv[0], i, &to);
	start = load_now_ns();
	end = start + (uint64_t)(seconds * 1e9);
	for (uint64_t i = 0; load_now_ns() < end; i = i + 1 == count ? 0 : i + 1) {
		const int n = sendmmsg(fds[i], messages, (unsigned int)burst, 0);

		if (n > 0)
			sent += (uint64_t)n;
		else
			refused++;
		if (rate && due(start, sent, rate) > load_now_ns())
			load_sleep_until(due(start, sent, rate));
	}
	report(sent, refused, load_now_ns() - start);
	return 0;
}
