/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a namespace's state is, and when it is told. Private to ns*.c. */
#ifndef NSGATE_NS_STATE_H
#define NSGATE_NS_STATE_H

#include "agent/ns/ns.h"

/* Something that its state depends on may have changed: work it out anew, and tell what is new. */
void ns_state_update(struct ns *ns);
void ns_state_update_all(void);

int ns_state_timeout_ms(void); /* until ns_state_tick() has something to tell; -1: nothing */
void ns_state_tick(void);

#endif
