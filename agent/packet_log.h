/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets whose rule says "log": lines on stderr and events of the API. Control thread only. */
#ifndef NSGATE_PACKET_LOG_H
#define NSGATE_PACKET_LOG_H

#include "event.h"

/* Log one packet (limited per namespace; what was left out is counted) and hand it to the API. */
void packet_log(const struct event *event);

#endif
