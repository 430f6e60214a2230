// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "caps.h"
#include "filter.h"
#include "landlock.h"

/* ThreadSanitizer's runtime opens files and makes system calls of its own (make tsan-check). */
#ifdef NSGATE_UNCONFINED
#ifndef __SANITIZE_THREAD__
#error "NSGATE_UNCONFINED is for builds by gcc with -fsanitize=thread, and for no others"
#endif
#define UNCONFINED true
#else
#define UNCONFINED false
#endif

int confine_network(void)
{
	return unshare(CLONE_NEWNET) < 0 ? -errno : 0;
}

bool confine_may_judge(void)
{
	cap_t caps = cap_get_proc();
	cap_flag_value_t has = CAP_CLEAR;

	if (caps)
		cap_get_flag(caps, CAP_NET_ADMIN, CAP_EFFECTIVE, &has);
	cap_free(caps);
	return has == CAP_SET;
}

static int become(uid_t uid, gid_t gid)
{
	caps_bound();
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -errno;
	return 0;
}

int confine_user(uid_t uid, gid_t gid)
{
	/* Started as that user: the bounding set is not ours to change and, without exec, no harm.
	 */
	int err = geteuid() == 0 ? become(uid, gid) : 0;

	if (err)
		return err;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	/* Verdicts are refused to a sender without it over the namespace's owner. */
	err = caps_keep_net_admin();
	if (err)
		return err;
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* Nobody who becomes this uid may trace it. */
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int confine_files(int policy_dir_fd, int good_dir_fd)
{
	const int dirs[] = {policy_dir_fd, good_dir_fd};

	return UNCONFINED ? 0 : landlock_keep(dirs, sizeof(dirs) / sizeof(dirs[0]));
}

/* stderr is a file of the operator's choice, and grows for as long as the agent runs. */
static bool logs_to_file(void)
{
	struct stat st;

	return fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode);
}

int confine_file_size(uint64_t bytes)
{
	const struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};

	if (logs_to_file())
		return 0;
	signal(SIGXFSZ, SIG_IGN); /* an error like others */
	return setrlimit(RLIMIT_FSIZE, &limit) < 0 ? -errno : 0;
}

static const int allowed[] = {
	/* packets and clients */
	SCMP_SYS(recvmmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(accept4),
	SCMP_SYS(accept),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	/* waiting */
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(futex),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(sched_yield),
	SCMP_SYS(eventfd2),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(gettimeofday),
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
	SCMP_SYS(statx),
	SCMP_SYS(lseek),
	SCMP_SYS(getdents64),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(unlinkat),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(inotify_add_watch),
	SCMP_SYS(inotify_rm_watch),
	/* memory, threads, itself */
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
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
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(membarrier),
	SCMP_SYS(sched_getaffinity),
#if !defined(__GLIBC__) && defined(SYS_open)
	/* musl: the oldest system call that an architecture has */
	SCMP_SYS(open),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
#endif
};

/*
 * What packets need is not among these: what is allowed whatever its arguments, the kernel (5.11)
 * knows without running the filter.
 */
static const struct filter_narrowed narrowed[] = {
	/* No leases, no signals to an owner: what opendir() asks for. */
	{SCMP_SYS(fcntl), 1, 0, F_GETFL},
	{SCMP_SYS(fcntl), 1, 0, F_GETFD},
	{SCMP_SYS(fcntl), 1, 0, F_SETFD},
	/* Nothing that was written becomes code. */
	{SCMP_SYS(mmap), 2, PROT_EXEC, 0},
	{SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
	/* Reading limits, own or not. */
	{SCMP_SYS(prlimit64), 2, 0, 0},
	/* Of the calling thread, by workers (agent/worker/sched.c). To ask for more takes a
	 * capability.
	 */
	{SCMP_SYS(sched_setattr), 0, 0, 0},
	{SCMP_SYS(sched_setaffinity), 0, 0, 0},
};

int confine_syscalls(void)
{
	static const struct filter_list list = {allowed, sizeof(allowed) / sizeof(allowed[0]),
						narrowed, sizeof(narrowed) / sizeof(narrowed[0])};

	return UNCONFINED ? 0 : filter_allow(&list);
}
