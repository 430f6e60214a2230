/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to the kernel over netlink: send one message or one batch, collect what comes back.
 * Works on blocking and non-blocking sockets alike and never waits longer than NL_TIMEOUT_MS.
 * Messages whose sender is not the kernel are ignored: whoever has CAP_NET_ADMIN in a namespace
 * can write to the sockets that others opened there.
 */
#ifndef NSGATE_NETLINK_H
#define NSGATE_NETLINK_H

#include <stddef.h>
#include <stdint.h>
#include <libmnl/libmnl.h>

#define NL_TIMEOUT_MS 5000

/*
 * Open a netlink socket of `protocol` (NETLINK_*) in the caller's network namespace, CLOEXEC,
 * bound to a port id that the kernel chose.
 * Return: the descriptor or -errno.
 */
int netlink_open(int protocol);

/* Return: a sequence number for the next message; they rise by one from call to call. */
uint32_t netlink_sequence(void);

/* Called for each message of an answer that is neither an acknowledgement nor an error. */
typedef void (*netlink_handler)(const struct nlmsghdr *nlh, void *data);

struct netlink_exchange {
	const void *request;	 /* one message or several, aligned as netlink wants them */
	size_t length;		 /* bytes */
	uint32_t first;		 /* sequence numbers of the request's messages ... */
	uint32_t last;		 /* ... and the one whose ack (NLM_F_ACK) or NLMSG_DONE ends it */
	netlink_handler handler; /* may be NULL */
	void *data;
};

/*
 * Send the request and read until it is acknowledged or refused. Messages that answer something
 * else are thrown away.
 * Return: 0, the first error that the kernel reported, -ETIMEDOUT, or -errno of the socket.
 */
int netlink_exchange(int fd, const struct netlink_exchange *exchange);

/* netlink_exchange() of a single message; sets its sequence number and NLM_F_ACK. */
int netlink_request(int fd, struct nlmsghdr *nlh, netlink_handler handler, void *data);

/* Send messages without waiting for anything. Return: 0 or -errno. */
int netlink_send(int fd, const void *messages, size_t length);

#endif
