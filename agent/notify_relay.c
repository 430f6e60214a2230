// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/notify_relay.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filter.h"
#include "notify.h"

#define MESSAGE_MAX 4096 /* systemd takes no longer one */

static const int allowed[] = {
	SCMP_SYS(read), /* takes no descriptors along */
	SCMP_SYS(sendto),
	SCMP_SYS(exit_group),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigreturn),
	/* the filter's own */
	SCMP_SYS(munmap),
	SCMP_SYS(close),
};

static void close_between(int first, int last)
{
	if (first <= last)
		(void)syscall(SYS_close_range, first, last, 0);
}

static void close_all_but(int a, int b)
{
	const int low = a < b ? a : b, high = a < b ? b : a;

	close_between(0, low - 1);
	close_between(low + 1, high - 1);
	(void)syscall(SYS_close_range, high + 1, ~0U, 0);
}

static bool become(uid_t uid, gid_t gid)
{
	return geteuid() != 0 || (setgroups(0, NULL) == 0 && setresgid(gid, gid, gid) == 0 &&
				  setresuid(uid, uid, uid) == 0);
}

/* A service manager may have filtered capset(): it then keeps what its filter leaves no use for. */
static bool give_up(cap_t none)
{
	return cap_set_proc(none) == 0 || errno == EPERM;
}

static bool confine(uid_t uid, gid_t gid)
{
	const struct filter_list list = {allowed, sizeof(allowed) / sizeof(allowed[0]), NULL, 0};
	cap_t none = cap_init();
	const bool done = none && become(uid, gid) && give_up(none) &&
			  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
			  prctl(PR_SET_DUMPABLE, 0) == 0 &&
			  prctl(PR_SET_NAME, "nsgate-notify") == 0;

	cap_free(none);
	return done && filter_allow(&list) == 0;
}

static void run(int from, uid_t uid, gid_t gid) __attribute__((noreturn));

static void run(int from, uid_t uid, gid_t gid)
{
	const int to = notify_fd();
	char message[MESSAGE_MAX];
	ssize_t length;

	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN); /* the agent has last words */
	close_all_but(from, to);
	if (!confine(uid, gid))
		_exit(1);
	while ((length = read(from, message, sizeof(message))) > 0)
		(void)!send(to, message, (size_t)length, MSG_NOSIGNAL);
	_exit(0);
}

int notify_relay_open(uid_t uid, gid_t gid)
{
	int err, pair[2];
	pid_t pid;

	if (notify_fd() < 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		run(pair[1], uid, gid);
	err = pid < 0 ? -errno : 0;
	close(pair[1]);
	if (err)
		close(pair[0]);
	else
		notify_replace(pair[0]);
	return err;
}
