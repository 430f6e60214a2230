/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control plane: attach, ask the API and the statistics, make and remove namespaces. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc.h"
#include "load.h"

#define COUNT_MAX 4096
#define TIMEOUT_MS 10000
#define REQUEST_MAX (2 << 20)
#define ANSWER_MAX (64 << 20)

/* ---- attach ---- */

static int dial(const char *path)
{
	struct nsgate_msg_hello hello = {.pid = (uint32_t)getpid()};
	union nsgate_msg answer;
	unsigned int none;
	const int fd = ipc_connect(path, SOCK_SEQPACKET);

	errno = fd < 0 ? -fd : 0;
	load_need(fd >= 0, path);
	ipc_header(&hello.header, NSGATE_MSG_HELLO, 0);
	errno = -ipc_send(fd, &hello.header, NULL, 0);
	load_need(errno == 0, "hello");
	errno = -ipc_receive(fd, &answer, NULL, 0, &none);
	load_need(errno == 0 && answer.header.type == NSGATE_MSG_HELLO, "hello");
	return fd;
}

/* Attach one namespace. Return: from the request to the broker's word that rules are in force. */
static uint64_t attach(int broker, const char *name, const char *policy)
{
	struct nsgate_msg_attach message = {.target_kind = NSGATE_TARGET_NETNS};
	union nsgate_msg answer;
	char path[256];
	uint64_t start;
	int fd;

	ipc_header(&message.header, NSGATE_MSG_ATTACH, 1);
	message.queue_count = 1;
	snprintf(message.name, sizeof(message.name), "%s", name);
	snprintf(message.policy, sizeof(message.policy), "%s", policy);
	snprintf(message.target, sizeof(message.target), "netns:%s", name);
	snprintf(path, sizeof(path), "/run/netns/%s", name);
	start = load_now_ns();
	fd = open(path, O_RDONLY | O_CLOEXEC);
	load_need(fd >= 0, path);
	errno = -ipc_ask(broker, &message.header, &fd, 1, &answer, TIMEOUT_MS);
	load_need(errno == 0, "attach");
	if (answer.header.type != NSGATE_MSG_REPLY || answer.reply.status != NSGATE_STATUS_OK) {
		fprintf(stderr, "attach %s: %s\n", name, answer.reply.text);
		exit(1);
	}
	close(fd);
	return load_now_ns() - start;
}

int load_attach(char **argv)
{
	const uint64_t first = load_number(argv[2], COUNT_MAX);
	const uint64_t count = load_number(argv[3], COUNT_MAX);
	static uint64_t values[COUNT_MAX];
	const int broker = dial(argv[0]);
	char name[64];

	for (uint64_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s%llu", argv[1], (unsigned long long)first + i);
		values[i] = attach(broker, name, argv[4]);
	}
	printf("{\"attached\": %llu, ", (unsigned long long)count);
	load_print_percentiles(values, count);
	printf("}\n");
	return 0;
}

/* ---- requests ---- */

static char *read_file(const char *path, size_t *ret_length)
{
	char *text = malloc(REQUEST_MAX);
	FILE *file = fopen(path, "re");

	load_need(text && file, path);
	*ret_length = fread(text, 1, REQUEST_MAX, file);
	load_need(!ferror(file) && *ret_length < REQUEST_MAX, path);
	fclose(file);
	return text;
}

/* Send everything, read to the end. Return: bytes read. */
static size_t exchange(const char *path, const char *request, size_t length, char *answer)
{
	const int fd = ipc_connect(path, SOCK_STREAM);
	size_t got = 0;
	ssize_t n;

	errno = fd < 0 ? -fd : 0;
	load_need(fd >= 0, path);
	while (length > 0) {
		n = send(fd, request, length, MSG_NOSIGNAL);
		load_need(n > 0, "send");
		request += n;
		length -= (size_t)n;
	}
	while ((n = recv(fd, answer + got, ANSWER_MAX - got - 1, 0)) > 0)
		got += (size_t)n;
	load_need(n == 0, "recv");
	answer[got] = '\0';
	close(fd);
	return got;
}

/* The request must have the server close ("Connection: close"). Empty file: send nothing. */
int load_ask(char **argv)
{
	static uint64_t values[COUNT_MAX];
	const uint64_t times = load_number(argv[1], COUNT_MAX);
	const uint64_t interval_ns = load_number(argv[2], 10000) * 1000000;
	size_t length, got = 0;
	char *request = read_file(argv[3], &length), *answer = malloc(ANSWER_MAX);

	load_need(answer != NULL, "answer");
	memset(answer, 0, ANSWER_MAX); /* no page faults while the clock runs */
	for (uint64_t i = 0; i < times; i++) {
		const uint64_t start = load_now_ns();

		got = exchange(argv[0], request, length, answer);
		values[i] = load_now_ns() - start;
		if (length && strncmp(answer, "HTTP/1.1 2", 10) != 0) {
			fprintf(stderr, "load: refused: %.400s\n", answer);
			return 1;
		}
		if (interval_ns)
			load_sleep_until(start + interval_ns);
	}
	printf("{\"times\": %llu, \"bytes\": %zu, ", (unsigned long long)times, got);
	load_print_percentiles(values, times);
	printf("}\n");
	free(answer);
	free(request);
	return 0;
}

/* ---- namespaces ---- */

static void name_path(char path[256], const char *prefix, uint64_t i)
{
	snprintf(path, 256, "/run/netns/%s%llu", prefix, (unsigned long long)i);
}

static void loopback_up(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	load_need(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &lo) == 0, "loopback");
	close(fd);
}

static void write_setting(const char *path, const char *value)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return; /* a kernel without it */
	load_need(write(fd, value, strlen(value)) > 0, path);
	close(fd);
}

/* Namespaces as `ip netns add` makes them, with the loopback up and without IPv6's own talk. */
int load_make(char **argv)
{
	const uint64_t count = load_number(argv[1], COUNT_MAX);
	char path[256];

	mkdir("/run/netns", 0755);
	for (uint64_t i = 0; i < count; i++) {
		int fd;

		name_path(path, argv[0], i);
		fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
		load_need(fd >= 0, path);
		close(fd);
		load_need(unshare(CLONE_NEWNET) == 0, "unshare");
		write_setting("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
		write_setting("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
		write_setting("/proc/sys/net/ipv4/ip_local_port_range", "10000 65000");
		loopback_up();
		load_need(mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) == 0,
			  path);
	}
	return 0;
}

int load_unmake(char **argv)
{
	const uint64_t count = load_number(argv[1], COUNT_MAX);
	char path[256];

	for (uint64_t i = 0; i < count; i++) {
		name_path(path, argv[0], i);
		umount2(path, MNT_DETACH);
		unlink(path);
	}
	return 0;
}
