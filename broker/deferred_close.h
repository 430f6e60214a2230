/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors that are closed a moment later. The first netfilter socket that is closed after a
 * table was deleted waits until the kernel has freed the table, tens of milliseconds in which
 * nobody else would be served. After that moment nothing has to be waited for.
 */
#ifndef NSGATE_DEFERRED_CLOSE_H
#define NSGATE_DEFERRED_CLOSE_H

/* Close it soon; -1 is passed over. Where too many wait, the oldest is closed at once. */
void deferred_close(int *fd);

#endif
