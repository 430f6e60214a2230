/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients that are served. Their bytes go to the agent and its bytes to them; descriptors go
 * nowhere.
 */
#ifndef NSGATE_FRONT_RELAY_H
#define NSGATE_FRONT_RELAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "nsgate/front.h"

#define RELAYS (NSGATE_API_CLIENTS_MAX + NSGATE_STATS_CLIENTS_MAX)
#define RELAY_SOURCES (2 * RELAYS) /* epoll's data are below this */

void relay_start(int epoll_fd);

/* Is there a place for one more client of that kind, or can one be made? */
bool relay_has_place(enum nsgate_front_kind kind);

/*
 * Make one where there is none: a client goes that the agent has done with and that does not read.
 * Return: whether there is one.
 */
bool relay_make_place(enum nsgate_front_kind kind);

/*
 * Serve a client in it. Both descriptors, the client's and the one that leads to the agent (-1: it
 * could not be made), are ours now. `uid` is for the log.
 */
void relay_add(enum nsgate_front_kind kind, int client, int agent, uid_t uid);

void relay_event(unsigned int source, uint32_t events);

/* Call after the events of a turn: what they left undone. Return: ms until the next call, or -1. */
int relay_tick(void);

/* The agent has ended: send what there is to send, as far as the clients take it at once. */
void relay_flush(void);

#endif
