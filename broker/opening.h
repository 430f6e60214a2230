/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first step of an attach, which waits for nsgate-enter: the sockets. The holding is FOUND. */
#ifndef NSGATE_OPENING_H
#define NSGATE_OPENING_H

#include "broker/holding.h"
#include "broker/kit.h"

struct opening {
	struct holding *holding;
	struct nsgate_msg_attach message;
	int fds[NSGATE_HANDOFF_FDS]; /* those of the message that are not the holding's yet */
	unsigned int fd_count;
	int target; /* what is entered; -1: it was never opened */
	struct kit_opening kit;
	void (*done)(struct opening *opening, int err);
};

/*
 * Open what an ATTACH asks for; `fds` are taken over. `done` is told how it went, as kit_open()
 * says it; target and message are there until opening_end(). Return: 0 or -ENOMEM; `fds` are closed
 * then.
 */
int opening_start(struct holding *holding, const struct nsgate_msg_attach *message, int *fds,
		  unsigned int fd_count, void (*done)(struct opening *opening, int err));

/* Nothing of it is needed any more: what is not the holding's is closed. Harmless without one. */
void opening_end(struct holding *holding);

#endif
