/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_FD_DISCARD_H
#define NSGATE_FD_DISCARD_H

/*
 * Close a descriptor that may be a trap, by a child that ends. SIGCHLD is ignored, so that nobody
 * has to wait for it. Return: 0; -errno, and it is open still.
 */
int fd_discard(int fd);

#endif
