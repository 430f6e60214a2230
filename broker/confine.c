// SPDX-License-Identifier: GPL-2.0-or-later
#include "confine.h"

#include <errno.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include "filter.h"

/*
 * NET_ADMIN: netlink sockets inside the namespaces. SYS_ADMIN: setns(). SYS_PTRACE: setns() by the
 * pidfd of a process of another user.
 */
static const cap_value_t kept[] = {CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE};

/* What code injected into a broker would want and the broker itself never calls. */
static const int denied[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(move_mount),
	SCMP_SYS(fsopen),
	SCMP_SYS(open_tree),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
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
	SCMP_SYS(acct),
	SCMP_SYS(quotactl),
	SCMP_SYS(mknodat),
	SCMP_SYS(mknod),
	SCMP_SYS(open_by_handle_at),
};

/* A service manager that gave us no more may well have filtered capset(), too. */
static bool has_no_more(cap_t caps, cap_t wanted)
{
	return !CAP_DIFFERS(cap_compare(caps, wanted), CAP_PERMITTED);
}

static int drop_capabilities(void)
{
	cap_t caps = cap_get_proc();
	cap_t wanted = cap_init();
	int err = 0;

	if (!caps || !wanted) {
		err = -ENOMEM;
		goto out;
	}
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		cap_flag_value_t has = CAP_CLEAR;

		cap_get_flag(caps, kept[i], CAP_PERMITTED, &has);
		cap_set_flag(wanted, CAP_PERMITTED, 1, &kept[i], has);
		cap_set_flag(wanted, CAP_EFFECTIVE, 1, &kept[i], has);
	}
	for (cap_value_t cap = 0; cap <= CAP_LAST_CAP; cap++) {
		cap_flag_value_t has = CAP_CLEAR;

		cap_get_flag(wanted, cap, CAP_PERMITTED, &has);
		if (!has && cap_get_bound(cap) == 1)
			cap_drop_bound(cap); /* fails without CAP_SETPCAP: then it has no use */
	}
	if (!has_no_more(caps, wanted) && cap_set_proc(wanted) < 0)
		err = -errno;
out:
	cap_free(caps);
	cap_free(wanted);
	return err;
}

static int install_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int err = 0;

	if (!filter)
		return -ENOMEM;
	for (size_t i = 0; !err && i < sizeof(denied) / sizeof(denied[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), denied[i], 0);
	if (!err)
		err = filter_load(filter, sizeof(denied) / sizeof(denied[0]));
	seccomp_release(filter);
	return err;
}

int confine_broker(void)
{
	int err;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	err = install_filter();
	return err ? err : drop_capabilities();
}
