/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_CONFINE_H
#define NSGATE_CONFINE_H

/*
 * Give up what nsgate-enter does not need, for good: capabilities but CAP_SYS_ADMIN,
 * CAP_SYS_PTRACE and CAP_NET_ADMIN, and system calls but those of the list. Return: 0 or -errno.
 */
int confine_enter(void);

#endif
