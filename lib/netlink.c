/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Rtnetlink and nfnetlink work on a request inside the sender's own sendmsg(), so when that
 * returns every acknowledgement and error is in the receive queue already. A refused batch may
 * hold no acknowledgement of its last message (a missing privilege is reported once, for the
 * first); therefore after the first error the queue is read only until it is empty.
 */
#include "netlink.h"
#include "loop.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What libmnl calls a good size, but not depending on the page size. */
#define RECEIVE_BYTES 16384

struct nl_state {
	const struct netlink_exchange *exchange;
	int error; /* the first one reported */
	bool done;
};

int netlink_open(int protocol)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

uint32_t netlink_sequence(void)
{
	static atomic_uint next = 1;

	return atomic_fetch_add(&next, 1);
}

int netlink_send(int fd, const void *messages, size_t length)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	ssize_t sent;

	do
		sent = sendto(fd, messages, length, 0, (struct sockaddr *)&kernel, sizeof(kernel));
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == length ? 0 : -EIO;
}

/*
 * Receive one datagram that the kernel sent, waiting until `deadline` (ms).
 * Return: its length or -errno, -ETIMEDOUT where none came.
 */
static ssize_t receive(int fd, void *buffer, size_t size, int64_t deadline)
{
	struct sockaddr_nl sender;
	struct iovec iov = {.iov_base = buffer, .iov_len = size};

	for (;;) {
		struct msghdr msg = {.msg_name = &sender,
				     .msg_namelen = sizeof(sender),
				     .msg_iov = &iov,
				     .msg_iovlen = 1};
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);
		int64_t left;

		if (n >= 0 && sender.nl_pid == 0)
			return (msg.msg_flags & MSG_TRUNC) ? -EMSGSIZE : n;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		left = deadline - loop_now_ms();
		if (left <= 0) /* also where others keep it busy */
			return -ETIMEDOUT;
		if (n >= 0 || errno == EINTR)
			continue;
		if (poll(&pfd, 1, (int)left) < 0 && errno != EINTR)
			return -errno;
	}
}

/* Return: false: it answers something else. */
static bool note_message(struct nl_state *state, const struct nlmsghdr *nlh)
{
	const struct netlink_exchange *exchange = state->exchange;

	if (nlh->nlmsg_seq - exchange->first > exchange->last - exchange->first)
		return false;
	if (nlh->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *report = mnl_nlmsg_get_payload(nlh);

		if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*report))
			return false;
		if (report->error && !state->error)
			state->error = report->error;
		if (nlh->nlmsg_seq == exchange->last)
			state->done = true;
	} else if (nlh->nlmsg_type == NLMSG_DONE) {
		state->done = true;
	} else if (exchange->handler) {
		exchange->handler(nlh, exchange->data);
	}
	return true;
}

int netlink_exchange(int fd, const struct netlink_exchange *exchange)
{
	_Alignas(struct nlmsghdr) char buffer[RECEIVE_BYTES];
	struct nl_state state = {.exchange = exchange};
	int64_t deadline = loop_now_ms() + NL_TIMEOUT_MS;
	int r = netlink_send(fd, exchange->request, exchange->length);

	if (r < 0)
		return r;
	while (!state.done) {
		const struct nlmsghdr *nlh = (const struct nlmsghdr *)buffer;
		ssize_t n = receive(fd, buffer, sizeof(buffer), state.error ? 0 : deadline);
		int left = (int)n;
		bool ours = false;

		if (n < 0)
			return state.error ? state.error : (int)n;
		for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
			ours |= note_message(&state, nlh);
		if (!ours && loop_now_ms() > deadline) /* where it is kept busy by something else */
			return state.error ? state.error : -ETIMEDOUT;
	}
	return state.error;
}

int netlink_request(int fd, struct nlmsghdr *nlh, netlink_handler handler, void *data)
{
	struct netlink_exchange exchange = {
		.request = nlh, .length = nlh->nlmsg_len, .handler = handler, .data = data};

	nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	nlh->nlmsg_seq = netlink_sequence();
	exchange.first = exchange.last = nlh->nlmsg_seq;
	return netlink_exchange(fd, &exchange);
}
