/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between nsgate-agent and nsgate-front, which are of one build: what the one starts the other
 * with, and what that one says. It takes two arguments, the numbers of a user and a group, and
 * descriptors from NSGATE_FRONT_FD on: of each kind the listening socket, then of each kind a
 * SOCK_SEQPACKET socket to the agent. Over these the agent gets a connection for each client, as
 * one message with one descriptor.
 */
#ifndef NSGATE_FRONT_H
#define NSGATE_FRONT_H

#include <assert.h>
#include <stdint.h>

#define NSGATE_FRONT_FD 3

enum nsgate_front_kind { NSGATE_FRONT_API, NSGATE_FRONT_STATS, NSGATE_FRONT_MAX };

/* Clients that are served at a time; further ones wait in the listening queue. */
#define NSGATE_API_CLIENTS_MAX 128
#define NSGATE_STATS_CLIENTS_MAX 64

struct nsgate_front_client {
	uint32_t uid; /* SO_PEERCRED */
};
static_assert(sizeof(struct nsgate_front_client) == 4, "of fixed size");

#endif
