/* SPDX-License-Identifier: GPL-2.0-or-later */
/* agent.sock: the broker's connection, one at a time; a new one replaces the old. */
#ifndef NSGATE_BROKER_LINK_H
#define NSGATE_BROKER_LINK_H

#include <stdbool.h>
#include <sys/types.h>

/* Serve the listening socket: uid 0 may connect. Return: 0 or -errno. */
int broker_link_open(int listen_fd);
void broker_link_close(void);

bool broker_link_ready(void);

/*
 * Ask the broker for a sign of life; one question at a time is under way. `answered` is called from
 * the loop when it comes, or when the connection is lost (false), and once for all who asked.
 * Return: false: it cannot be asked, as it is of an earlier release or not connected.
 */
bool broker_link_ping(void (*answered)(bool alive));

/* Take what the broker has said and the loop has not come to yet. */
void broker_link_read(void);

/* Say what the namespaces' `todo` asks for, as far as the socket takes it. */
void broker_link_pump(void);

#endif
