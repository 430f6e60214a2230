// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "log.h"
#include "nsgate/proto.h"

#define LOCK_TRIES 100
#define LOCK_PAUSE_NS 10000000L

unsigned long daemon_number(const char *option, const char *text, unsigned long min,
			    unsigned long max)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || !*text || *end || text[0] == '-' || value < min || value > max)
		die(NSGATE_STATUS_USAGE, "%s: %s is not a number from %lu to %lu", option, text,
		    min, max);
	return value;
}

void daemon_lock(const char *runtime_dir, const char *name, const char *program)
{
	char path[4096];
	int fd;

	if (mkdir(runtime_dir, 0755) < 0 && errno != EEXIST)
		die(1, "cannot make %s: %s", runtime_dir, strerror(errno));
	snprintf(path, sizeof(path), "%s/%s.lock", runtime_dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		die(errno == EACCES ? NSGATE_STATUS_REFUSED : 1, "cannot open %s: %s: run as root",
		    path, strerror(errno));
	/* A child of a daemon that was just killed may hold the lock for a moment longer. */
	for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; tries++) {
		if (tries == LOCK_TRIES)
			die(1, "another %s serves %s: stop it first or use another --runtime-dir",
			    program, runtime_dir);
		nanosleep(&(const struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
	}
}

void daemon_raise_nofile(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

void daemon_must(int err, const char *what)
{
	if (err < 0)
		die(1, "%s: %s", what, strerror(-err));
}
