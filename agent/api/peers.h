/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is connected to api.sock. A uid that may only read holds so many connections at most, and all
 * of these together leave some to those who may change things.
 */
#ifndef NSGATE_API_PEERS_H
#define NSGATE_API_PEERS_H

#include <microhttpd.h>
#include <stdbool.h>

#include "daemon.h"
#include "nsgate/front.h"

#define API_CONNECTIONS_MAX NSGATE_API_CLIENTS_MAX
#define API_CONNECTIONS_KEPT 16	  /* of them for those who may change things */
#define API_CONNECTIONS_OF_UID 32 /* of one who may not; refused with 503 above */

/* Beside uid 0 these may change things. It stays the caller's. */
void api_peers_start(const struct daemon_admins *admins);

/*
 * nsgate-front handed over a connection of that uid, which the library gets now: it has it, or has
 * closed it, when the library has run. Return: false: there is no place for it.
 */
bool api_peers_expect(int fd, uid_t uid);
void api_peers_expect_none(void); /* the library has run */

/* MHD_OPTION_NOTIFY_CONNECTION: count it, or turn it away. */
void api_peers_notify(void *context, struct MHD_Connection *connection, void **socket_context,
		      enum MHD_ConnectionNotificationCode code);

/* May whoever connected change things? By SO_PEERCRED, ours or nsgate-front's. */
bool api_peers_may_change(struct MHD_Connection *connection);

#endif
