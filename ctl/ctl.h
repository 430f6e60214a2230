/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every subcommand of nsgatectl is given, and the subcommands themselves. */
#ifndef NSGATE_CTL_H
#define NSGATE_CTL_H

#include <stdbool.h>

#include "ctl/command.h"
#include "client/failure.h"

struct ctl {
	const char *runtime_dir;
	const char *config_dir;
	bool json;     /* --json: one JSON document on stdout */
	bool terminal; /* stdout is a terminal: JSON is printed for eyes */
	bool colour;   /* a terminal, and no NO_COLOR */
};

/*
 * The subcommands. Data goes to stdout.
 * Return: the exit code, with the reason in `fail` where it is not 0.
 */
command_fn ctl_attach, ctl_detach;
command_fn ctl_ready, ctl_ls, ctl_show, ctl_stats, ctl_namespace_policy;
command_fn ctl_policy_check, ctl_policy_set, ctl_policy_get, ctl_policy_ls, ctl_policy_rm;
command_fn ctl_schema;
command_fn ctl_metrics;
command_fn ctl_run, ctl_lend;
command_fn ctl_doctor;

#endif
