/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sd_listen_fds_with_names(3)'s protocol: descriptors that a supervisor passes from 3 on, counted
 * in $LISTEN_FDS and named in $LISTEN_FDNAMES.
 */
#ifndef NSGATE_LISTEN_FDS_H
#define NSGATE_LISTEN_FDS_H

#include <stdbool.h>

/*
 * Take over what was passed, close-on-exec from now on, and take the variables out of the
 * environment. To be called once, before anything else is opened. Return: 0 or -errno.
 */
int listen_fds_take(void);

/* The descriptor of that name, now the caller's; -1: none of that name is left. */
int listen_fds_claim(const char *name);

/*
 * A socket of that name which listens on a unix socket of that type, non-blocking, now the
 * caller's. -ENOENT: none was passed. -EPROTOTYPE: it is something else (now closed).
 */
int listen_fds_claim_socket(const char *name, int type);

/* Offer everything that is left; what `take` returns true for is its from then on. */
void listen_fds_each(bool (*take)(const char *name, int fd));

/* Close what nobody claimed. Return: how many. */
unsigned int listen_fds_close(void);

#endif
