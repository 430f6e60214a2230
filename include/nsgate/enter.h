/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What nsgate-broker asks of nsgate-enter, the one process that may enter network namespaces: one
 * request is one datagram with at most one descriptor, one answer is one datagram with what was
 * opened. Answers come in any order and are told by `id`; an answer may come twice where a child
 * was late, so one that nobody waits for is to be thrown away with its descriptors. Both are of the
 * same build, so a message of another length is refused.
 */
#ifndef NSGATE_ENTER_H
#define NSGATE_ENTER_H

#include <assert.h>
#include <stdint.h>

#include "nsgate/limits.h"

#define NSGATE_ENTER_FD 3 /* the descriptor that nsgate-enter is started with */
/*
 * What takes longer is ended. What is opened by a descriptor depends on nobody but the kernel,
 * which may have a module to load first, on a machine as slow as it likes; what is found by a path,
 * or opened as a namespace's owner, depends on others.
 */
#define NSGATE_ENTER_KERNEL_MS 30000
#define NSGATE_ENTER_OTHERS_MS 2000
#define NSGATE_ENTER_PATH_MAX 4096 /* with the NUL, as PATH_MAX */

enum nsgate_enter_op {
	/*
	 * Open `want` in the namespace of the descriptor (a file of a network namespace or a pidfd;
	 * without one: in a fresh, empty one), and tell its cookie and inode.
	 */
	NSGATE_ENTER_OPEN = 1,
	/* Open the queues' table there as the root of the user namespace that owns it. */
	NSGATE_ENTER_OPEN_AS_OWNER,
	/* Open the file of a namespace that `path` leads to; -ENOENT where it is another file. */
	NSGATE_ENTER_RESOLVE,
	/* Tell the pid of a pidfd (0: of another pid namespace) and its network namespace's inode.
	 */
	NSGATE_ENTER_PROCESS,
	/* Have the inotify descriptor watch the directory `path` for `mask`; tell the watch. */
	NSGATE_ENTER_WATCH,
	NSGATE_ENTER_OP_END
};

static inline int nsgate_enter_deadline_ms(uint32_t op)
{
	return op == NSGATE_ENTER_OPEN || op == NSGATE_ENTER_PROCESS ? NSGATE_ENTER_KERNEL_MS
								     : NSGATE_ENTER_OTHERS_MS;
}

/* What OPEN is to open, in the order in which the descriptors come; queues are first of all. */
enum nsgate_enter_want {
	NSGATE_ENTER_RULES,   /* NETLINK_NETFILTER */
	NSGATE_ENTER_AUX,     /* NETLINK_NETFILTER */
	NSGATE_ENTER_ROUTE,   /* NETLINK_ROUTE */
	NSGATE_ENTER_MONITOR, /* NETLINK_NETFILTER */
	NSGATE_ENTER_PROC,    /* the table of queues; missing where `proc_error` says why */
	NSGATE_ENTER_WANT_END
};

#define NSGATE_ENTER_FDS_MAX (NSGATE_QUEUES_MAX + NSGATE_ENTER_WANT_END)

struct nsgate_enter_request {
	uint32_t id;
	uint32_t op; /* enum nsgate_enter_op */
	uint32_t queues;
	uint32_t want; /* 1 << enum nsgate_enter_want */
	uint32_t mask; /* inotify(7) */
	char path[NSGATE_ENTER_PATH_MAX];
};
static_assert(sizeof(struct nsgate_enter_request) == 20 + NSGATE_ENTER_PATH_MAX, "a message");

struct nsgate_enter_answer {
	uint32_t id;
	int32_t error;	    /* 0 or -errno; then nothing comes along */
	int32_t proc_error; /* 0 or -errno: -EACCES is a case for OPEN_AS_OWNER */
	int32_t number;	    /* a pid, a watch */
	uint64_t cookie;    /* SO_NETNS_COOKIE */
	uint64_t inode;	    /* of the namespace's nsfs file */
};
static_assert(sizeof(struct nsgate_enter_answer) == 32, "a message");

#endif
