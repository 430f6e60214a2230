// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "caps.h"
#include "filter.h"
#include "ipc.h"
#include "landlock.h"

int confine_network(void)
{
	return unshare(CLONE_NEWNET) < 0 ? -errno : 0;
}

static const int allowed[] = {
	/* clients, the agent, the kernel in namespaces */
	SCMP_SYS(recvmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(accept4),
	SCMP_SYS(connect),
	SCMP_SYS(shutdown),
	SCMP_SYS(bind),
	SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	/* waiting */
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(restart_syscall),
	/* files: Landlock says which */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(openat),
	SCMP_SYS(close),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(fstatfs),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fallocate),
	SCMP_SYS(lseek),
	SCMP_SYS(getdents64),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(inotify_rm_watch),
	SCMP_SYS(pidfd_open),
	/* memory, itself */
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(futex),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getrandom),
	SCMP_SYS(uname),
	SCMP_SYS(sysinfo),
	/* the agent's supervisor, at the end */
	SCMP_SYS(wait4),
#ifndef __GLIBC__
/* musl: the oldest system calls that an architecture has */
#ifdef SYS_open
	SCMP_SYS(open),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(rename),
#endif
	SCMP_SYS(statfs),
#endif
};

static const struct filter_narrowed narrowed[] = {
	{SCMP_SYS(socket), 0, 0, AF_UNIX},
	/* Which namespace is it? */
	{SCMP_SYS(ioctl), 1, 0, SIOCGSKNS},
	{SCMP_SYS(ioctl), 1, 0, NS_GET_NSTYPE},
	{SCMP_SYS(ioctl), 1, 0, SIOCGIFNAME}, /* on a socket of that namespace */
	{SCMP_SYS(fcntl), 1, 0, F_GETFL},
	{SCMP_SYS(fcntl), 1, 0, F_SETFL},
	{SCMP_SYS(fcntl), 1, 0, F_GETFD},
	{SCMP_SYS(fcntl), 1, 0, F_SETFD},
	{SCMP_SYS(fcntl), 1, 0, F_DUPFD_CLOEXEC},
	/* Nothing that was written becomes code. */
	{SCMP_SYS(mmap), 2, PROT_EXEC, 0},
	{SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
	/* Reading limits. */
	{SCMP_SYS(prlimit64), 2, 0, 0},
};

static int keep_directory(const char *runtime_dir)
{
	int dir = open(runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int err = dir < 0 ? -errno : landlock_keep(&dir, 1);

	fd_close(&dir);
	return err < 0 ? err : 0;
}

int confine_broker(const char *runtime_dir)
{
	static const struct filter_list list = {allowed, sizeof(allowed) / sizeof(allowed[0]),
						narrowed, sizeof(narrowed) / sizeof(narrowed[0])};
	int err;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	caps_bound();
	err = caps_keep_net_admin(); /* netlink sockets inside ask for it whenever they are used */
	if (!err)
		err = keep_directory(runtime_dir);
	return err ? err : filter_allow(&list);
}
