// SPDX-License-Identifier: GPL-2.0-or-later
#include "front/confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filter.h"

static const int allowed[] = {
	/* clients */
	SCMP_SYS(accept4),
	SCMP_SYS(accept),
	SCMP_SYS(getsockopt),
	SCMP_SYS(recvmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(shutdown),
	SCMP_SYS(close),
	/* waiting */
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigreturn),
	/* a child that closes (fd_discard.h) */
	SCMP_SYS(pipe2),
	SCMP_SYS(read),
	SCMP_SYS(gettid),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(set_tid_address),
	SCMP_SYS(rt_sigprocmask),
#ifdef SYS_fork
	SCMP_SYS(fork),
#endif
	/* the log, the end, the filter's own */
	SCMP_SYS(write),
	SCMP_SYS(exit_group),
	SCMP_SYS(munmap),
};

#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)

static const struct filter_narrowed narrowed[] = {
	{SCMP_SYS(clone), 0, NEW_NAMESPACES, 0},
	/* Nothing that sends to a name. */
	{SCMP_SYS(socketpair), 1, 0, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK},
	{SCMP_SYS(setsockopt), 2, 0, SO_OOBINLINE},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int become(uid_t uid, gid_t gid)
{
	if (geteuid() != 0)
		return 0;
	return setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
			       setresuid(uid, uid, uid) < 0
		       ? -errno
		       : 0;
}

/* The change of user took them, or executing this program did. */
static int has_no_capability(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	return data[0].permitted || data[1].permitted ? -EPERM : 0;
}

int confine_front(uid_t uid, gid_t gid)
{
	const struct filter_list list = {allowed, COUNT(allowed), narrowed, COUNT(narrowed)};
	int err = become(uid, gid);

	if (!err)
		err = has_no_capability();
	if (err)
		return err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	return filter_allow(&list);
}
