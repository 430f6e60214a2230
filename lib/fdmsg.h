/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams that carry descriptors, over unix sockets: SCM_RIGHTS of unix(7). */
#ifndef NSGATE_FDMSG_H
#define NSGATE_FDMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define FDMSG_FDS_MAX 253 /* SCM_MAX_FD, linux/net/scm.h */

/*
 * Send one datagram with descriptors, which stay the caller's. Return: 0; -EINVAL more than
 * FDMSG_FDS_MAX; -EAGAIN on a full non-blocking socket; -errno.
 */
int fdmsg_send(int socket_fd, const void *data, size_t length, const int *fds,
	       unsigned int fd_count);

struct fdmsg {
	size_t length;	       /* 0: end of file */
	unsigned int fd_count; /* the receiver's to close */
	bool cut;	       /* longer than there was room for */
	bool surplus;	       /* more descriptors than there was room for; those are closed */
	bool fds_lost;	       /* this process could not have all of them: too many are open */
};

/*
 * Receive one datagram of at most `size` bytes, with at most `fds_max` descriptors, which are
 * close-on-exec. `flags`: of recvmsg(2). Return: 0 or -errno (-EAGAIN).
 */
int fdmsg_receive(int socket_fd, void *ret, size_t size, int *ret_fds, unsigned int fds_max,
		  int flags, struct fdmsg *ret_about);

#endif
