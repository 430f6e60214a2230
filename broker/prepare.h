/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Everything of an attach that the broker does alone: check, identify, bind, count. */
#ifndef NSGATE_PREPARE_H
#define NSGATE_PREPARE_H

#include "broker/attachment.h"

/* Why an attach cannot be: the status for the exit code, and one line for people. */
struct refusal {
	enum nsgate_status status;
	char text[NSGATE_TEXT_MAX];
};

/*
 * Check what can be checked before anything is opened: texts, and descriptors against the kind of
 * target. Return: 0, or -1 with the refusal.
 */
int prepare_check(const struct nsgate_msg_attach *message, const int *fds, unsigned int fd_count,
		  struct refusal *ret_refusal);

/* Is the name free, or to be taken over? Return: 0, or -1 with the refusal. */
int prepare_check_name(const struct nsgate_msg_attach *message, struct refusal *ret_refusal);

/*
 * Identify and configure what attachment->opening opened (or failed to, `err`): afterwards the
 * queues are bound, the counters exist, links and the container's end are watched, and no rule is
 * installed yet. Return: 0, or -1 with the refusal; the attachment is the caller's to free either
 * way.
 */
int prepare_opened(struct attachment *attachment, int err, struct refusal *ret_refusal);

/*
 * The same for one on record that the agent held before this broker was born. `fds` are those of
 * the agent's NS_HELD; they are taken over. Return: 0 or -errno.
 */
int prepare_adopted(struct attachment *attachment, int *fds, unsigned int fd_count);

/*
 * The same for one on record whose sockets systemd kept, all of them. Return: 0 or -errno.
 */
int prepare_stored(struct attachment *attachment);

/*
 * The same for one that only its record remembers, by what place_ask() found; the target is taken
 * over. Return: 0, or -1 with the refusal; where its status is NOT_FOUND the namespace is gone or
 * cannot be found again.
 */
int prepare_restored(struct attachment *attachment, int target, struct refusal *ret_refusal);

#endif
