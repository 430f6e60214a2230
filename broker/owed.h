/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Namespaces that were detached without the agent's word, because it did not answer in time. The
 * broker is done with them; the agent must hear of it as soon as it listens again, or it would
 * keep them for ever, or a later broker would take them for attached. One that does not know such
 * a namespace answers all the same.
 */
#ifndef NSGATE_OWED_H
#define NSGATE_OWED_H

#include <stdbool.h>
#include <stdint.h>

/* `id`: of the NS_REMOVE that was said and not answered; 0: it could not be said. */
void owed_add(uint64_t cookie, uint32_t id);

/* How many are there that the agent is still to hear of? */
unsigned int owed_count(void);

/* Is it one of them? */
bool owed_has(uint64_t cookie);

/* Say what is to be said by `say`, which returns false where it cannot now. */
bool owed_pump(bool (*say)(uint64_t cookie, uint32_t *ret_id));

/* Return: whether that was the answer to one of them. */
bool owed_answered(uint32_t id);

/* The connection is lost, and what was said with it: it is said again on the next one. */
void owed_link_lost(void);

#endif
