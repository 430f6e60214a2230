// SPDX-License-Identifier: GPL-2.0-or-later
#include "restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker.h"

/* "netns:web" -> "web" */
static const char *after_colon(const char *target)
{
	const char *colon = strchr(target, ':');

	return colon ? colon + 1 : target;
}

static int open_or_errno(const char *path)
{
	/* O_NONBLOCK: whatever stands at that path now must not hold the broker up. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
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
		return open_or_errno(path);
	case NSGATE_TARGET_PATH:
		return open_or_errno(name);
	case NSGATE_TARGET_PID:
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
