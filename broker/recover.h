/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * What was attached when another broker ran is on record, and from the start on the list as FOUND
 * (attachment.h). It is put in force again in three steps, each for what the one before did not
 * find: what systemd kept (fdstore.h), at the start; what the agent holds and tells in NS_HELD;
 * what only the records know, once the agent has told all. Where that fails for now, for want of
 * memory or descriptors, say, it stays FOUND and is tried again, less and less often; its name is
 * free for nobody else meanwhile.
 *
 * An owned table is safe only while its owner's socket is open. So at the start, before any agent
 * connects, the rules of all that systemd has not kept whole are installed again, from the records
 * alone, and the socket by which that was done is kept. Whose queues they feed turns out later.
 */
#ifndef NSGATE_RECOVER_H
#define NSGATE_RECOVER_H

#include "broker/attachment.h"

/* The first step, and the rules of the rest. */
void recover_begin(void);

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

/* Is the agent to tell anew what it holds? Asking takes the wish back. */
bool recover_wants_held(void);

/* The agent will not have it: it is offered again later. */
void recover_refused(struct attachment *attachment);

/* Nothing is to be recovered of the namespace of that cookie any more. */
void recover_forget(uint64_t cookie);

/*
 * An attach of a namespace that is being recovered: only the socket that owns its table can change
 * that. Or the attach came to nothing, and the socket is needed on. Return: was there such a one?
 */
void recover_lend_rules(struct attachment *attachment);
bool recover_return_rules(struct attachment *attachment);

#endif
