/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets whose rule says "log", or that an audit let pass: lines on stderr and events of the API.
 * Control thread only. */
#ifndef NSGATE_PACKET_LOG_H
#define NSGATE_PACKET_LOG_H

#include "agent/event.h"

struct ns;

/* Log one packet (limited per namespace; what was left out is counted) and hand it to the API. */
void packet_log(const struct event *event);

/* Say what was left out when no further line does. Milliseconds until then; -1: nothing was. */
int packet_log_timeout_ms(void);
void packet_log_tick(void);

void packet_log_end(struct ns *ns); /* it goes: say it now */

#endif
