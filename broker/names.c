// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/names.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "broker/enter.h"
#include "ipc.h"
#include "loop.h"

static struct loop_source inotify = {.fd = -1};
static void (*tell_removed)(const char *name);
static char netns_dir[PATH_MAX];
static int netns_watch = -1, parent_watch = -1; /* for as long as we run */

/* IN_MASK_ADD: it may be watched already, for another reason. */
#define REMOVALS (IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR | IN_MASK_ADD)

static struct enter_question watch_question(uint32_t mask)
{
	return (struct enter_question){.op = NSGATE_ENTER_WATCH, .fd = inotify.fd, .mask = mask};
}

/* Of a directory that the operator named. Return: the watch, or -errno. */
static int watch_dir(const char *dir, uint32_t mask)
{
	struct enter_question question = watch_question(mask);
	struct enter_result result;
	int err;

	question.path = dir;
	err = enter_call(&question, &result);
	return err ? err : result.answer.number;
}

static void handle_event(const struct inotify_event *event)
{
	const bool lost = event->mask & IN_Q_OVERFLOW; /* news, as somebody was too busy there */
	const bool made = event->mask & (IN_CREATE | IN_MOVED_TO);

	/* The directory of `ip netns` appears with the first name after a boot. */
	if (made || lost)
		netns_watch = watch_dir(netns_dir, REMOVALS);
	if (lost)
		tell_removed(NULL);
	else if (!made && event->len)
		tell_removed(event->name);
}

static void names_ready(struct loop_source *source, uint32_t events)
{
	char buffer[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t length = read(source->fd, buffer, sizeof(buffer));

	(void)events;
	for (ssize_t at = 0; at < length;) {
		const struct inotify_event *event = (const void *)(buffer + at);

		at += (ssize_t)(sizeof(*event) + event->len);
		handle_event(event);
	}
}

static void way_watched(struct enter_pending *pending, int err, struct enter_result *result)
{
	struct names_follower *follower = loop_owner(pending, struct names_follower, pending);

	free(follower->dir);
	follower->dir = NULL;
	follower->done(follower, err ? err : result->answer.number);
}

void names_follow(struct names_follower *follower, const char *path,
		  void (*done)(struct names_follower *follower, int wd))
{
	struct enter_question question = watch_question(REMOVALS);

	follower->done = done;
	follower->dir = strdup(path);
	if (!follower->dir) {
		enter_answer(&follower->pending, -ENOMEM, way_watched);
		return;
	}
	question.path = dirname(follower->dir);
	enter_ask(&follower->pending, &question, way_watched);
}

void names_forget(struct names_follower *follower)
{
	enter_forget(&follower->pending);
	free(follower->dir);
	follower->dir = NULL;
}

void names_unfollow(int wd)
{
	if (wd != netns_watch && wd != parent_watch)
		inotify_rm_watch(inotify.fd, wd);
}

int names_watch(const char *dir, void (*removed)(const char *name))
{
	char parent[PATH_MAX];
	int err, fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd < 0)
		return -errno;
	tell_removed = removed;
	snprintf(netns_dir, sizeof(netns_dir), "%s", dir);
	inotify.ready = names_ready;
	err = loop_add(&inotify, fd, EPOLLIN);
	if (err) {
		close(fd);
		return err;
	}
	snprintf(parent, sizeof(parent), "%s", dir);
	parent_watch = watch_dir(dirname(parent), IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
	netns_watch = watch_dir(netns_dir, REMOVALS);
	return 0;
}

void names_close(void)
{
	int fd = inotify.fd;

	loop_remove(&inotify);
	fd_close(&fd);
}
