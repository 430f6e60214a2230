// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/attachment.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "broker/broker.h"
#include "ipc.h"
#include "log.h"

static struct attachment *first;

static void (*tell_ended)(struct attachment *attachment);
static void (*tell_linked)(struct attachment *attachment);

/* ---- the list ---- */

struct attachment *attachment_first(void)
{
	return first;
}

/* A handoff brings its namespace itself, by the same name. */
bool attachment_is_current(const struct attachment *attachment)
{
	if (attachment->recovering)
		return attachment->on_record &&
		       attachment->record.target_kind != NSGATE_TARGET_HANDOFF;
	return attachment->state != ATTACHMENT_GONE;
}

static bool is_here(const struct attachment *attachment)
{
	return attachment->state != ATTACHMENT_GONE && !attachment->recovering;
}

unsigned int attachment_count(void)
{
	unsigned int count = 0;

	for (const struct attachment *attachment = first; attachment; attachment = attachment->next)
		count += is_here(attachment);
	return count;
}

struct attachment *attachment_find(const char *name)
{
	struct attachment *attachment = first;

	while (attachment &&
	       !(attachment_is_current(attachment) && strcmp(attachment->record.name, name) == 0))
		attachment = attachment->next;
	return attachment;
}

struct attachment *attachment_find_cookie(uint64_t cookie)
{
	struct attachment *attachment = first;

	while (attachment && !(is_here(attachment) && attachment->record.cookie == cookie))
		attachment = attachment->next;
	return attachment;
}

struct attachment *attachment_find_recovering(uint64_t cookie)
{
	struct attachment *attachment = first;

	while (attachment && !(attachment->recovering && attachment->record.cookie == cookie))
		attachment = attachment->next;
	return attachment;
}

struct attachment *attachment_find_gone(uint64_t cookie)
{
	struct attachment *attachment = first;

	while (attachment &&
	       !(attachment->state == ATTACHMENT_GONE && attachment->record.cookie == cookie))
		attachment = attachment->next;
	return attachment;
}

void attachment_handlers(void (*gone)(struct attachment *attachment),
			 void (*linked)(struct attachment *attachment))
{
	tell_ended = gone;
	tell_linked = linked;
}

void attachment_clear(struct attachment *attachment)
{
	static const struct attachment none = {
		.netns = NETNS_FDS_NONE,
		.shm = -1,
		.watch = -1,
		.name_watch = -1,
		.named = -1,
		.links_source.fd = -1,
		.watch_source.fd = -1,
		.monitor_source.fd = -1,
	};
	struct attachment *next = attachment->next;

	*attachment = none;
	attachment->next = next;
	attachment->netns.monitored = !broker_features.owned_tables;
}

struct attachment *attachment_new(void)
{
	struct attachment *attachment = calloc(1, sizeof(*attachment));
	struct attachment **at;

	if (!attachment)
		return NULL;
	attachment_clear(attachment);
	for (at = &first; *at; at = &(*at)->next)
		;
	*at = attachment; /* at the end: the agent tells them in the order of attachment */
	return attachment;
}

void attachment_unlist(struct attachment *attachment)
{
	struct attachment **at = &first;

	while (*at != attachment)
		at = &(*at)->next;
	*at = attachment->next;
}

/* ---- states ---- */

void attachment_move(struct attachment *attachment, enum attachment_state state)
{
	/* From each of them to which; see attachment.h. */
	static const unsigned int follows[ATTACHMENT_STATES] = {
		[ATTACHMENT_FOUND] =
			1 << ATTACHMENT_OPENED | 1 << ATTACHMENT_IN_FORCE | 1 << ATTACHMENT_GONE,
		[ATTACHMENT_OPENED] = 1 << ATTACHMENT_OFFERED,
		[ATTACHMENT_OFFERED] =
			1 << ATTACHMENT_IN_FORCE | 1 << ATTACHMENT_DRAINING | 1 << ATTACHMENT_GONE,
		[ATTACHMENT_IN_FORCE] = 1 << ATTACHMENT_DRAINING | 1 << ATTACHMENT_GONE,
		[ATTACHMENT_DRAINING] = 1 << ATTACHMENT_GONE,
	};

	assert(follows[attachment->state] & 1U << state);
	attachment->state = state;
	attachment->recovering = false;
}

void attachment_ended(struct attachment *attachment)
{
	tell_ended(attachment);
}

void attachment_update_degraded(struct attachment *attachment)
{
	char reason[NSGATE_TEXT_MAX] = "";

	if (attachment->rules_owed)
		snprintf(reason, sizeof(reason),
			 "the rules could not be installed: %s; it is tried again",
			 strerror(-attachment->rules_owed));
	else if (attachment->links_known == LINKS_LOST)
		snprintf(reason, sizeof(reason),
			 "links that appear from now on are not known by name: detach and attach "
			 "again");
	else if (attachment->links_known == LINKS_SHORT)
		snprintf(reason, sizeof(reason),
			 "not all links are known by name, as memory is short; they are looked up "
			 "again");
	if (strcmp(attachment->degraded, reason) == 0)
		return;
	memcpy(attachment->degraded, reason, sizeof(reason));
	attachment->todo |= TODO_STATE;
}

/* ---- links ---- */

#define LINKS_AGAIN_MS 1000

static void renew_links(struct timer *timer);

static struct timer links_timer = {.due = renew_links};

static void links_said(struct attachment *attachment, enum links_known known, enum log_level level,
		       const char *event)
{
	if (attachment->links_known == known)
		return;
	attachment->links_known = known;
	log_event(level, event, "netns", attachment->record.name, NULL);
	attachment_update_degraded(attachment);
}

static void links_short(struct attachment *attachment)
{
	if (!timer_is_set(&links_timer))
		timer_set(&links_timer, loop_now_ms() + LINKS_AGAIN_MS);
	links_said(attachment, LINKS_SHORT, LOG_LEVEL_WARNING, "links.short");
}

static void links_ready(struct loop_source *source, uint32_t events)
{
	struct attachment *attachment = loop_owner(source, struct attachment, links_source);
	int changed = links_update(attachment->links);

	(void)events;
	if (changed == -ENOMEM) {
		links_short(attachment);
	} else if (changed < 0) {
		links_said(attachment, LINKS_LOST, LOG_LEVEL_WARNING, "links.lost");
		loop_remove(source);
	} else if (changed) {
		links_said(attachment, LINKS_ALL, LOG_LEVEL_INFO, "links.healed");
		attachment->todo |= TODO_LINKS;
		tell_linked(attachment);
	}
}

static void renew_links(struct timer *timer)
{
	(void)timer;
	for (struct attachment *attachment = first; attachment; attachment = attachment->next)
		if (attachment->links_known == LINKS_SHORT && links_renew(attachment->links) < 0)
			links_short(attachment);
}

static void watch_ready(struct loop_source *source, uint32_t events)
{
	struct attachment *attachment = loop_owner(source, struct attachment, watch_source);

	(void)events;
	loop_remove(source);
	tell_ended(attachment);
}

int attachment_watch(struct attachment *attachment)
{
	int err;

	attachment->links = links_open(attachment->netns.route);
	if (!attachment->links)
		return -errno;
	attachment->links_source.ready = links_ready;
	err = loop_add(&attachment->links_source, attachment->netns.route, EPOLLIN);
	if (err || attachment->watch < 0)
		return err;
	attachment->watch_source.ready = watch_ready;
	return loop_add(&attachment->watch_source, attachment->watch, EPOLLIN);
}

void attachment_offer(struct attachment *attachment)
{
	attachment->todo |= TODO_OFFER | TODO_LINKS;
	if (attachment->orphaned || attachment->degraded[0])
		attachment->todo |= TODO_STATE;
}

unsigned int attachment_fds(const struct attachment *attachment, int *ret_fds)
{
	unsigned int n = NSGATE_NSFD_FIXED;

	ret_fds[NSGATE_NSFD_SHM] = attachment->shm;
	ret_fds[NSGATE_NSFD_PROC] = attachment->netns.proc;
	ret_fds[NSGATE_NSFD_AUX] = attachment->netns.aux;
	if (attachment->record.has_watch)
		ret_fds[n++] = attachment->watch;
	for (unsigned int i = 0; i < attachment->netns.queue_count; i++)
		ret_fds[n++] = attachment->netns.queues[i];
	return n;
}
