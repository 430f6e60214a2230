/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is known of names in a namespace, kept in the file of its counters. Control thread only. */
#ifndef NSGATE_NS_NAMES_H
#define NSGATE_NS_NAMES_H

#include <stdint.h>

struct ns;

/*
 * Have ns->names be there, for so many addresses with a name; what an earlier agent left is taken
 * up. Return: 0 or -ENOMEM.
 */
int ns_names_open(struct ns *ns, uint32_t limit);
void ns_names_close(struct ns *ns);

#endif
