// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/release.h"

#include <stdlib.h>

#include "broker/follow.h"
#include "ipc.h"
#include "broker/members.h"
#include "broker/names.h"
#include "broker/opening.h"

/* Names of the same directory have the same watch. */
static void unfollow_name(struct attachment *attachment)
{
	const int watch = attachment->name_watch;

	attachment->name_watch = -1;
	for (const struct attachment *other = attachment_first(); other; other = other->next)
		if (other->name_watch == watch)
			return;
	names_unfollow(watch);
}

void release_descriptors(struct attachment *attachment)
{
	timer_clear(&attachment->deadline);
	opening_end(attachment);
	follow_forget(attachment);
	if (attachment->name_watch >= 0)
		unfollow_name(attachment);
	members_free(attachment);
	loop_remove(&attachment->links_source);
	loop_remove(&attachment->watch_source);
	loop_remove(&attachment->monitor_source);
	links_close(attachment->links);
	attachment->links = NULL;
	attachment->links_known = LINKS_ALL;
	netns_fds_close(&attachment->netns);
	fd_close(&attachment->shm);
	fd_close(&attachment->watch);
}

void release(struct attachment *attachment)
{
	if (!attachment)
		return;
	attachment_unlist(attachment);
	release_descriptors(attachment);
	free(attachment);
}

void release_to_gone(struct attachment *attachment, bool said)
{
	const uint64_t cookie = attachment->record.cookie;
	const uint32_t remove_id = attachment->remove_id;

	attachment_move(attachment, ATTACHMENT_GONE);
	release_descriptors(attachment);
	attachment_clear(attachment);
	attachment->state = ATTACHMENT_GONE;
	attachment->record.cookie = cookie;
	if (said)
		attachment->remove_id = remove_id;
	else
		attachment->todo = TODO_REMOVE;
}
