/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TARGET of `nsgatectl attach`: what was typed, and the descriptor that stands for it. */
#ifndef NSGATE_CTL_TARGET_H
#define NSGATE_CTL_TARGET_H

#include <sys/types.h>

#include "client/container.h"
#include "client/failure.h"

#define TARGET_NETNS_DIR "/run/netns" /* where ip-netns(8) keeps its names */

struct target {
	enum nsgate_target_kind kind;
	char text[NSGATE_TARGET_MAX]; /* as typed; of a container "pid:N (as typed)" */
	char path[NSGATE_TARGET_MAX + sizeof(TARGET_NETNS_DIR)]; /* of the nsfs file; pid: none */
	char name[NSGATE_TARGET_MAX]; /* the default of --name; may not be a valid name */
	pid_t pid;
	enum container_engine engine; /* whose container it is */
	struct container container;
};

/*
 * Parse a TARGET; of a container, look it up. Return: OK; USAGE, or why the container cannot be
 * found, with the reason in `fail`.
 */
enum nsgate_status target_parse(const char *text, struct target *ret, struct failure *fail);

/*
 * Open the network namespace, or a pidfd of the process.
 * @ret_fd: the caller's to close
 * Return: OK; NOT_FOUND, REFUSED, USAGE (not a namespace) or FAILED, with the reason in `fail`.
 */
enum nsgate_status target_open(const struct target *target, int *ret_fd, struct failure *fail);

#endif
