/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --supervise: a small process beside the broker that keeps an agent running where nothing else
 * (systemd, a shell loop) does. It is made before the broker gives up its right to execute.
 */
#ifndef NSGATE_SUPERVISE_H
#define NSGATE_SUPERVISE_H

#include <sys/types.h>

/*
 * Start the supervisor of `path`, run with `argv` (ends in NULL) whenever no agent holds
 * `lock_path`, and end one that has said nothing for `watchdog_ms` (0: never). It dies with the
 * broker; the agent does not: the next broker's supervisor waits for its lock. Return: the
 * supervisor's pid or -errno.
 */
pid_t supervise_start(const char *path, char *const argv[], const char *lock_path, int watchdog_ms);

/* End supervisor and agent, in an orderly way. Takes 0. */
void supervise_stop(pid_t supervisor);

#endif
