/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * The containers of a pod share one network namespace, and the first of them need not be the last.
 * So what was attached for a container (NSGATE_ATTACH_CONTAINER) is not watched by one pidfd but
 * has members: each container with its id, the policy it asked for, and the pidfd of its first
 * process. A member goes when its process ends or when the runtime says so (LEAVE). With the last
 * member of such an attachment its namespace is let go of; one that was attached in another way
 * (by name, by a CNI plugin) has members too, but does not depend on them.
 *
 * Members are the broker's alone: the agent does not know them. They are on disk with the pid of
 * each, and a later broker believes a pid where it is still in that namespace.
 */
#ifndef NSGATE_MEMBERS_H
#define NSGATE_MEMBERS_H

#include <stdbool.h>

#include "broker/attachment.h"

#define MEMBERS_MAX 256 /* of one namespace */

/* What an ATTACH with NSGATE_ATTACH_CONTAINER asks for. */
struct member_request {
	const char *container; /* the label's value */
	const char *policy;
	int pidfd; /* the caller's */
};

/* Read it from a message. Return: false where the label is missing or too long. */
bool members_request(const struct nsgate_msg_attach *message, int pidfd,
		     struct member_request *ret);

/* Is the process in the network namespace of that inode, and alive? */
bool members_is_inside(int pidfd, uint64_t inode);

/*
 * The attachment of the namespace that the process is in; it may be of any state.
 * Return: 0; -ENOENT it is not attached; -ESRCH the process has ended; -errno.
 */
int members_find_attachment(int pidfd, struct attachment **ret);

/* The attachment that has that container; NULL: none. */
struct attachment *members_find(const char *container);

/* The policy that a further member must ask for too. */
const char *members_policy(const struct attachment *attachment);

/*
 * Add a member and put it on record; one that is there stays as it is. The pidfd is dup()ed.
 * Return: 0; -ENOSPC there are MEMBERS_MAX; -ESRCH it has ended; -errno.
 */
int members_add(struct attachment *attachment, const struct member_request *request);

/* Remove a member. Return: does its namespace go with it? Then the member stays until
 * members_free(). */
bool members_remove(struct attachment *attachment, const char *container);

/*
 * The members on record whose processes are still there. Return: 0; -errno where not all are known:
 * then some may be missing, and the record stays as it is.
 */
int members_load(struct attachment *attachment);

/*
 * A pidfd of any process that a record's members still have. Return: the caller's; -ESRCH they have
 * all ended; -errno where that cannot be told.
 */
int members_open_any(const struct nsgate_ns_record *record);

void members_free(struct attachment *attachment);

#endif
