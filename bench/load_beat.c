/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A steady beat: datagrams out of many namespaces into one, the same number a second out of each,
 * numbered and stamped. Who sends stamps with the clock that the kernel stamps arrivals with, so
 * the time it takes the receiver to read does not count.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "load.h"

#define MEMBERS_MAX 1024
#define BATCH 64
#define ROOM (256 << 20) /* bytes of the receiver's buffer: nothing is lost there */
#define WAIT_NS 3000000000U

struct beat {
	uint32_t member, number;
	uint64_t sent_ns;
};

static struct {
	int fds[MEMBERS_MAX];
	size_t members;
	uint32_t beats;	  /* of each, at most */
	uint8_t *arrived; /* members x beats: how often */
	uint64_t *delays;
	size_t received;
} all;

/* Lines "NETNS ADDRESS". */
static void open_members(const char *path, const char *port)
{
	char name[128], host[64];
	FILE *file = fopen(path, "re");
	const int room = 16 << 20;

	load_need(file != NULL, path);
	while (all.members < MEMBERS_MAX && fscanf(file, "%127s %63s", name, host) == 2) {
		const struct sockaddr_in to = load_address(host, port);
		int fd;

		load_enter(name);
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		load_need(fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0,
			  name);
		/* What waits for a verdict is charged here. */
		load_need(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) == 0,
			  "buffer");
		all.fds[all.members++] = fd;
	}
	fclose(file);
}

static int open_receiver(const char *name, const char *port)
{
	const struct sockaddr_in here = load_address("0.0.0.0", port);
	const int room = ROOM, on = 1;
	int fd;

	load_enter(name);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	load_need(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) == 0 &&
			  setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) == 0 &&
			  bind(fd, (const struct sockaddr *)&here, sizeof(here)) == 0,
		  "receiver");
	return fd;
}

static uint64_t stamp(struct msghdr *message)
{
	const struct cmsghdr *control = CMSG_FIRSTHDR(message);
	struct timespec time;

	load_need(control && control->cmsg_type == SCM_TIMESTAMPNS, "timestamp");
	memcpy(&time, CMSG_DATA(control), sizeof(time));
	return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

static void take(const struct beat *beat, uint64_t arrived_ns)
{
	if (beat->member >= all.members || beat->number >= all.beats)
		return;
	if (all.arrived[beat->member * (size_t)all.beats + beat->number]++)
		return;
	all.delays[all.received++] = arrived_ns > beat->sent_ns ? arrived_ns - beat->sent_ns : 0;
}

static void receive(int fd)
{
	struct beat beats[BATCH];
	struct iovec parts[BATCH];
	char controls[BATCH][CMSG_SPACE(sizeof(struct timespec))];
	struct mmsghdr messages[BATCH];
	int n;

	do {
		for (int i = 0; i < BATCH; i++) {
			parts[i] = (struct iovec){&beats[i], sizeof(beats[i])};
			messages[i].msg_hdr =
				(struct msghdr){.msg_iov = &parts[i],
						.msg_iovlen = 1,
						.msg_control = controls[i],
						.msg_controllen = sizeof(controls[i])};
		}
		n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
		for (int i = 0; i < n; i++)
			if (messages[i].msg_len == sizeof(beats[i]))
				take(&beats[i], stamp(&messages[i].msg_hdr));
	} while (n == BATCH);
}

static uint64_t due(uint64_t start, uint64_t number, uint64_t rate)
{
	return start + number * 1000000000U / rate;
}

static uint32_t send_all(int fd, uint64_t rate, double seconds)
{
	const uint64_t start = load_now_ns(), end = start + (uint64_t)(seconds * 1e9);
	uint32_t number = 0;

	while (number < all.beats && load_now_ns() < end) {
		for (uint32_t i = 0; i < all.members; i++) {
			const struct beat beat = {i, number, clock_ns(CLOCK_REALTIME)};

			load_need(send(all.fds[i], &beat, sizeof(beat), 0) == sizeof(beat), "send");
		}
		number++;
		receive(fd);
		if (due(start, number, rate) > load_now_ns())
			load_sleep_until(due(start, number, rate));
	}
	return number;
}

static void report(uint32_t each, double seconds)
{
	size_t twice = 0;

	for (size_t i = 0; i < all.members * (size_t)all.beats; i++)
		twice += all.arrived[i] > 1;
	printf("{\"sent\": %zu, \"received\": %zu, \"twice\": %zu, \"rate\": %.1f, ",
	       all.members * each, all.received, twice, each / seconds);
	load_print_percentiles(all.delays, all.received);
	printf("}\n");
}

int load_beat(char **argv)
{
	const uint64_t rate = load_number(argv[3], 100000);
	const double seconds = load_seconds(argv[4]);
	uint64_t start, late;
	double took;
	uint32_t each;
	int fd;

	open_members(argv[2], argv[1]);
	all.beats = (uint32_t)((double)rate * seconds);
	all.arrived = calloc(all.members * (size_t)all.beats + 1, sizeof(*all.arrived));
	all.delays = calloc(all.members * (size_t)all.beats + 1, sizeof(*all.delays));
	load_need(all.arrived && all.delays && all.beats > 0 && all.members > 0, "beats");
	fd = open_receiver(argv[0], argv[1]);
	start = load_now_ns();
	each = send_all(fd, rate, seconds);
	took = (double)(load_now_ns() - start) / 1e9;
	late = load_now_ns() + WAIT_NS;
	while (all.received < all.members * each && load_now_ns() < late) {
		load_sleep_until(load_now_ns() + 1000000);
		receive(fd);
	}
	report(each, took);
	return 0;
}
