// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/place.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/broker.h"
#include "loop.h"
#include "broker/members.h"

/* "netns:web" -> "web" */
static const char *after_colon(const char *target)
{
	const char *colon = strchr(target, ':');

	return colon ? colon + 1 : target;
}

bool place_is_named(const struct nsgate_ns_record *record)
{
	return record->target_kind == NSGATE_TARGET_NETNS ||
	       record->target_kind == NSGATE_TARGET_PATH;
}

int place_process(const struct nsgate_ns_record *record)
{
	pid_t pid;
	int fd;

	if (record->target_kind != NSGATE_TARGET_PID)
		return place_is_named(record) ? -EINVAL : -EOPNOTSUPP;
	if (record->flags & NSGATE_ATTACH_CONTAINER)
		return members_open_any(record);
	if (sscanf(record->target, "pid:%d", &pid) != 1 &&
	    sscanf(record->target, "path:/proc/%d/", &pid) != 1)
		return -EINVAL;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	return fd < 0 ? -errno : fd;
}

static void drop_path(struct place_question *question)
{
	free(question->path);
	question->path = NULL;
}

static void place_answered(struct enter_pending *pending, int err, struct enter_result *result)
{
	struct place_question *question = loop_owner(pending, struct place_question, pending);

	drop_path(question);
	if (!err && result->fd_count != 1)
		err = -EIO;
	question->done(question, err ? err : result->fds[0]);
}

static char *path_of(const struct nsgate_ns_record *record)
{
	const char *name = after_colon(record->target);
	char *path = NULL;

	if (record->target_kind == NSGATE_TARGET_PATH)
		return strdup(name);
	return asprintf(&path, "%s/%s", broker_config.netns_dir, name) < 0 ? NULL : path;
}

void place_ask(struct place_question *question, const struct nsgate_ns_record *record,
	       void (*done)(struct place_question *question, int target))
{
	struct enter_question path = {.op = NSGATE_ENTER_RESOLVE, .fd = -1};

	place_forget(question);
	question->done = done;
	if (!place_is_named(record)) {
		enter_answer(&question->pending, place_process(record), place_answered);
		return;
	}
	question->path = path_of(record);
	path.path = question->path;
	if (path.path)
		enter_ask(&question->pending, &path, place_answered);
	else
		enter_answer(&question->pending, -ENOMEM, place_answered);
}

void place_forget(struct place_question *question)
{
	enter_forget(&question->pending);
	drop_path(question);
}

int place_is(const struct nsgate_ns_record *record, int target)
{
	struct stat st;
	int err;

	if (target == -ENOENT || target == -ESRCH)
		return 0;
	if (target < 0)
		return target;
	err = fstat(target, &st) < 0 ? -errno : 0;
	close(target);
	if (err)
		return err;
	/* A pidfd's inode says nothing. */
	return record->target_kind == NSGATE_TARGET_PID || st.st_ino == record->inode;
}
