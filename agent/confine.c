// SPDX-License-Identifier: GPL-2.0-or-later
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
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

#include "filter.h"

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

/* A service manager that gave us no more may well have filtered capset(), too. */
static bool has_net_admin_only(void)
{
	cap_t caps = cap_get_proc();
	bool only = caps != NULL;

	for (cap_value_t cap = 0; only && cap_get_bound(cap) >= 0; cap++) {
		cap_flag_value_t permitted = CAP_CLEAR;

		cap_get_flag(caps, cap, CAP_PERMITTED, &permitted);
		only = permitted == (cap == CAP_NET_ADMIN ? CAP_SET : CAP_CLEAR);
	}
	cap_free(caps);
	return only;
}

/* Verdicts are refused to a sender without CAP_NET_ADMIN over the namespace's owner. */
static int keep_net_admin_only(void)
{
	const cap_value_t net_admin = CAP_NET_ADMIN;
	cap_t caps;
	int err = 0;

	if (has_net_admin_only())
		return 0;
	caps = cap_init();
	if (!caps)
		return -ENOMEM;
	if (cap_set_flag(caps, CAP_PERMITTED, 1, &net_admin, CAP_SET) < 0 ||
	    cap_set_flag(caps, CAP_EFFECTIVE, 1, &net_admin, CAP_SET) < 0 || cap_set_proc(caps) < 0)
		err = -errno;
	cap_free(caps);
	return err;
}

static int drop_bounding_set(void)
{
	for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++)
		if (cap != CAP_NET_ADMIN && cap_get_bound(cap) == 1 && cap_drop_bound(cap) < 0)
			return -errno;
	return 0;
}

static int become(uid_t uid, gid_t gid)
{
	int err = drop_bounding_set();

	if (err)
		return err;
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
	err = keep_net_admin_only();
	if (err)
		return err;
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* Nobody who becomes this uid may trace it. */
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

/* The access rights of each Landlock ABI: linux/landlock.h; ABI 1 has the first 13. */
#define LANDLOCK_FS_ABI1 ((1ULL << 13) - 1)
#define LANDLOCK_FS_REFER (1ULL << 13)	  /* ABI 2 */
#define LANDLOCK_FS_TRUNCATE (1ULL << 14) /* ABI 3 */

/* Of abstract sockets none but what is connected already. */
#define LANDLOCK_ABSTRACT_SOCKETS (1ULL << 0) /* ABI 6, Linux 6.12 */

/* struct landlock_ruleset_attr as of ABI 6; older kernels are given as much as they know. */
struct ruleset_attr {
	uint64_t handled_fs, handled_net, scoped;
};

static uint64_t handled_rights(int abi)
{
	uint64_t rights = LANDLOCK_FS_ABI1;

	if (abi >= 2)
		rights |= LANDLOCK_FS_REFER;
	if (abi >= 3)
		rights |= LANDLOCK_FS_TRUNCATE;
	return rights;
}

/* Return: 0 or -errno. */
static int leave_directory(int ruleset, uint64_t access, int dir_fd)
{
	struct landlock_path_beneath_attr rule = {.parent_fd = dir_fd, .allowed_access = access};

	if (dir_fd < 0)
		return 0;
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
		       ? -errno
		       : 0;
}

int confine_files(int policy_dir_fd, int good_dir_fd)
{
	int ruleset, err;
	int abi =
		(int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset_attr attr = {.scoped = LANDLOCK_ABSTRACT_SOCKETS};
	size_t known = offsetof(struct ruleset_attr, handled_net);
	uint64_t access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
			  LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
			  LANDLOCK_ACCESS_FS_REMOVE_FILE;

	if (UNCONFINED || abi < 1)
		return 0;
	attr.handled_fs = handled_rights(abi);
	if (abi >= 3)
		access |= LANDLOCK_FS_TRUNCATE;
	if (abi >= 6)
		known = sizeof(attr);
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, known, 0);
	if (ruleset < 0)
		return -errno;
	err = leave_directory(ruleset, access, policy_dir_fd);
	if (!err)
		err = leave_directory(ruleset, access, good_dir_fd);
	if (!err && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		err = -errno;
	close(ruleset);
	return err ? err : abi;
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
 * One argument says what the call does. A mask of 0 stands for all bits. Those of packets are not
 * among them: what is allowed whatever its arguments, the kernel (5.11) knows without running the
 * filter.
 */
static const struct {
	int call;
	unsigned int argument;
	uint64_t mask, value;
} allowed_with[] = {
	/* No leases, no signals to an owner: what opendir() asks for. */
	{SCMP_SYS(fcntl), 1, 0, F_GETFL},
	{SCMP_SYS(fcntl), 1, 0, F_GETFD},
	{SCMP_SYS(fcntl), 1, 0, F_SETFD},
	/* Nothing that was written becomes code. */
	{SCMP_SYS(mmap), 2, PROT_EXEC, 0},
	{SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
	/* Reading limits, own or not. */
	{SCMP_SYS(prlimit64), 2, 0, 0},
	/* Of the calling thread, by workers (worker_sched.c). To ask for more takes a capability.
	 */
	{SCMP_SYS(sched_setattr), 0, 0, 0},
	{SCMP_SYS(sched_setaffinity), 0, 0, 0},
};

#define ALLOWED_WITH (sizeof(allowed_with) / sizeof(allowed_with[0]))

/* Return: 0 or -errno. */
static int allow_with(scmp_filter_ctx filter, size_t i)
{
	const uint64_t mask = allowed_with[i].mask ? allowed_with[i].mask : UINT64_MAX;

	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_with[i].call, 1,
				SCMP_CMP(allowed_with[i].argument, SCMP_CMP_MASKED_EQ, mask,
					 allowed_with[i].value));
}

/* To itself: abort() does. Another process of that user is another's. */
static int allow_own_signals(scmp_filter_ctx filter)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
}

int confine_syscalls(void)
{
	scmp_filter_ctx filter;
	int err = 0;

	if (UNCONFINED)
		return 0;
	/* EPERM and not a kill: a library that tries something new must not stop the packets. */
	filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return -ENOMEM;
	for (size_t i = 0; !err && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; !err && i < ALLOWED_WITH; i++)
		err = allow_with(filter, i);
	if (!err)
		err = allow_own_signals(filter);
	if (!err)
		err = filter_load(filter, sizeof(allowed) / sizeof(allowed[0]) + ALLOWED_WITH + 1);
	seccomp_release(filter);
	return err;
}
