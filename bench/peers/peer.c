/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
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

#include "broker/nft/expr.h"
#include "broker/nft/rules.h"
#include "netlink.h"
#include "nsgate/hook.h"

#define CHAIN_PRIORITY 10   /* as in broker/nft/set.h */
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

/* What any such program needs, with the connection tracking that nsgate's rules switch on. */
static void add_rules(struct nft_batch *batch, uint32_t hook, enum nsgate_backend backend)
{
	const struct nft_queue_range range = {.backend = backend, .first = PEER_QUEUE, .count = 1};
	const char *chain = nsgate_hook_names[hook];

	nft_add_base_chain(batch, chain, "filter", hook, CHAIN_PRIORITY);
	nft_rule_begin(batch, chain);
	nft_match_ct(batch, NFT_CT_STATE, NF_CT_STATE_INVALID_BIT, NFT_CMP_NEQ, 0);
	nft_verdict(batch, NF_DROP);
	nft_rule_end(batch);
	nft_rule_begin(batch, chain);
	nft_queue(batch, &range);
	nft_rule_end(batch);
}

void peer_rules(uint32_t hooks)
{
	const int fd = netlink_open(NETLINK_NETFILTER);
	struct rules_features features = {0};
	struct nft_batch batch;

	peer_need(fd >= 0, "netlink");
	errno = -rules_probe(fd, &features);
	peer_need(errno == 0 && features.backend != NSGATE_BACKEND_NONE, "probe");
	nft_batch_begin(&batch, "bench");
	nft_add_table(&batch, 0);
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++)
		if (hooks & NSGATE_HOOK_BIT(hook))
			add_rules(&batch, hook, features.backend);
	errno = -nft_batch_commit(&batch, fd);
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
