/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the broker gives up. doc/PRIVSEP.md says why each right stays. */
#ifndef NSGATE_BROKER_CONFINE_H
#define NSGATE_BROKER_CONFINE_H

/* Move to an empty network namespace of its own: the sockets that it uses are opened elsewhere.
 * Return: 0 or -errno. */
int confine_network(void);

/*
 * Once sockets are open and nsgate-enter runs: keep CAP_NET_ADMIN alone, in the bounding set too,
 * the files below the runtime directory (Landlock), and the system calls that serving needs.
 * Return: 0 or -errno.
 */
int confine_broker(const char *runtime_dir);

#endif
