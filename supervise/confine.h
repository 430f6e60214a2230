/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_SUPERVISE_CONFINE_H
#define NSGATE_SUPERVISE_CONFINE_H

/*
 * Keep what an agent needs at its start, and use nothing of it but CAP_KILL: the agent runs as
 * another user. Return: 0 or -errno.
 */
int confine_supervise(void);

#endif
