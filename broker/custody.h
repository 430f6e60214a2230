/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An owned table is safe only while its owner's socket is open. A broker that comes after one that
 * died therefore takes the tables into custody at once, from the records alone; whose queues they
 * feed turns out when the agent connects.
 */
#ifndef NSGATE_CUSTODY_H
#define NSGATE_CUSTODY_H

#include <stdint.h>

#include "broker/attachment.h"

/* Take into custody every recorded namespace that can still be found: its rules are in force anew.
 */
void custody_take_all(void);

/*
 * The rules' socket of a namespace in custody, now the caller's; -1: it is not in custody.
 * @ret_state: how its rules were found; untouched where it is not in custody
 */
int custody_release(uint64_t cookie, enum custody_state *ret_state);

/* It cannot be found again: let go of it. */
void custody_forget(uint64_t cookie);

/* Close what nobody asked for. The rules stay. */
void custody_close(void);

#endif
