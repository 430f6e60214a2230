/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stats.sock: whoever connects is sent the document of all namespaces and then end of file. At
 * most STATS_CLIENTS_MAX at once; more wait in the listening queue until one is served or has
 * used up its STATS_CLIENT_MS.
 */
#ifndef NSGATE_STATS_SOCKET_H
#define NSGATE_STATS_SOCKET_H

#include "nsgate/front.h"

#define STATS_CLIENTS_MAX NSGATE_STATS_CLIENTS_MAX
#define STATS_CLIENT_MS 5000

/* `fd`: front_accept()'s; it stays the caller's. Return: 0 or -errno. */
int stats_socket_start(int fd);
void stats_socket_stop(void);

int stats_socket_fd(void); /* an epoll fd: readable means call stats_socket_run() */
void stats_socket_run(void);
int stats_socket_timeout_ms(void); /* -1: never */

#endif
