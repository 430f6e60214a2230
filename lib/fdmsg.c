// SPDX-License-Identifier: GPL-2.0-or-later
#include "fdmsg.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	char bytes[CMSG_SPACE(FDMSG_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int fdmsg_send(int socket_fd, const void *data, size_t length, const int *fds,
	       unsigned int fd_count)
{
	/* sendmsg() does not write through iov_base; struct iovec just serves readv() as well. */
	struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
	struct msghdr datagram = {.msg_iov = &part, .msg_iovlen = 1};
	union control control;

	if (fd_count > FDMSG_FDS_MAX)
		return -EINVAL;
	if (fd_count) {
		struct cmsghdr *cmsg;

		memset(&control, 0, CMSG_SPACE(fd_count * sizeof(int)));
		datagram.msg_control = control.bytes;
		datagram.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&datagram);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, fd_count * sizeof(int));
	}
	while (sendmsg(socket_fd, &datagram, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* The descriptors of a datagram; those beyond `max` are closed. */
static void take_fds(struct msghdr *datagram, int *ret_fds, unsigned int max,
		     struct fdmsg *ret_about)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(datagram); cmsg;
	     cmsg = CMSG_NXTHDR(datagram, cmsg)) {
		size_t here;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		here = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < here; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (ret_about->fd_count < max) {
				ret_fds[ret_about->fd_count++] = fd;
			} else {
				close(fd);
				ret_about->surplus = true;
			}
		}
	}
}

int fdmsg_receive(int socket_fd, void *ret, size_t size, int *ret_fds, unsigned int fds_max,
		  int flags, struct fdmsg *ret_about)
{
	struct iovec part = {.iov_base = ret, .iov_len = size};
	union control control;
	struct msghdr datagram = {.msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes)};
	ssize_t received;

	do
		received = recvmsg(socket_fd, &datagram, flags | MSG_CMSG_CLOEXEC);
	while (received < 0 && errno == EINTR);
	if (received < 0)
		return -errno;
	*ret_about = (struct fdmsg){.length = (size_t)received};
	take_fds(&datagram, ret_fds, fds_max, ret_about);
	ret_about->cut = datagram.msg_flags & MSG_TRUNC;
	/* There was room for all that one message can have: it is the process that has none. */
	ret_about->fds_lost = datagram.msg_flags & MSG_CTRUNC;
	return 0;
}
