// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/follow.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "ipc.h"
#include "log.h"

/*
 * Whoever attaches from another mount namespace may type what leads nowhere from here, or
 * elsewhere. That is not the end of the namespace, and nothing seen from here will be.
 */
static void judge_name(struct attachment *attachment)
{
	struct nsgate_ns_record *record = &attachment->record;
	const int target = attachment->named;

	attachment->named = -1; /* place_is() closes it */
	if (place_is(record, target) == 0) {
		record->flags |= NSGATE_ATTACH_UNSEEN;
		log_event(
			LOG_LEVEL_WARNING, "name.unseen", "netns", record->name, "target",
			record->target, "why",
			"it does not lead there from where the broker is: the end of the namespace "
			"will not be noticed, detach it then",
			NULL);
	}
	attachment->checked(attachment);
}

static void name_found(struct place_question *question, int target)
{
	struct attachment *attachment = loop_owner(question, struct attachment, look);

	attachment->named = target;
	if (attachment->checked)
		judge_name(attachment);
}

void follow_ask(struct attachment *attachment)
{
	if (!place_is_named(&attachment->record))
		return;
	attachment->named = -EINPROGRESS;
	place_ask(&attachment->look, &attachment->record, name_found);
}

void follow_check(struct attachment *attachment, void (*then)(struct attachment *attachment))
{
	attachment->checked = then;
	if (!place_is_named(&attachment->record))
		then(attachment);
	else if (attachment->named != -EINPROGRESS)
		judge_name(attachment);
}

static void name_looked_at(struct place_question *question, int target)
{
	struct attachment *attachment = loop_owner(question, struct attachment, look);

	if (place_is(&attachment->record, target) == 0)
		attachment_ended(attachment);
}

void follow_look(struct attachment *attachment)
{
	/* The ends of processes are noticed by themselves; a number is of some pid namespace. */
	const bool noticed = attachment->watch >= 0 || attachment->members;

	if (noticed || attachment->record.flags & NSGATE_ATTACH_UNSEEN)
		return;
	place_ask(&attachment->look, &attachment->record, name_looked_at);
}

static void name_followed(struct names_follower *follower, int wd)
{
	struct attachment *attachment = loop_owner(follower, struct attachment, follower);

	attachment->name_watch = wd;
	if (wd < 0)
		log_event(LOG_LEVEL_WARNING, "name.unwatched", "netns", attachment->record.name,
			  "target", attachment->record.target, NULL);
	else
		follow_look(attachment); /* it may have gone in between */
}

void follow_name(struct attachment *attachment)
{
	const struct nsgate_ns_record *record = &attachment->record;
	const char *path = strchr(record->target, '/');

	if (record->target_kind == NSGATE_TARGET_PATH && path &&
	    !(record->flags & NSGATE_ATTACH_UNSEEN))
		names_follow(&attachment->follower, path, name_followed);
}

void follow_forget(struct attachment *attachment)
{
	place_forget(&attachment->look);
	fd_close(&attachment->named);
	names_forget(&attachment->follower);
}
