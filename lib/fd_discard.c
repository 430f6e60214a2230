// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * To close the last descriptor of a TCP socket can take as long as its sender chose (SO_LINGER).
 * The kernel does not linger for a process that ends (inet_release() in net/ipv4/af_inet.c). So a
 * child is made, which has a copy of every descriptor; when the parent has closed its own of the
 * bad one, and then its end of a pipe, the child ends. One that is held up by FUSE holds up nobody.
 */
#include "fd_discard.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

int fd_discard(int fd)
{
	int gate[2], err = 0;
	char none;
	pid_t pid;

	if (pipe2(gate, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(gate[1]);
		(void)!read(gate[0], &none, 1);
		_exit(0);
	}
	if (pid < 0)
		err = -errno;
	else
		close(fd);
	close(gate[0]);
	close(gate[1]);
	return err;
}
