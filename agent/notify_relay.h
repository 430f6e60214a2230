/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A descriptor that can only notify. Whoever holds a datagram socket can send to every other that
 * it may write to, by name, whatever it is connected to: the host's journal, or abstract sockets.
 * So that socket is in a process of its own, which does nothing but pass on to $NOTIFY_SOCKET what
 * the agent says.
 */
#ifndef NSGATE_NOTIFY_RELAY_H
#define NSGATE_NOTIFY_RELAY_H

#include <sys/types.h>

/*
 * Start it, where there is somebody to notify; before any thread. It runs as `uid` and `gid` and
 * ends with the agent. Return: 0 or -errno.
 */
int notify_relay_open(uid_t uid, gid_t gid);

#endif
