/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../../broker/rules.h"
#include "netlink.h"

#define PACKET_TRUESIZE 832 /* as in broker/queue_setup.c */

volatile bool peer_stop;

void peer_need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static void on_signal(int number)
{
	(void)number;
	peer_stop = true;
}

uint32_t peer_hooks(char **argv)
{
	return (uint32_t)strtoul(argv[3], NULL, 0);
}

void peer_enter(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	peer_need(fd >= 0 && setns(fd, CLONE_NEWNET) == 0, path);
	close(fd);
}

static struct peer_count *map_count(const char *path)
{
	const int fd = open(path, O_RDWR | O_CLOEXEC);
	void *count;

	peer_need(fd >= 0, path);
	count = mmap(NULL, sizeof(struct peer_count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	peer_need(count != MAP_FAILED, path);
	close(fd);
	return count;
}

void peer_start(struct peer *peer, int argc, char **argv)
{
	const struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART */

	if (argc < 4) {
		fprintf(stderr, "usage: %s NETNS COUNT-FILE HOOKS\n", argv[0]);
		exit(2);
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* nothing outlives a bench that died */
	prctl(PR_SET_TIMERSLACK, 1000);	  /* as the agent's workers do */
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	peer->count = map_count(argv[2]);
}

void peer_ready(void)
{
	puts("ready");
	fflush(stdout);
}

void peer_rules(uint32_t hooks)
{
	const int fd = netlink_open(NETLINK_NETFILTER);
	const struct nsgate_rules_spec spec = {.hooks = hooks, .generation = 1};
	struct rules_features features = {0};
	struct rules_queues queues = {.first = PEER_QUEUE, .count = 1};

	peer_need(fd >= 0, "netlink");
	errno = -rules_probe(fd, &features);
	peer_need(errno == 0 && features.backend != NSGATE_BACKEND_NONE, "probe");
	queues.backend = features.backend;
	errno = -rules_install(fd, &queues, &spec);
	peer_need(errno == 0, "rules");
	/* The socket stays open: a table may end with it. */
}

void peer_buffer(int fd)
{
	const int one = 1, size = PEER_QUEUE_LENGTH * PACKET_TRUESIZE / 2;
	const struct timeval limit = {.tv_sec = 1};

	peer_need(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) == 0, "buffer");
	peer_need(setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &one, sizeof(one)) == 0,
		  "NETLINK_NO_ENOBUFS");
	peer_need(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0, "timeout");
}
