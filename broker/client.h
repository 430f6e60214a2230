/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection on broker.sock, and what is said on it. server.c owns them; others answer them. */
#ifndef NSGATE_CLIENT_H
#define NSGATE_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"
#include "nsgate/proto.h"
#include "timer.h"

struct client {
	struct client *next;
	struct loop_source source;
	uid_t uid;
	pid_t pid;
	bool may_change;
	bool greeted;
	struct timer greeting; /* until it must have said hello */
};

/* Answer. `format` makes the one line for people; NULL where all is well. */
void client_reply(struct client *client, uint32_t id, enum nsgate_status status, const char *format,
		  ...) __attribute__((format(printf, 4, 5)));

/* Tell a handoff that its namespace was detached, so that it does not hand it in again. */
void client_detached(struct client *client, const char *name);

#endif
