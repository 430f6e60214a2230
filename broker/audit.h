/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Where the kernel has no owned tables, root inside a namespace can change ours. A socket there
 * gets the kernel's news of rules; whatever it says, and also where it says that some was lost,
 * ours are looked at, and put back where they differ (enforce_audit()). The news itself is not
 * read: what somebody there sends to the group of listeners causes a look and nothing else, and how
 * much of it fits into the socket does not matter. A look at all of them twice a second does for
 * namespaces whose socket could not be opened, as those that were handed in by somebody else.
 *
 * A look and a repair take a millisecond or two, so somebody who changes rules all the time could
 * keep the broker from everything else: each namespace has a fifth of its time for them. Half a
 * second of that may be spent in advance, so that who changes rules now and then finds each change
 * undone at once, also where the machine is slow.
 */
#ifndef NSGATE_AUDIT_H
#define NSGATE_AUDIT_H

#include "broker/attachment.h"

/* To be called once its netns is open. Return: 0 or -errno. */
int audit_watch(struct attachment *attachment);

#endif
