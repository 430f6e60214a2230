/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a namespace was attached by: a name, a path, a process. It is looked at when the namespace
 * is attached, when a name has gone, and after both daemons died, to find it again. A path may hang
 * for as long as it likes; nsgate-enter walks it, and whoever asks is called back.
 */
#ifndef NSGATE_PLACE_H
#define NSGATE_PLACE_H

#include "broker/enter.h"
#include "nsgate/proto.h"

struct place_question {
	struct enter_pending pending;
	char *path;
	/* `target`: a netns fd or pidfd, now the asker's, or -errno as below. */
	void (*done)(struct place_question *question, int target);
};

/*
 * What does it lead to? `done` gets a descriptor, or -ENOENT or -ESRCH: nothing; -EOPNOTSUPP: it
 * was attached as `self` or by a handoff, which hands in again itself; -errno: it cannot be told.
 */
void place_ask(struct place_question *question, const struct nsgate_ns_record *record,
	       void (*done)(struct place_question *question, int target));

/* Nobody waits for the answer any more; harmless where nobody did. */
void place_forget(struct place_question *question);

/* The same, at once, for what was attached by a process. */
int place_process(const struct nsgate_ns_record *record);

/* Is it named by something that can be taken away? */
bool place_is_named(const struct nsgate_ns_record *record);

/*
 * Is `target`, as place_ask() found it, that namespace? Of a process it is only told that it is
 * there. The descriptor is closed. Return: 1, 0, or -errno where it cannot be told.
 */
int place_is(const struct nsgate_ns_record *record, int target);

#endif
