/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * The socket may have to take packets from the moment on that the queue can deliver any, and a
 * packet read here would never get its verdict. A queue just bound is in copy mode NONE and
 * delivers nothing (nfqnl_enqueue_packet() in net/netfilter/nfnetlink_queue.c), so everything
 * that is acknowledged comes before the copy mode, for all numbers of the queue; the copy mode
 * comes last, without acknowledgement. A refusal of the first would be in the receive queue when
 * the send returns, alone.
 */
#include "broker/queue_setup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <sys/socket.h>

#include "netlink.h"
#include "queue_kernel.h"

/* Receive buffer charged for one packet of up to FIRST_COPY_RANGE bytes copied, as measured. */
#define PACKET_TRUESIZE 832
#define FIRST_COPY_RANGE 128

#define MESSAGE_BYTES 256

static struct nlmsghdr *queue_message_begin(void *buffer, uint16_t type, uint16_t number)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *nfg;

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_QUEUE << 8 | type);
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = AF_UNSPEC;
	nfg->version = NFNETLINK_V0;
	nfg->res_id = htons(number);
	return nlh;
}

static struct nlmsghdr *config_begin(void *buffer, uint16_t number)
{
	return queue_message_begin(buffer, NFQNL_MSG_CONFIG, number);
}

static void put_command(struct nlmsghdr *nlh, enum nfqnl_msg_config_cmds command)
{
	struct nfqnl_msg_config_cmd cmd = {.command = (uint8_t)command, .pf = htons(AF_UNSPEC)};

	mnl_attr_put(nlh, NFQA_CFG_CMD, sizeof(cmd), &cmd);
}

/*
 * EPERM means either that the caller has no privilege there or that another socket has the queue.
 * PF_BIND needs the privilege and does nothing else.
 */
static int explain_refusal(int fd, uint16_t number)
{
	_Alignas(struct nlmsghdr) char buffer[MESSAGE_BYTES];
	struct nlmsghdr *nlh = config_begin(buffer, number);

	put_command(nlh, NFQNL_CFG_CMD_PF_BIND);
	return netlink_request(fd, nlh, NULL, NULL) == -EPERM ? -EPERM : -EBUSY;
}

static int bind_queue(int fd, uint16_t number, uint32_t length)
{
	_Alignas(struct nlmsghdr) char buffer[MESSAGE_BYTES];
	struct nlmsghdr *nlh = config_begin(buffer, number);
	int r;

	put_command(nlh, NFQNL_CFG_CMD_BIND);
	mnl_attr_put_u32(nlh, NFQA_CFG_QUEUE_MAXLEN, htonl(length));
	r = netlink_request(fd, nlh, NULL, NULL);
	if (r == -EPERM)
		return explain_refusal(fd, number);
	if (r == -EINVAL) /* nfnetlink: nobody serves that subsystem */
		return -EOPNOTSUPP;
	return r;
}

/* The kernel doubles what is asked, hence the half. A buffer that is larger already stays. */
static void set_receive_buffer(int fd, uint32_t length)
{
	uint64_t wanted = (uint64_t)length * PACKET_TRUESIZE / 2;
	int size = wanted > INT_MAX / 2 ? INT_MAX / 2 : (int)wanted;
	int now = 0;
	socklen_t now_size = sizeof(now);

	if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &now, &now_size) == 0 && now / 2 >= size)
		return;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

/* Return: 0, or the error of a refusal that is the first thing to read on the socket. */
static int read_refusal(int fd)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr report;
	} message;
	ssize_t n = recv(fd, &message, sizeof(message), MSG_PEEK | MSG_DONTWAIT);

	if (n < (ssize_t)sizeof(message) || message.header.nlmsg_type != NLMSG_ERROR)
		return 0;
	(void)recv(fd, &message, sizeof(message), MSG_DONTWAIT);
	return message.report.error;
}

static int start_delivery(int fd, uint16_t number)
{
	_Alignas(struct nlmsghdr) char buffer[MESSAGE_BYTES];
	struct nlmsghdr *nlh = config_begin(buffer, number);
	struct nfqnl_msg_config_params params = {.copy_range = htonl(FIRST_COPY_RANGE),
						 .copy_mode = NFQNL_COPY_PACKET};
	int r;

	mnl_attr_put(nlh, NFQA_CFG_PARAMS, sizeof(params), &params);
	r = netlink_send(fd, nlh, nlh->nlmsg_len);
	return r < 0 ? r : read_refusal(fd);
}

/* What the agent shall answer must not come before there is nothing else to read. */
static int setup_numbers(int fd, uint16_t number, uint16_t stride, unsigned int count,
			 uint32_t length)
{
	int one = 1;
	int r = 0;

	for (unsigned int i = 0; i < count && r == 0; i++)
		r = bind_queue(fd, (uint16_t)(number + i * stride), length);
	if (r < 0)
		return r;
	set_receive_buffer(fd, length);
	if (setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &one, sizeof(one)) < 0)
		return -errno;
	for (unsigned int i = 0; i < count && r == 0; i++)
		r = start_delivery(fd, (uint16_t)(number + i * stride));
	return r;
}

int queue_setup(int fd, uint16_t number, uint16_t stride, uint32_t length)
{
	return setup_numbers(fd, number, stride, NSGATE_FLOW_MAX, length);
}

int queue_setup_one(int fd, uint16_t number, uint32_t length)
{
	return setup_numbers(fd, number, 1, 1, length);
}

/*
 * Ids are compared by their signed difference (nf_cmp_id() in net/netfilter/nfnetlink_queue.c), so
 * one batch verdict reaches half of the numbers; these two reach all.
 */
static const uint32_t every_id[] = {0x7fffffff, 0xffffffff};

static int release_all(int fd, uint16_t number)
{
	for (size_t i = 0; i < sizeof(every_id) / sizeof(every_id[0]); i++) {
		_Alignas(struct nlmsghdr) char buffer[MESSAGE_BYTES];
		struct nlmsghdr *nlh = queue_message_begin(buffer, NFQNL_MSG_VERDICT_BATCH, number);
		struct nfqnl_msg_verdict_hdr verdict = {.verdict = htonl(NF_ACCEPT),
							.id = htonl(every_id[i])};
		int r;

		mnl_attr_put(nlh, NFQA_VERDICT_HDR, sizeof(verdict), &verdict);
		r = netlink_send(fd, nlh, nlh->nlmsg_len);
		if (r < 0)
			return r;
	}
	return 0;
}

int queue_release(int fd, uint16_t number, uint16_t stride, int proc)
{
	struct queue_kernel kernel = {.pending = 0};
	char none;

	if (queue_kernel_read(proc, number, stride, &kernel) < 0)
		kernel.pending = 0;
	for (unsigned int i = 0; i < NSGATE_FLOW_MAX; i++) {
		int r = release_all(fd, (uint16_t)(number + i * stride));

		if (r < 0)
			return r;
	}
	while (recv(fd, &none, 0, MSG_DONTWAIT | MSG_TRUNC) >= 0)
		;
	return (int)kernel.pending;
}

void queue_unbind(int fd, uint16_t number, uint16_t stride)
{
	for (unsigned int i = 0; i < NSGATE_FLOW_MAX; i++) {
		_Alignas(struct nlmsghdr) char buffer[MESSAGE_BYTES];
		struct nlmsghdr *nlh = config_begin(buffer, (uint16_t)(number + i * stride));

		put_command(nlh, NFQNL_CFG_CMD_UNBIND);
		(void)netlink_send(fd, nlh, nlh->nlmsg_len);
	}
}
