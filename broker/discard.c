// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * The broker passes the connection, closes its own copy, and says so: had the other closed it by
 * then, the broker's would be the last. The process that closes has a child for each connection
 * (fd_discard.h).
 */
#include "broker/discard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fd_discard.h"
#include "fdmsg.h"
#include "filter.h"
#include "ipc.h"

static int closer = -1;

/* ---- the process ---- */

static const int allowed[] = {
	SCMP_SYS(recvmsg),
	SCMP_SYS(pipe2),
	SCMP_SYS(clone),
	SCMP_SYS(read),
	SCMP_SYS(close),
	SCMP_SYS(exit_group),
	SCMP_SYS(gettid), /* fork() of libc */
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(munmap), /* of the filter itself */
#ifdef SYS_fork
	SCMP_SYS(fork),
#endif
	SCMP_SYS(set_tid_address),
};

static bool confine(int from)
{
	const struct filter_list list = {allowed, sizeof(allowed) / sizeof(allowed[0]), NULL, 0};
	cap_t none = cap_init();
	const bool done =
		none && cap_set_proc(none) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
		prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_NAME, "nsgate-discard") == 0;

	cap_free(none);
	(void)syscall(SYS_close_range, 0, from - 1, 0);
	(void)syscall(SYS_close_range, from + 1, ~0U, 0);
	return done && filter_allow(&list) == 0;
}

static void discard_pending(int fd)
{
	if (fd_discard(fd) < 0)
		close(fd);
}

static void run(int from) __attribute__((noreturn));

static void run(int from)
{
	struct fdmsg about;
	char byte;
	int fd, pending = -1;

	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN); /* it ends with the broker */
	signal(SIGCHLD, SIG_IGN); /* so that the children are nobody's to wait for */
	if (!confine(from))
		_exit(1);
	/* By the next message, whatever it is, the broker has closed its own. */
	while (fdmsg_receive(from, &byte, 1, &fd, 1, 0, &about) == 0 && about.length) {
		if (pending >= 0)
			discard_pending(pending);
		pending = about.fd_count ? fd : -1;
	}
	_exit(0);
}

/* ---- for the broker ---- */

/* Return: can the kernel keep them out? */
static bool is_needless(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	const bool kept_out = fd >= 0 && ipc_pass_rights(fd, false) == 0;

	fd_close(&fd);
	return kept_out;
}

int discard_open(void)
{
	int err, pair[2];
	pid_t pid;

	if (is_needless())
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		run(pair[1]);
	err = pid < 0 || fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	close(pair[1]);
	if (err)
		close(pair[0]);
	else
		closer = pair[0];
	return err;
}

void discard(int *fd)
{
	if (closer >= 0)
		(void)fdmsg_send(closer, "", 1, fd, 1);
	fd_close(fd);
	if (closer >= 0)
		(void)fdmsg_send(closer, "", 1, NULL, 0);
}
