/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which queue expression this kernel has, and how it takes the configuration of a queue. */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdio.h>
#include <unistd.h>

#include "broker/nft/rules.h"
#include "netlink.h"
#include "nsgate/hook.h"
#include "platform.h"

#define PORT 6300
#define RANGE_COLUMN 5
#define COPY_MAX 65531
#define NO_SUCH_FLAG (1U << 20)

struct config {
	_Alignas(struct nlmsghdr) char buffer[256];
	struct nlmsghdr *nlh;
};

static void begin(struct config *config)
{
	struct nfgenmsg *nfg;

	config->nlh = mnl_nlmsg_put_header(config->buffer);
	config->nlh->nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG;
	nfg = mnl_nlmsg_put_extra_header(config->nlh, sizeof(*nfg));
	nfg->version = NFNETLINK_V0;
}

static void put_range(struct config *config, uint32_t range)
{
	struct nfqnl_msg_config_params params = {.copy_range = htonl(range),
						 .copy_mode = NFQNL_COPY_PACKET};

	mnl_attr_put(config->nlh, NFQA_CFG_PARAMS, sizeof(params), &params);
}

static void put_flags(struct config *config, uint32_t flags)
{
	mnl_attr_put_u32(config->nlh, NFQA_CFG_FLAGS, htonl(flags));
	mnl_attr_put_u32(config->nlh, NFQA_CFG_MASK, htonl(flags));
}

static int send_config(const struct platform_queue *queue, struct config *config)
{
	return netlink_request(queue->fd, config->nlh, NULL, NULL);
}

static void check_backend(int fd)
{
	struct rules_features features;

	platform_ok(rules_probe(fd, &features) == 0, "the probe runs");
	platform_ok(features.backend != NSGATE_BACKEND_NONE, "nftables can queue, by %s",
		    features.backend == NSGATE_BACKEND_NFT_QUEUE
			    ? "its own expression"
			    : "the xt target NFQUEUE revision 3");
	platform_ok(platform_run("nft list ruleset | grep ."), "the probe leaves nothing behind");
	printf("# owned persistent tables: %s, labels: %s, fib: %s\n",
	       features.owned_tables ? "yes" : "no", features.label ? "yes" : "no",
	       features.fib ? "yes" : "no");
}

static void check_whole_message(const struct platform_queue *queue, int proc)
{
	struct config config;
	int refusal;

	begin(&config);
	put_range(&config, 300);
	platform_ok(send_config(queue, &config) == 0 &&
			    platform_queue_column(proc, 0, RANGE_COLUMN) == 300,
		    "a copy range is taken");
	begin(&config);
	put_range(&config, 400);
	put_flags(&config, NO_SUCH_FLAG | NFQA_CFG_F_GSO);
	refusal = send_config(queue, &config);
	/* EINVAL on Linux 7.3, EOPNOTSUPP before. */
	platform_ok((refusal == -EOPNOTSUPP || refusal == -EINVAL) &&
			    platform_queue_column(proc, 0, RANGE_COLUMN) == 300,
		    "a flag that the kernel lacks has the whole message refused");
	begin(&config);
	put_range(&config, 0x10000);
	platform_ok(send_config(queue, &config) == 0 &&
			    platform_queue_column(proc, 0, RANGE_COLUMN) == COPY_MAX,
		    "a copy range is cut to %d", COPY_MAX);
}

/* Does a packet tell its owner, as NFQA_CFG_F_UID_GID asks for? */
static bool tells_owner(const struct platform_queue *queue, int sender)
{
	struct platform_packet packet;

	if (send(sender, "x", 1, 0) != 1 || platform_receive(queue, &packet, PLATFORM_WAIT_MS) != 1)
		platform_fail("no packet");
	platform_verdict(queue, &packet, NF_DROP, NULL);
	return packet.has_uid;
}

static void check_flags(const struct platform_queue *queue, int sender)
{
	struct config config;

	begin(&config);
	put_flags(&config, NFQA_CFG_F_UID_GID);
	put_flags(&config, NFQA_CFG_F_GSO);
	platform_ok(send_config(queue, &config) == 0 && !tells_owner(queue, sender),
		    "of two pairs of flags and mask the second counts");
	begin(&config);
	put_flags(&config, NFQA_CFG_F_UID_GID | NFQA_CFG_F_GSO);
	platform_ok(send_config(queue, &config) == 0 && tells_owner(queue, sender),
		    "one pair with both flags sets both");
}

static void check_stolen(const struct platform_queue *queue, int sender)
{
	struct platform_packet packet, refusal;

	if (send(sender, "x", 1, 0) != 1 || platform_receive(queue, &packet, PLATFORM_WAIT_MS) != 1)
		platform_fail("no packet");
	platform_verdict(queue, &packet, NF_STOLEN, NULL);
	platform_ok(platform_receive(queue, &refusal, PLATFORM_WAIT_MS) == -EINVAL,
		    "NF_STOLEN is no verdict");
	platform_verdict(queue, &packet, NF_DROP, NULL);
}

int main(void)
{
	struct platform_queue queue;
	int rules, proc, receiver, sender;

	platform_begin();
	rules = platform_netlink(-1);
	proc = platform_open_queue_stats();
	check_backend(rules);
	platform_queue_open(&queue, -1, 0);
	check_whole_message(&queue, proc);
	if (platform_rules(rules, NSGATE_HOOK_BIT(NSGATE_HOOK_OUT), 0, 1) < 0)
		platform_fail("rules_install");
	receiver = platform_bound(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	sender = platform_connect(-1, AF_INET, SOCK_DGRAM, NULL, PORT);
	check_flags(&queue, sender);
	check_stolen(&queue, sender);
	close(receiver);
	return platform_end();
}
