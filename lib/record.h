/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of a namespace, as both daemons check it before they believe it. */
#ifndef NSGATE_RECORD_H
#define NSGATE_RECORD_H

#include <stdbool.h>

#include "nsgate/proto.h"

/* Can these rules be put in force: hooks, flags and a generation that exist, and nothing else? */
bool record_rules_valid(const struct nsgate_rules_spec *rules);

/*
 * Of rules that a later release has put in force leave what we can; generation 0 where that is
 * nothing. The agent asks for what it wants.
 */
void record_rules_forget_unknown(struct nsgate_rules_spec *rules);

/*
 * Are its texts terminated, printable and valid names, and its numbers within their bounds? Its
 * rules may have hooks and flags of a later release.
 */
bool record_valid(const struct nsgate_ns_record *record);

/* How many descriptors come with it (enum nsgate_nsfd). */
unsigned int record_fd_count(const struct nsgate_ns_record *record);

#endif
