/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "clock.h"
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const struct command {
	const char *name, *arguments;
	int count;
	int (*run)(char **argv);
} commands[] = {
	{"udp", "NETNS HOST PORT FLOWS SIZE RATE SECONDS", 7, load_udp},
	{"spread", "PREFIX COUNT PORT SIZE RATE SECONDS BURST", 7, load_spread},
	{"beat", "RECEIVER PORT SENDERS-FILE RATE SECONDS", 5, load_beat},
	{"echo", "NETNS PORT", 2, load_echo},
	{"rtt", "NETNS HOST PORT RATE SECONDS", 5, load_rtt},
	{"wake", "CPU OTHER-CPU TIMES IDLE-US", 4, load_wake},
	{"tcp-sink", "NETNS PORT", 2, load_tcp_sink},
	{"tcp-send", "NETNS HOST PORT SECONDS", 4, load_tcp_send},
	{"tcp-answer", "NETNS PORT", 2, load_tcp_answer},
	{"tcp-connect", "NETNS HOST PORT AT-ONCE SECONDS", 5, load_tcp_connect},
	{"attach", "BROKER-SOCKET PREFIX FIRST COUNT POLICY", 5, load_attach},
	{"ask", "SOCKET TIMES INTERVAL-MS REQUEST-FILE", 4, load_ask},
	{"make", "PREFIX COUNT", 2, load_make},
	{"unmake", "PREFIX COUNT", 2, load_unmake},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

void load_need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t load_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

void load_sleep_until(uint64_t when_ns)
{
	const struct timespec when = {.tv_sec = (time_t)(when_ns / 1000000000U),
				      .tv_nsec = (long)(when_ns % 1000000000U)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}

uint64_t load_number(const char *text, uint64_t max)
{
	char *end;
	const unsigned long long value = strtoull(text, &end, 10);

	errno = EINVAL;
	load_need(*text && !*end && value <= max, text);
	return value;
}

double load_seconds(const char *text)
{
	const double value = strtod(text, NULL);

	errno = EINVAL;
	load_need(value > 0 && value <= LOAD_SECONDS_MAX, text);
	return value;
}

void load_enter(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	load_need(fd >= 0 && setns(fd, CLONE_NEWNET) == 0, path);
	close(fd);
}

struct sockaddr_in load_address(const char *host, const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)load_number(port, UINT16_MAX))};

	errno = EINVAL;
	load_need(inet_pton(AF_INET, host, &address.sin_addr) == 1, host);
	return address;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

void load_print_percentiles(uint64_t *values, size_t count)
{
	static const struct {
		const char *name;
		unsigned int per_mille;
	} points[] = {{"p50", 500}, {"p90", 900}, {"p99", 990}, {"max", 1000}};

	errno = ENODATA;
	load_need(count > 0, "percentiles");
	qsort(values, count, sizeof(*values), compare);
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		const size_t at = (count - 1) * points[i].per_mille / 1000;

		printf("%s\"%s\": %.3f", i ? ", " : "", points[i].name,
		       (double)values[at] / 1000.0);
	}
}

static int usage(void)
{
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(stderr, "load %s %s\n", commands[i].name, commands[i].arguments);
	return 2;
}

int main(int argc, char **argv)
{
	struct rlimit limit;

	if (argc < 2)
		return usage();
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing outlives a bench that died */
	prctl(PR_SET_TIMERSLACK, 1000);
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(argv[1], commands[i].name) == 0 && argc - 2 == commands[i].count)
			return commands[i].run(argv + 2);
	}
	return usage();
}
