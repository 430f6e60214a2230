/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_CAPS_H
#define NSGATE_CAPS_H

/*
 * Drop all but CAP_NET_ADMIN from the bounding set, where that may be (CAP_SETPCAP): else it has no
 * use.
 */
void caps_bound(void);

/*
 * Give up every capability but CAP_NET_ADMIN, which is in effect then if it was permitted. Without
 * a system call that changes anything where nothing is too much: a service manager that gave no
 * more may well have filtered them. Return: 0 or -errno.
 */
int caps_keep_net_admin(void);

#endif
