/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After both daemons died: attach again what the records say. The rules were in force all the
 * while; only the queue was gone.
 */
#ifndef NSGATE_RESTORE_H
#define NSGATE_RESTORE_H

#include "holding.h"

/*
 * Find the recorded namespace again by what it was attached by, and believe it only if the cookie
 * is the same. Return: a netns fd or pidfd, the caller's; -ENOENT it is gone; -EOPNOTSUPP nothing
 * leads to it any more (it was attached as `self` or by a handoff, which hands in again itself).
 */
int restore_target(const struct nsgate_ns_record *record);

/*
 * Does what it was attached by lead to that namespace, as seen from here? Of a process it is only
 * told that it is there. Return: 1, 0, or -errno where it cannot be told.
 */
int restore_leads_there(const struct nsgate_ns_record *record);

#endif
