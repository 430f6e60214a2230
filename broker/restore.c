// SPDX-License-Identifier: GPL-2.0-or-later
#include "restore.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker.h"
#include "enter.h"
#include "members.h"

/* "netns:web" -> "web" */
static const char *after_colon(const char *target)
{
	const char *colon = strchr(target, ':');

	return colon ? colon + 1 : target;
}

/* Only the file of a namespace is opened, whatever the path leads to now. */
static int open_namespace(const char *path)
{
	const struct enter_question question = {.op = NSGATE_ENTER_RESOLVE, .fd = -1, .path = path};
	struct enter_result result;
	int err = enter_call(&question, &result);

	if (err)
		return err;
	return result.fd_count == 1 ? result.fds[0] : -EIO;
}

int restore_target(const struct nsgate_ns_record *record)
{
	const char *name = after_colon(record->target);
	char path[4096];
	pid_t pid;
	int fd;

	switch ((enum nsgate_target_kind)record->target_kind) {
	case NSGATE_TARGET_NETNS:
		snprintf(path, sizeof(path), "%s/%s", broker_config.netns_dir, name);
		return open_namespace(path);
	case NSGATE_TARGET_PATH:
		return open_namespace(name);
	case NSGATE_TARGET_PID:
		if (record->flags & NSGATE_ATTACH_CONTAINER)
			return members_open_any(record);
		if (sscanf(record->target, "pid:%d", &pid) != 1 &&
		    sscanf(record->target, "path:/proc/%d/", &pid) != 1)
			return -EINVAL;
		fd = (int)syscall(SYS_pidfd_open, pid, 0);
		return fd < 0 ? -errno : fd;
	case NSGATE_TARGET_SELF:
	case NSGATE_TARGET_HANDOFF:
		return -EOPNOTSUPP;
	}
	return -EINVAL;
}

int restore_leads_there(const struct nsgate_ns_record *record)
{
	struct stat st;
	int err, target = restore_target(record);

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
