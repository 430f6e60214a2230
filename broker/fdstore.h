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
 * What the next broker is passed is sorted by cookie here. A record (records.h) claims what is its
 * own, after a look at the sockets; what nobody has claimed when the agent has told what it holds
 * is taken out of the store again.
 */
#ifndef NSGATE_FDSTORE_H
#define NSGATE_FDSTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/attachment.h"

/* Sort what was passed at start (listen_fds.h). */
void fdstore_take(void);

/* Has the store anything of that namespace that nobody has claimed? */
bool fdstore_has(uint64_t cookie);

/*
 * Fill in the rules' and queues' sockets and, where the record has one, the pidfd, all of them the
 * attachment's from now on. Return: 0; -ENOENT where any is missing, -ESTALE where one is not what
 * its name says; then nothing is claimed.
 */
int fdstore_claim(struct attachment *attachment, const struct nsgate_ns_record *record);

/* The rules' socket alone, the caller's; -1: none. It stays in the store. */
int fdstore_claim_rules(uint64_t cookie);

/* Close what is left, and take it out of the store. */
void fdstore_forget_rest(void);

/* Have the sockets of an attachment stored, unless they are. */
void fdstore_keep(struct attachment *attachment);

/* Take them out of the store. */
void fdstore_drop(struct attachment *attachment);

/* Try once more to send what waits. The store stays as it is. */
void fdstore_close(void);

#endif
