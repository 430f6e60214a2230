/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the broker needs of a network namespace to govern it: sockets that were opened inside. They
 * go on working from anywhere, so nobody has to stay there.
 */
#ifndef NSGATE_NETNS_FDS_H
#define NSGATE_NETNS_FDS_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/enter.h"
#include "nsgate/limits.h"

struct netns_fds {
	int queues[NSGATE_QUEUES_MAX]; /* NETLINK_NETFILTER, one per queue; they go to the agent */
	unsigned int queue_count;
	int rules; /* NETLINK_NETFILTER for nftables; never leaves the broker */
	int aux;   /* NETLINK_NETFILTER for reading counters; goes to the agent */
	int route; /* NETLINK_ROUTE for names of links */
	int proc;  /* /proc/net/netfilter/nfnetlink_queue */

	bool monitored; /* is `monitor` wanted? It is not among what is handed in */
	int monitor;	/* NETLINK_NETFILTER for news of rules (audit.h) */
};

#define NETNS_FDS_NONE                                                                             \
	{                                                                                          \
		.queues = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},        \
		.rules = -1, .aux = -1, .route = -1, .proc = -1, .monitor = -1                     \
	}

/*
 * Have nsgate-enter open, in the namespace behind `target` (a netns fd or a pidfd; -1: a fresh,
 * empty one), what `netns` still lacks (members that are -1; `queue_count` queues).
 * Return: 0 or -errno: -ESRCH the process is gone; -EPERM no right to enter; -EINVAL not a
 * namespace; -EMFILE. On failure what was opened is closed, what was there before is kept.
 */
int netns_fds_open(int target, struct netns_fds *netns);

/* The same, on its way: what an attach asks for can depend on whoever is root inside. */
struct netns_opening {
	struct enter_pending pending;
	struct netns_fds *netns;
	int target;
	void (*done)(struct netns_opening *opening,
		     int err); /* `err` as netns_fds_open() returns it */
	struct enter_result opened;
	struct netns_fds before;
};

/* The place and the target must stay until `done` is called, or netns_fds_forget(). */
void netns_fds_ask(struct netns_opening *opening, int target, struct netns_fds *netns,
		   void (*done)(struct netns_opening *opening, int err));
void netns_fds_forget(struct netns_opening *opening);

void netns_fds_close(struct netns_fds *netns);

/*
 * After a table was deleted: what would wait for the kernel is closed a moment later
 * (deferred_close.h), the rest is for netns_fds_close().
 */
void netns_fds_close_deferred(struct netns_fds *netns);

/*
 * Which namespace does a socket belong to? The cookie (SO_NETNS_COOKIE, never used twice) and the
 * inode of its nsfs file. Return: 0 or -errno.
 */
int netns_fds_identify(int socket_fd, uint64_t *ret_cookie, uint64_t *ret_inode);

/* The namespace of a socket as a descriptor, the caller's to close (SIOCGSKNS). Or -errno. */
int netns_of_socket(int socket_fd);

/*
 * Are these descriptors from a process inside what it says they are: netlink sockets of the right
 * protocols, all of one namespace, and the queue's proc file (-1: not given)?
 * Return: 0 or -EINVAL with the reason in *ret_why (static text).
 */
int netns_fds_check_handed(const int *fds, unsigned int count, const char **ret_why);

#endif
