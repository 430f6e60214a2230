// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/probe.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/netns_fds.h"
#include "log.h"
#include "queue_proc.h"

void probe_no_rights(void)
{
	die(NSGATE_STATUS_REFUSED,
	    "no permission to enter network namespaces: run as root, or with CAP_SYS_ADMIN, "
	    "CAP_SYS_PTRACE and CAP_NET_ADMIN");
}

/* Namespaces are told apart by their cookies, which is what the oldest kernels lack. */
void probe_cookie(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct utsname kernel = {.release = "of this machine"};
	uint64_t inode;
	int err = fd < 0 ? -errno : netns_fds_identify(fd, &broker_cookie, &inode);

	(void)uname(&kernel);
	if (err == -ENOPROTOOPT)
		die(1, "Linux %s is too old, it numbers no namespaces: run Linux 5.14 or later",
		    kernel.release);
	if (err == -EPERM)
		probe_no_rights();
	if (err)
		die(1, "cannot tell the broker's own network namespace: %s", strerror(-err));
	close(fd);
}

/* What is missing, from the error of netns_fds_open(). */
static void explain_netns_fds(int err)
{
	if (err == -EPERM)
		probe_no_rights();
	if (err == -EPROTONOSUPPORT)
		die(1, "this kernel has not loaded the module " QUEUE_PROC_NETLINK_MODULE
		       ": " QUEUE_PROC_REMEDY);
	if (err == -ENOENT && access("/proc/thread-self/net", F_OK) < 0)
		die(1, "there is no /proc/thread-self/net: mount /proc");
	if (err == -ENOENT)
		die(1, "this kernel has not loaded the module " QUEUE_PROC_MODULE
		       ": " QUEUE_PROC_REMEDY);
	die(1, "cannot make a network namespace to try the kernel in: %s", strerror(-err));
}

static void explain_tables(int err)
{
	if (err == -EOPNOTSUPP || err == -EAFNOSUPPORT || err == -ENOENT)
		die(1, "this kernel has not loaded the module nf_tables (CONFIG_NF_TABLES and "
		       "CONFIG_NF_TABLES_INET): " QUEUE_PROC_REMEDY);
	die(1, "cannot try the kernel's nftables: %s", strerror(-err));
}

void probe_kernel(void)
{
	struct netns_fds netns = NETNS_FDS_NONE;
	int err;

	err = netns_fds_open(-1, &netns);
	if (err)
		explain_netns_fds(err);
	err = rules_probe(netns.rules, &broker_features);
	if (err)
		explain_tables(err);
	if (broker_config.plain_tables)
		broker_features.owned_tables = false;
	if (broker_config.no_guard)
		broker_features.guard = false;
	if (broker_features.backend == NSGATE_BACKEND_NONE)
		die(1, "this kernel has loaded neither the module nft_queue (CONFIG_NFT_QUEUE) nor "
		       "nft_compat and xt_NFQUEUE (CONFIG_NFT_COMPAT, "
		       "CONFIG_NETFILTER_XT_TARGET_NFQUEUE): " QUEUE_PROC_REMEDY);
	if (!broker_features.counter)
		die(1, "this kernel has not loaded the module nft_objref (CONFIG_NFT_OBJREF) or, "
		       "before Linux 5.18, nft_counter (CONFIG_NFT_COUNTER): " QUEUE_PROC_REMEDY);
	if (!broker_features.limit)
		die(1, "this kernel has not loaded the module nft_limit "
		       "(CONFIG_NFT_LIMIT): " QUEUE_PROC_REMEDY);
	netns_fds_close(&netns);
}
