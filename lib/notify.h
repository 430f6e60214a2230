/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sd_notify(3)'s protocol: one datagram to $NOTIFY_SOCKET. */
#ifndef NSGATE_NOTIFY_H
#define NSGATE_NOTIFY_H

/*
 * Find $NOTIFY_SOCKET and connect to it now, so that it can be written to after privileges and
 * name spaces are gone. Nothing happens where the variable is not set.
 */
void notify_open(void);

/* Send a state such as "READY=1\nSTATUS=...". Failures are ignored, as the protocol asks. */
void notify_send(const char *state);

#endif
