/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A queue lives as long as a socket is open that it is bound to, and an owned table is safe as
 * long as its owner's socket is. So that both outlive both daemons, a third holds dups of these
 * sockets: systemd, which keeps descriptors for a service and passes them to its next process
 * (FileDescriptorStoreMax= in systemd.service(5), FDSTORE=1 in sd_notify(3)).
 *
 * Of each attachment it gets the queues' sockets, the rules' socket and the pidfd; all else can be
 * opened again from these. Each has a name of its own: the namespace's cookie in hexadecimal, a
 * dot, and "r", "w" or "q" with the index of the queue. FDPOLL=0, as a queue's socket reports an
 * error whenever packets were dropped.
 *
 * The datagrams are sent without waiting. What finds the socket full waits here in its order, so a
 * removal never overtakes what it removes. systemd takes the names for an environment variable
 * when it starts us again, and the kernel limits the length of one: what would go beyond is not
 * stored, because a broker that cannot be started is worse.
 *
 * What the next broker is passed goes to attachments by cookie, which are then being recovered
 * (recover.h), and is looked at before it is used.
 */
#ifndef NSGATE_FDSTORE_H
#define NSGATE_FDSTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/attachment.h"

/* Of one attachment; a queue's is FDSTORE_QUEUE << its index. */
enum fdstore_has { FDSTORE_RULES = 1 << 0, FDSTORE_WATCH = 1 << 1, FDSTORE_QUEUE = 1 << 2 };

/* Sort what was passed at start (listen_fds.h). */
void fdstore_take(void);

/* Is a socket of the namespace with that cookie? */
bool fdstore_is_of(int fd, uint64_t cookie);

/*
 * Is all there that the record of an attachment wants, and is it what it should be? Return: 0;
 * -ENOENT where any is missing, -ESTALE where one is not what its name says.
 */
int fdstore_check(const struct attachment *attachment);

/* Have the sockets of an attachment stored, unless they are. */
void fdstore_keep(struct attachment *attachment);

/* Take them out of the store. */
void fdstore_drop(struct attachment *attachment);

/* Try once more to send what waits. The store stays as it is. */
void fdstore_close(void);

#endif
