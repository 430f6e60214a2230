/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sd_notify(3)'s protocol: datagrams to $NOTIFY_SOCKET. Where the variable is not set nothing is
 * said and nothing fails.
 */
#ifndef NSGATE_NOTIFY_H
#define NSGATE_NOTIFY_H

#include <stdbool.h>

/*
 * Find $NOTIFY_SOCKET and connect to it now, so that it can be written to after privileges and
 * name spaces are gone; note what is asked of the watchdog.
 */
void notify_open(void);

/* Say all that by `fd`, which is taken over, in place of the socket, which is closed. */
void notify_replace(int fd);

/* The connected socket; -1: there is nobody to tell. */
int notify_fd(void);

/*
 * Send a state such as "READY=1\nSTATUS=...", waiting up to a second for room. Failures are
 * ignored, as the protocol asks.
 */
void notify_send(const char *state);

/*
 * Send a state that comes with a descriptor (-1: none), which stays the caller's. Does not wait.
 * Return: 0; -EAGAIN where the socket is full; else -errno.
 */
int notify_send_fd(const char *state, int fd);

/* READY=1 after RELOADING=1: `reload` runs in between. */
void notify_reload(void (*reload)(void));

/* Send a line of STATUS=, unless it is the one sent last. */
void notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * The watchdog. The period to ping in, in milliseconds: a quarter of $WATCHDOG_USEC, so that one
 * late ping does no harm. -1: nobody waits for pings.
 */
int notify_watchdog_ms(void);

/*
 * Ping where the period is over and `alive` (NULL: always) says so; a refusal is asked again a
 * period later. Return: milliseconds until the next call is due; -1: never.
 */
int notify_watchdog_tick(bool (*alive)(void));

#endif
