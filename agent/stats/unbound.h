/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets that were to be asked about and came into no queue, or went with one: both daemons were
 * dead. Control thread only.
 */
#ifndef NSGATE_UNBOUND_H
#define NSGATE_UNBOUND_H

#include <stdbool.h>

struct ns;

/*
 * Look whether there are new ones. Return: true where it seems so; only time can tell, so call
 * unbound_settle() when no packet that was on its way now can still be, some milliseconds later.
 * `of_many`: for a document of all namespaces.
 */
bool unbound_suspect(struct ns *ns, bool of_many);

/* Count in `control.unbound`, or where else it belongs, what unbound_suspect() suspected and is
 * still so. */
void unbound_settle(struct ns *ns);

#endif
