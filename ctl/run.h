/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exit codes of commands that run another one, as podman-run(1) has them. */
#ifndef NSGATE_CTL_RUN_H
#define NSGATE_CTL_RUN_H

enum run_exit {
	RUN_FAILED = 125,      /* it was not run: the reason is ours */
	RUN_NOT_INVOKED = 126, /* it is there and cannot be executed */
	RUN_NOT_FOUND = 127,
	RUN_SIGNALED = 128, /* and the number of the signal that ended it */
};

struct failure;

/*
 * exec() of a command failed with errno `error`.
 * Return: RUN_NOT_FOUND or RUN_NOT_INVOKED, with the reason in `fail`.
 */
int run_exec_failed(const char *command, int error, struct failure *fail);

#endif
