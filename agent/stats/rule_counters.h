/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The named counters of a namespace's rules (offload.h) as sums of their steps, which go on where
 * the kernel's begin again from zero with their table. Control thread only.
 */
#ifndef NSGATE_RULE_COUNTERS_H
#define NSGATE_RULE_COUNTERS_H

#include <stdbool.h>

struct ns;

/* Where the shared memory is fresh: what was counted before is not this attachment's. */
void rule_counters_begin(struct ns *ns);

/* Return: does the counter of what is to be asked about exist, and was it read? */
bool rule_counters_read(struct ns *ns);

void rule_counters_read_guard(struct ns *ns);

#endif
