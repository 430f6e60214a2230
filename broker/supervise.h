/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --supervise: nsgate-supervise, a small program beside the broker, keeps an agent running where
 * nothing else (systemd, a shell loop) does. It is started before the broker gives up its right to
 * execute.
 */
#ifndef NSGATE_SUPERVISE_H
#define NSGATE_SUPERVISE_H

#include <sys/types.h>

/*
 * Start it. It runs `agent` (path and arguments, ends in NULL) whenever no agent holds the lock in
 * `runtime_dir`, and ends one that has said nothing for `watchdog_ms` (0: never). It dies with the
 * broker; the agent does not: the next broker's supervisor waits for its lock. Return: its pid or
 * -errno.
 */
pid_t supervise_start(char *const agent[], const char *runtime_dir, int watchdog_ms);

/* End supervisor and agent, in an orderly way. Takes 0. */
void supervise_stop(pid_t supervisor);

#endif
