/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The HTTP API on api.sock (libmicrohttpd, driven by the control thread's own loop) and the one
 * document on stats.sock. No client can hold up a packet: packets are the workers' business.
 */
#ifndef NSGATE_API_H
#define NSGATE_API_H

#include <stdint.h>

#include "daemon.h"
#include "agent/event.h"

struct api_config {
	int api_fd;			    /* front_accept()'s */
	int stats_fd;			    /* the same */
	const struct daemon_admins *admins; /* may change things, beside uid 0 */
};

/* Return: 0 or -errno. */
int api_start(const struct api_config *config);
void api_stop(void);

int api_fd(void); /* an epoll fd: readable means call api_run() */
void api_run(void);
int api_timeout_ms(void); /* until api_run() must be called anyway; -1: never */

/* Hand an event to whoever streams /v1/events. `text_kind` events are made by the control thread.
 */
void api_event_packet(const struct event *event);
void api_event_note(const char *kind, const char *netns, const char *detail);

#endif
