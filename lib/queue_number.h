/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which numbers nsgate's queues have in a namespace. Programs that use a queue take 0 unless told
 * otherwise, and people count up from there; so the numbers of nsgate are of the upper half, and
 * whoever needs a block of them asks here.
 */
#ifndef NSGATE_QUEUE_NUMBER_H
#define NSGATE_QUEUE_NUMBER_H

#include <stdint.h>

#define QUEUE_NUMBER_LOWEST 0x8000U /* 32768 */

/* How many consecutive numbers so many queues have (nsgate/flow.h). */
unsigned int queue_number_width(unsigned int queues);

/*
 * Choose the numbers of so many queues, 1 to NSGATE_QUEUES_MAX. `choice` 0: the lowest, which are
 * the default; any other value, a random one: some of the others, for whoever found those taken.
 * Return: the first of them.
 */
uint16_t queue_number_choose(unsigned int queues, uint32_t choice);

#endif
