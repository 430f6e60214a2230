/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Talking to the broker on broker.sock: connect, hello, ask. */
#ifndef NSGATE_CTL_DIAL_H
#define NSGATE_CTL_DIAL_H

#include "client/failure.h"

#define DIAL_BROKER_SOCKET "broker.sock"

/*
 * Connect and exchange HELLOs. Whoever answers must be root, this user, or the owner of the
 * runtime directory: descriptors of namespaces are not for others.
 * @ret_fd: the connection, the caller's to close
 * Return: NSGATE_STATUS_OK, or the status with its reason in `fail`.
 */
enum nsgate_status dial_broker(const char *runtime_dir, int *ret_fd, struct failure *fail);

/*
 * Send a message with descriptors and wait for its answer: patience_ms(), and after that as long as
 * the broker shows that it lives, up to patience_long_ms().
 * @wanted: the type that answers it; a REPLY with a bad outcome may come instead
 * Return: the status, its reason in `fail`; `ret` is of type `wanted` where it is OK.
 */
enum nsgate_status dial_ask(int fd, const struct nsgate_msg_header *message, const int *fds,
			    unsigned int fd_count, enum nsgate_msg_type wanted,
			    union nsgate_msg *ret, struct failure *fail);

/*
 * Connect, send a message with descriptors, wait for its REPLY, close. While the broker is busy
 * with an attach or a detach of the same namespace, it is asked again for some seconds.
 * Return: what the broker says, its reason in `fail`.
 */
enum nsgate_status dial_once(const char *runtime_dir, const struct nsgate_msg_header *message,
			     const int *fds, unsigned int fd_count, struct failure *fail);

#endif
