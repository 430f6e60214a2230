// SPDX-License-Identifier: GPL-2.0-or-later
#include "holding.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "ipc.h"
#include "log.h"
#include "members.h"

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
	holding->shm = -1;
	holding->watch = -1;
	holding->links_source.fd = -1;
	holding->watch_source.fd = -1;
	for (at = &first; *at; at = &(*at)->next)
		;
	*at = holding; /* at the end: the agent tells them in the order of attachment */
	count++;
	return holding;
}

static void links_ready(struct loop_source *source, uint32_t events)
{
	struct holding *holding = loop_owner(source, struct holding, links_source);
	int changed = links_update(holding->links);

	(void)events;
	if (changed < 0) {
		log_event(LOG_LEVEL_WARNING, "links.lost", "netns", holding->record.name, NULL);
		snprintf(holding->degraded, sizeof(holding->degraded),
			 "links that appear from now on are not known by name: detach and attach "
			 "again");
		holding->todo |= TODO_STATE;
		loop_remove(source);
	} else if (changed) {
		holding->todo |= TODO_LINKS;
		holding->linked(holding);
	}
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

void holding_free(struct holding *holding)
{
	if (!holding)
		return;
	unlink_holding(holding);
	members_free(holding);
	loop_remove(&holding->links_source);
	loop_remove(&holding->watch_source);
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
