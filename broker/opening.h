/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first step of an attach, which waits for nsgate-enter: the sockets. The attachment is FOUND.
 */
#ifndef NSGATE_OPENING_H
#define NSGATE_OPENING_H

#include "broker/attachment.h"
#include "broker/netns_fds.h"

struct opening {
	struct attachment *attachment;
	struct nsgate_msg_attach message;
	int fds[NSGATE_HANDOFF_FDS]; /* those of the message that are not the attachment's yet */
	unsigned int fd_count;
	int target; /* what is entered; -1: it was never opened */
	struct netns_opening netns;
	void (*done)(struct opening *opening, int err);
};

/*
 * Open what an ATTACH asks for; `fds` are taken over. `done` is told how it went, as
 * netns_fds_open() says it; target and message are there until opening_end(). Return: 0 or -ENOMEM;
 * `fds` are closed then.
 */
int opening_start(struct attachment *attachment, const struct nsgate_msg_attach *message, int *fds,
		  unsigned int fd_count, void (*done)(struct opening *opening, int err));

/* Nothing of it is needed any more: what is not the attachment's is closed. Harmless without one.
 */
void opening_end(struct attachment *attachment);

#endif
