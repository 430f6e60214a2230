/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the clients of api.sock and stats.sock come from. From Linux 6.16 on these sockets are the
 * agent's own. Before, nsgate-front has them, as the kernel cannot keep strangers' descriptors out
 * of a process that could use them (front/main.c).
 */
#ifndef NSGATE_AGENT_FRONT_H
#define NSGATE_AGENT_FRONT_H

#include <stdbool.h>
#include <sys/types.h>

#include "nsgate/front.h"

/*
 * Start it, where it is needed; before any thread. It runs as `uid` and `gid` and ends with the
 * agent. @fds: the listening sockets; those that it has now are replaced by those over which it
 * hands clients over. Return: 0; -ENOENT it is not there; -errno.
 */
int front_open(int fds[NSGATE_FRONT_MAX], uid_t uid, gid_t gid);

/* Is it there? Then an end of a connection says nothing of who is at the other. */
bool front_is_open(void);

/*
 * The next client's connection, from one of these descriptors, non-blocking. Return: it, or -errno:
 * -EAGAIN nobody waits; -ENOTCONN nsgate-front has ended.
 */
int front_accept(int fd, uid_t *ret_uid);

#endif
