/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queues from which nothing comes although packets wait in them. Their socket is shared with agents
 * before this one and with the broker; what was done to it, such as a filter that is locked
 * (SO_LOCK_FILTER), outlives who did it. Control thread.
 */
#ifndef NSGATE_SILENCE_H
#define NSGATE_SILENCE_H

#include "agent/ns/ns.h"

/* Return: the number of such a queue; -1: none is. */
int silence_queue(const struct ns *ns);

/* There is a further namespace. */
void silence_begin(void);

/*
 * Look at the queues from which nothing has come yet, from time to time. Milliseconds until then;
 * -1: never. Return of the second: is what silence_queue() says of any of them another?
 */
int silence_timeout_ms(void);
bool silence_tick(void);

#endif
