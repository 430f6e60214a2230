/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attaching and detaching: the steps of an attachment's life (attachment.h), forwards and back. */
#ifndef NSGATE_ATTACH_H
#define NSGATE_ATTACH_H

#include "broker/attachment.h"

/*
 * An ATTACH of a client. `fds` are taken over. The answer goes to the client by client_reply(),
 * now or when the agent has taken the namespace.
 */
void attach_request(struct client *client, const struct nsgate_msg_attach *message, int *fds,
		    unsigned int fd_count);

void attach_detach(struct client *client, const struct nsgate_msg_detach *message);

/* A container has ended, the runtime says. The answer comes when its namespace is let go of, where
 * it was the last. */
void attach_leave(struct client *client, const struct nsgate_msg_leave *message);

/* The client is gone: nobody waits for an answer; what it kept (a handoff) is detached. */
void attach_client_gone(const struct client *client);

/* The container behind it is gone. */
void attach_orphaned(struct attachment *attachment);

/*
 * A name of a namespace is gone (its last part; NULL: any may be): whoever was attached by it may
 * be gone too.
 */
void attach_name_removed(const char *name);

/* ---- what the agent says ---- */

void attach_agent_rules(const struct nsgate_msg_ns_rules *message);
void attach_agent_reply(const struct nsgate_msg_reply *message);

/*
 * Answer whoever's attach is done. After the agent has been told: whoever was answered may ask it
 * at once, and is to find the namespace attached.
 */
void attach_answer(void);

/* The connection to the agent is new (everything is to be offered again) or gone. */
void attach_agent_connected(void);
void attach_agent_lost(void);

#endif
