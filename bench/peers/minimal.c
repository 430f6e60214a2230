/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floor: what any user of the queue must at least do. Metadata only, many packets per receive,
 * one verdict for all of them, a pause after a short batch so that batches form. It judges
 * nothing, counts packets and no more, and its pause does not ask what it costs in delay.
 *
 * With a COUNT as the fourth argument, NETNS is what the names of so many namespaces begin with,
 * and the loop is around an epoll of all their queues.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "broker/queue_setup.h"
#include "netlink.h"
#include "peer.h"

#define BATCH 64
#define READY 256
#define SLOT 512 /* metadata takes 100 to 200 bytes */
#define SHORT_BATCH 24
#define PAUSE_NS 50000

struct verdict {
	struct nlmsghdr header;
	struct nfgenmsg generic;
	struct nlattr attr;
	struct nfqnl_msg_verdict_hdr decided;
};

static struct mmsghdr messages[BATCH];
static struct iovec slots[BATCH];
static char slab[BATCH][SLOT] __attribute__((aligned(64)));

static struct nlmsghdr *begin(char *buffer, uint16_t type)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *generic;

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_QUEUE << 8 | type);
	nlh->nlmsg_flags = NLM_F_REQUEST;
	generic = mnl_nlmsg_put_extra_header(nlh, sizeof(*generic));
	generic->version = NFNETLINK_V0;
	generic->res_id = htons(PEER_QUEUE);
	return nlh;
}

static void configure(int fd)
{
	const struct nfqnl_msg_config_params params = {.copy_mode = NFQNL_COPY_META};
	char buffer[256] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = begin(buffer, NFQNL_MSG_CONFIG);

	mnl_attr_put(nlh, NFQA_CFG_PARAMS, sizeof(params), &params);
	mnl_attr_put_u32(nlh, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_GSO));
	mnl_attr_put_u32(nlh, NFQA_CFG_MASK, htonl(NFQA_CFG_F_GSO));
	peer_need(send(fd, nlh, nlh->nlmsg_len, 0) >= 0, "configure");
}

/* The id is in the first attribute. */
static bool packet_id(const char *message, size_t length, uint32_t *ret_id)
{
	const size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)) + NLA_HDRLEN;
	struct nlmsghdr header;

	memcpy(&header, message, sizeof(header));
	if (length < at + sizeof(*ret_id) ||
	    header.nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
		return false;
	memcpy(ret_id, message + at, sizeof(*ret_id));
	*ret_id = ntohl(*ret_id);
	return true;
}

static void accept_up_to(int fd, uint32_t id)
{
	const struct verdict verdict = {
		.header = {.nlmsg_len = sizeof(verdict),
			   .nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT_BATCH,
			   .nlmsg_flags = NLM_F_REQUEST},
		.generic = {.version = NFNETLINK_V0, .res_id = htons(PEER_QUEUE)},
		.attr = {.nla_len = NLA_HDRLEN + sizeof(verdict.decided),
			 .nla_type = NFQA_VERDICT_HDR},
		.decided = {.verdict = htonl(NF_ACCEPT), .id = htonl(id)},
	};

	peer_need(send(fd, &verdict, sizeof(verdict), 0) >= 0, "verdict");
}

/* Return: packets received and accepted. */
static unsigned int serve(struct peer *peer, int fd, int flags)
{
	unsigned int packets = 0;
	uint32_t id;
	const int count = recvmmsg(fd, messages, BATCH, flags, NULL);

	if (count < 0) {
		peer_need(errno == EAGAIN || errno == EINTR, "recvmmsg");
		return 0;
	}
	for (int i = 0; i < count; i++)
		packets += packet_id(slab[i], messages[i].msg_len, &id);
	if (packets == 0)
		return 0;
	peer_accepted(peer, packets);
	accept_up_to(fd, id);
	return packets;
}

static void rest(void)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

static int open_queue(const char *name, uint32_t hooks)
{
	int fd;

	peer_enter(name);
	fd = netlink_open(NETLINK_NETFILTER);
	peer_need(fd >= 0, "netlink");
	errno = -queue_setup_one(fd, PEER_QUEUE, PEER_QUEUE_LENGTH);
	peer_need(errno == 0, "queue");
	configure(fd);
	peer_buffer(fd);
	peer_rules(hooks);
	return fd;
}

static void serve_one(struct peer *peer, char **argv)
{
	const int fd = open_queue(argv[1], peer_hooks(argv));

	peer_ready();
	while (!peer_stop) {
		const unsigned int packets = serve(peer, fd, MSG_WAITFORONE);

		if (packets > 0 && packets < SHORT_BATCH)
			rest();
	}
}

static void serve_many(struct peer *peer, char **argv, unsigned long count)
{
	const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ready[READY];

	peer_need(epoll_fd >= 0, "epoll");
	for (unsigned long i = 0; i < count; i++) {
		struct epoll_event event = {.events = EPOLLIN};
		char name[64];

		snprintf(name, sizeof(name), "%s%lu", argv[1], i);
		event.data.fd = open_queue(name, peer_hooks(argv));
		peer_need(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event.data.fd, &event) == 0, "epoll");
	}
	peer_ready();
	while (!peer_stop) {
		const int n = epoll_wait(epoll_fd, ready, READY, -1);
		unsigned int packets = 0;

		for (int i = 0; i < n; i++)
			packets += serve(peer, ready[i].data.fd, MSG_DONTWAIT);
		if (n > 0 && packets < SHORT_BATCH * (unsigned int)n)
			rest();
	}
}

int main(int argc, char **argv)
{
	struct peer peer;

	peer_start(&peer, argc, argv);
	for (int i = 0; i < BATCH; i++) {
		slots[i] = (struct iovec){.iov_base = slab[i], .iov_len = SLOT};
		messages[i].msg_hdr.msg_iov = &slots[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	if (argc > 4)
		serve_many(&peer, argv, strtoul(argv[4], NULL, 10));
	else
		serve_one(&peer, argv);
	return 0;
}
