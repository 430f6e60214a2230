// SPDX-License-Identifier: GPL-2.0-or-later
#include "enter/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filter.h"

/*
 * SYS_ADMIN: setns(). SYS_PTRACE: setns() by the pidfd of a process of another user. NET_ADMIN: the
 * kernel asks for it not only of who uses a netlink socket but of who opened it
 * (__netlink_ns_capable() in net/netlink/af_netlink.c).
 */
#define BIT(cap) (1ULL << (cap))
static const unsigned long long kept =
	BIT(CAP_SYS_ADMIN) | BIT(CAP_SYS_PTRACE) | BIT(CAP_NET_ADMIN);

static const int allowed[] = {
	/* requests and answers */
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(clock_gettime),
	/* a child for each */
	SCMP_SYS(wait4),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/* what the child does */
	SCMP_SYS(connect),
	SCMP_SYS(sendto),
	SCMP_SYS(getsockopt),
	SCMP_SYS(openat),
	SCMP_SYS(close),
	SCMP_SYS(close_range),
	SCMP_SYS(read),
	SCMP_SYS(newfstatat),
	SCMP_SYS(fstatfs),
	SCMP_SYS(inotify_add_watch),
	/* libc */
	SCMP_SYS(write), /* its last words, on stderr */
	SCMP_SYS(futex),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(munmap), /* of the filter itself */
#ifdef __SANITIZE_ADDRESS__
	SCMP_SYS(mmap),
	SCMP_SYS(madvise),
	SCMP_SYS(sigaltstack),
#endif
#ifndef __GLIBC__
#ifdef SYS_open
	SCMP_SYS(open),
	SCMP_SYS(stat),
#endif
#ifdef SYS_fork
	SCMP_SYS(fork),
#endif
	SCMP_SYS(statfs),
	SCMP_SYS(tkill),
	SCMP_SYS(set_tid_address),
#endif
};

#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)

static const struct filter_narrowed narrowed[] = {
	{SCMP_SYS(clone), 0, NEW_NAMESPACES, 0},  {SCMP_SYS(setns), 1, 0, CLONE_NEWNET},
	{SCMP_SYS(setns), 1, 0, CLONE_NEWUSER},	  {SCMP_SYS(unshare), 0, 0, CLONE_NEWNET},
	{SCMP_SYS(socket), 0, 0, AF_NETLINK},	  {SCMP_SYS(ioctl), 1, 0, NS_GET_USERNS},
	{SCMP_SYS(prctl), 0, 0, PR_SET_DUMPABLE}, {SCMP_SYS(prctl), 0, 0, PR_SET_PDEATHSIG},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(kept & BIT(cap)))
			/* Fails without CAP_SETPCAP: then it has no use. */
			(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	for (unsigned int i = 0; i < 2; i++) {
		data[i].permitted &= (__u32)(kept >> 32 * i);
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int install_filter(void)
{
	const struct filter_list list = {allowed, COUNT(allowed), narrowed, COUNT(narrowed)};

	return filter_allow(&list);
}

int confine_enter(void)
{
	int err = drop_capabilities();

	if (err)
		return err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return install_filter();
}
