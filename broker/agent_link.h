/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The broker's connection to agent.sock: made whenever an agent listens there, made anew when it
 * comes back. The agent first tells what it holds already (it may have outlived a broker), then
 * is offered what it lacks.
 */
#ifndef NSGATE_AGENT_LINK_H
#define NSGATE_AGENT_LINK_H

#include <stdbool.h>

/* Begin to look for the agent. Return: 0 or -errno. */
int agent_link_open(void);
void agent_link_close(void);

/* Say what `todo` of the attachments still asks for, as far as the socket takes it. Call it often.
 */
void agent_link_pump(void);

#endif
