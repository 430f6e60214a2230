/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Closing a connection in which a stranger's descriptors may lie. Whoever closes the last one of a
 * TCP socket waits for as long as its options say (SO_LINGER), and for one of FUSE until its server
 * answers. Before Linux 6.16 nobody can keep them out; a process that may do nothing else then
 * closes such connections.
 */
#ifndef NSGATE_DISCARD_H
#define NSGATE_DISCARD_H

/*
 * Start that process, where the kernel is such a one; before privileges are given up. It ends with
 * the caller. Return: 0 or -errno.
 */
int discard_open(void);

/* Have it close this; -1 afterwards. */
void discard(int *fd);

#endif
