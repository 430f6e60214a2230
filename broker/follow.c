// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/follow.h"

#include <stddef.h>
#include <string.h>

#include "log.h"

/*
 * Whoever attaches from another mount namespace may type what leads nowhere from here, or
 * elsewhere. That is not the end of the namespace, and nothing seen from here will be.
 */
static void checked(struct place_question *question, int target)
{
	struct holding *holding = loop_owner(question, struct holding, look);
	struct nsgate_ns_record *record = &holding->record;

	if (place_is(record, target) == 0) {
		record->flags |= NSGATE_ATTACH_UNSEEN;
		log_event(
			LOG_LEVEL_WARNING, "name.unseen", "netns", record->name, "target",
			record->target, "why",
			"it does not lead there from where the broker is: the end of the namespace "
			"will not be noticed, detach it then",
			NULL);
	}
	holding->checked(holding);
}

void follow_check(struct holding *holding, void (*then)(struct holding *holding))
{
	holding->checked = then;
	if (place_is_named(&holding->record))
		place_ask(&holding->look, &holding->record, checked);
	else
		then(holding);
}

static void looked(struct place_question *question, int target)
{
	struct holding *holding = loop_owner(question, struct holding, look);

	if (place_is(&holding->record, target) == 0)
		holding->gone(holding);
}

void follow_look(struct holding *holding)
{
	/* The ends of processes are noticed by themselves; a number is of some pid namespace. */
	const bool noticed = holding->watch >= 0 || holding->members;

	if (noticed || holding->record.flags & NSGATE_ATTACH_UNSEEN)
		return;
	place_ask(&holding->look, &holding->record, looked);
}

static void followed(struct names_follower *follower, int wd)
{
	struct holding *holding = loop_owner(follower, struct holding, follower);

	holding->name_watch = wd;
	if (wd < 0)
		log_event(LOG_LEVEL_WARNING, "name.unwatched", "netns", holding->record.name,
			  "target", holding->record.target, NULL);
	else
		follow_look(holding); /* it may have gone in between */
}

void follow_name(struct holding *holding)
{
	const struct nsgate_ns_record *record = &holding->record;
	const char *path = strchr(record->target, '/');

	if (record->target_kind == NSGATE_TARGET_PATH && path &&
	    !(record->flags & NSGATE_ATTACH_UNSEEN))
		names_follow(&holding->follower, path, followed);
}

void follow_forget(struct holding *holding)
{
	place_forget(&holding->look);
	names_forget(&holding->follower);
}
