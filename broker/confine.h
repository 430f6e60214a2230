/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the broker gives up once its sockets are open. doc/PRIVSEP.md says why each right stays. */
#ifndef NSGATE_BROKER_CONFINE_H
#define NSGATE_BROKER_CONFINE_H

/*
 * Keep only CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_SYS_PTRACE (as far as they are there), in the
 * bounding set too; no_new_privs; a seccomp filter that refuses what a broker never does, above
 * all execve. Return: 0 or -errno.
 */
int confine_broker(void);

#endif
