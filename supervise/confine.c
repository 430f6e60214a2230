// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * An agent starts as root and gives up what it has by itself. With no_new_privs a program that is
 * executed gets no capability that was not permitted before: so those that the agent's start needs
 * stay permitted, but only CAP_KILL is in effect. The filter holds for agents, too; it is a list of
 * what neither needs, and the agent's own comes on top.
 */
#include "supervise/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filter.h"

#define BIT(cap) (1ULL << (cap))

/*
 * NET_ADMIN: verdicts. SYS_ADMIN: its empty namespace. SETUID, SETGID, SETPCAP: becoming another
 * user with that one capability. CHOWN, FOWNER: its sockets' group, its directory's owner.
 * DAC_OVERRIDE: a runtime or policy directory of another user.
 */
static const unsigned long long permitted = BIT(CAP_KILL) | BIT(CAP_NET_ADMIN) |
					    BIT(CAP_SYS_ADMIN) | BIT(CAP_SETUID) | BIT(CAP_SETGID) |
					    BIT(CAP_SETPCAP) | BIT(CAP_CHOWN) | BIT(CAP_FOWNER) |
					    BIT(CAP_DAC_OVERRIDE);

static const int denied[] = {
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(process_madvise),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(setns),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(move_mount),
	SCMP_SYS(open_tree),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsconfig),
	SCMP_SYS(fsmount),
	SCMP_SYS(fspick),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(fanotify_init),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	SCMP_SYS(sethostname),
	SCMP_SYS(setdomainname),
	SCMP_SYS(settimeofday),
	SCMP_SYS(clock_settime),
	SCMP_SYS(clock_adjtime),
	SCMP_SYS(adjtimex),
	SCMP_SYS(acct),
	SCMP_SYS(quotactl),
	SCMP_SYS(mknod),
	SCMP_SYS(mknodat),
	SCMP_SYS(syslog),
	SCMP_SYS(personality),
};

#define DENIED (sizeof(denied) / sizeof(denied[0]))

static int set_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(permitted & BIT(cap)))
			/* Fails without CAP_SETPCAP: then it has no use. */
			(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	for (unsigned int i = 0; i < 2; i++) {
		data[i].permitted &= (__u32)(permitted >> 32 * i);
		data[i].effective = data[i].permitted & (__u32)(BIT(CAP_KILL) >> 32 * i);
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int install_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int err = 0;

	if (!filter)
		return -ENOMEM;
	for (size_t i = 0; !err && i < DENIED; i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), denied[i], 0);
	if (!err)
		err = filter_load(filter, DENIED);
	seccomp_release(filter);
	return err;
}

int confine_supervise(void)
{
	int err = set_capabilities();

	if (err)
		return err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return install_filter();
}
