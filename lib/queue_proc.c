// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * On the kernels of distributions nfnetlink_queue is a module. The table of queues below /proc is
 * made when it is loaded, and nothing but a message to the subsystem has it loaded
 * (nfnetlink_rcv_msg() in net/netfilter/nfnetlink.c, which waits until modprobe has ended). So
 * where the table is missing, such a message is sent, and the table is looked for again. PF_BIND
 * has no effect (nfqnl_recv_config() in net/netfilter/nfnetlink_queue.c); the message asks for
 * CAP_NET_ADMIN over the namespace, and for no right to load modules.
 */
#include "queue_proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

/* The answer is not waited for: whether the table is there now says all. */
static int have_module_loaded(void)
{
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	const struct {
		struct nlmsghdr header;
		struct nfgenmsg family;
		struct nlattr attribute;
		struct nfqnl_msg_config_cmd command;
	} message = {
		.header = {.nlmsg_len = sizeof(message),
			   .nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG,
			   .nlmsg_flags = NLM_F_REQUEST},
		.family = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0},
		.attribute = {.nla_len = sizeof(message.attribute) + sizeof(message.command),
			      .nla_type = NFQA_CFG_CMD},
		.command = {.command = NFQNL_CFG_CMD_PF_BIND, .pf = htons(AF_UNSPEC)},
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (sendto(fd, &message, sizeof(message), 0, (const struct sockaddr *)&kernel,
		   sizeof(kernel)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int open_table(void)
{
	int fd = open(QUEUE_PROC_PATH, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fd;
}

int queue_proc_open(void)
{
	int fd = open_table();
	int err;

	if (fd != -ENOENT)
		return fd;
	err = have_module_loaded();
	return err ? err : open_table();
}
