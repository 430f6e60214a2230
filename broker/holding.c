// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/holding.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "broker/broker.h"
#include "broker/follow.h"
#include "ipc.h"
#include "log.h"
#include "broker/members.h"
#include "broker/names.h"
#include "broker/opening.h"

static struct holding *first;
static unsigned int count;

struct holding *holding_first(void)
{
	return first;
}

unsigned int holding_count(void)
{
	return count;
}

struct holding *holding_find(const char *name)
{
	struct holding *holding = first;

	while (holding && strcmp(holding->record.name, name) != 0)
		holding = holding->next;
	return holding;
}

struct holding *holding_find_cookie(uint64_t cookie)
{
	struct holding *holding = first;

	while (holding && holding->record.cookie != cookie)
		holding = holding->next;
	return holding;
}

struct holding *holding_new(void (*gone)(struct holding *holding),
			    void (*linked)(struct holding *holding))
{
	static const struct kit none = KIT_NONE;
	struct holding *holding = calloc(1, sizeof(*holding));
	struct holding **at;

	if (!holding)
		return NULL;
	holding->gone = gone;
	holding->linked = linked;
	holding->kit = none;
	holding->kit.monitored = !broker_features.owned_tables;
	holding->shm = -1;
	holding->watch = -1;
	holding->name_watch = -1;
	holding->links_source.fd = -1;
	holding->watch_source.fd = -1;
	holding->monitor_source.fd = -1;
	for (at = &first; *at; at = &(*at)->next)
		;
	*at = holding; /* at the end: the agent tells them in the order of attachment */
	count++;
	return holding;
}

/* ---- state ---- */

void holding_judge_state(struct holding *holding)
{
	char reason[NSGATE_TEXT_MAX] = "";

	if (holding->rules_owed)
		snprintf(reason, sizeof(reason),
			 "the rules could not be installed: %s; it is tried again",
			 strerror(-holding->rules_owed));
	else if (holding->links_known == LINKS_LOST)
		snprintf(reason, sizeof(reason),
			 "links that appear from now on are not known by name: detach and attach "
			 "again");
	else if (holding->links_known == LINKS_SHORT)
		snprintf(reason, sizeof(reason),
			 "not all links are known by name, as memory is short; they are looked up "
			 "again");
	if (strcmp(holding->degraded, reason) == 0)
		return;
	memcpy(holding->degraded, reason, sizeof(reason));
	holding->todo |= TODO_STATE;
}

/* ---- links ---- */

#define LINKS_AGAIN_MS 1000

static void renew_links(struct timer *timer);

static struct timer links_timer = {.due = renew_links};

static void links_said(struct holding *holding, enum links_known known, enum log_level level,
		       const char *event)
{
	if (holding->links_known == known)
		return;
	holding->links_known = known;
	log_event(level, event, "netns", holding->record.name, NULL);
	holding_judge_state(holding);
}

static void links_short(struct holding *holding)
{
	if (!timer_is_set(&links_timer))
		timer_set(&links_timer, loop_now_ms() + LINKS_AGAIN_MS);
	links_said(holding, LINKS_SHORT, LOG_LEVEL_WARNING, "links.short");
}

static void links_ready(struct loop_source *source, uint32_t events)
{
	struct holding *holding = loop_owner(source, struct holding, links_source);
	int changed = links_update(holding->links);

	(void)events;
	if (changed == -ENOMEM) {
		links_short(holding);
	} else if (changed < 0) {
		links_said(holding, LINKS_LOST, LOG_LEVEL_WARNING, "links.lost");
		loop_remove(source);
	} else if (changed) {
		links_said(holding, LINKS_ALL, LOG_LEVEL_INFO, "links.healed");
		holding->todo |= TODO_LINKS;
		holding->linked(holding);
	}
}

static void renew_links(struct timer *timer)
{
	(void)timer;
	for (struct holding *holding = first; holding; holding = holding->next)
		if (holding->links_known == LINKS_SHORT && links_renew(holding->links) < 0)
			links_short(holding);
}

static void watch_ready(struct loop_source *source, uint32_t events)
{
	struct holding *holding = loop_owner(source, struct holding, watch_source);

	(void)events;
	loop_remove(source);
	holding->gone(holding);
}

int holding_watch(struct holding *holding)
{
	int err;

	holding->links = links_open(holding->kit.route);
	if (!holding->links)
		return -errno;
	holding->links_source.ready = links_ready;
	err = loop_add(&holding->links_source, holding->kit.route, EPOLLIN);
	if (err || holding->watch < 0)
		return err;
	holding->watch_source.ready = watch_ready;
	return loop_add(&holding->watch_source, holding->watch, EPOLLIN);
}

void holding_offer(struct holding *holding)
{
	holding->todo |= TODO_OFFER | TODO_LINKS;
	if (holding->orphaned || holding->degraded[0])
		holding->todo |= TODO_STATE;
}

static void unlink_holding(const struct holding *holding)
{
	struct holding **at = &first;

	while (*at != holding)
		at = &(*at)->next;
	*at = holding->next;
	count--;
}

/* Names of the same directory have the same watch. */
static void unfollow_name(const struct holding *holding)
{
	for (const struct holding *other = first; other; other = other->next)
		if (other->name_watch == holding->name_watch)
			return;
	names_unfollow(holding->name_watch);
}

void holding_free(struct holding *holding)
{
	if (!holding)
		return;
	unlink_holding(holding);
	timer_clear(&holding->deadline);
	opening_end(holding);
	follow_forget(holding);
	if (holding->name_watch >= 0)
		unfollow_name(holding);
	members_free(holding);
	loop_remove(&holding->links_source);
	loop_remove(&holding->watch_source);
	loop_remove(&holding->monitor_source);
	links_close(holding->links);
	kit_close(&holding->kit);
	fd_close(&holding->shm);
	fd_close(&holding->watch);
	free(holding);
}

unsigned int holding_fds(const struct holding *holding, int *ret_fds)
{
	unsigned int n = NSGATE_NSFD_FIXED;

	ret_fds[NSGATE_NSFD_SHM] = holding->shm;
	ret_fds[NSGATE_NSFD_PROC] = holding->kit.proc;
	ret_fds[NSGATE_NSFD_AUX] = holding->kit.aux;
	if (holding->record.has_watch)
		ret_fds[n++] = holding->watch;
	for (unsigned int i = 0; i < holding->kit.queue_count; i++)
		ret_fds[n++] = holding->kit.queues[i];
	return n;
}
