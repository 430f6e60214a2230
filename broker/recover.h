/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * What was attached when another broker ran is taken up in three steps, each for what the one
 * before did not find: what systemd kept (fdstore.h), at the start; what the agent holds and tells
 * in NS_HELD; what only the records know, once the agent has told all. Where memory or descriptors
 * are short for one of them, it is tried again, less and less often.
 */
#ifndef NSGATE_RECOVER_H
#define NSGATE_RECOVER_H

#include "broker/attachment.h"

/* What systemd kept for us, and what waits in it, before any agent is there. */
void recover_stored(void);

/*
 * The agent holds a namespace since before this broker was born: make it ours, as it is on record.
 * One that is not, the agent is told to let go of. `fds` are taken over.
 */
void recover_adopt(uint64_t cookie, int *fds, unsigned int fd_count);

/* The same where its descriptors could not be received: it is told again later. */
void recover_failed(uint64_t cookie, int err);

/* The agent that told what it holds is gone. */
void recover_agent_lost(void);

/* The agent has told all that it holds. */
void recover_rest(void);

/* Is the namespace that was attached by that name being looked for? It is not to be taken. */
bool recover_seeks(const char *name);

/* The agent will not have it: it is offered again later. */
void recover_refused(struct attachment *attachment);

#endif
