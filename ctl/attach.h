/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the options of `nsgatectl attach` to the message that asks for it. */
#ifndef NSGATE_CTL_ATTACH_H
#define NSGATE_CTL_ATTACH_H

#include "ctl/command.h"
#include "client/failure.h"
#include "client/target.h"

/*
 * Build an ATTACH of `target` from those of the options name, policy, label, queue, queues,
 * pending, allow-host and replace that the command takes.
 * @ret: zeroed by the caller
 * Return: OK, or USAGE with the reason in `fail`.
 */
enum nsgate_status attach_build(const struct command_args *args, const struct target *target,
				struct nsgate_msg_attach *ret, struct failure *fail);

#endif
