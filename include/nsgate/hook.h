/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The netfilter hooks that a policy may name. The values are those of enum nf_inet_hooks
 * (linux/netfilter.h), which is also what NFQA_PACKET_HDR carries in its hook field.
 */
#ifndef NSGATE_HOOK_H
#define NSGATE_HOOK_H

enum nsgate_hook {
	NSGATE_HOOK_PREROUTING = 0,
	NSGATE_HOOK_IN = 1,
	NSGATE_HOOK_FORWARD = 2,
	NSGATE_HOOK_OUT = 3,
	NSGATE_HOOK_POSTROUTING = 4,
	NSGATE_HOOK_MAX
};

#define NSGATE_HOOK_BIT(hook) (1U << (hook))

/* Names by enum nsgate_hook, as in a policy's "hooks". Defined in lib/hook.c. */
extern const char *const nsgate_hook_names[NSGATE_HOOK_MAX];

#endif
