// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "log.h"
#include "nsgate/proto.h"
#include "options.h"

#define LOCK_TRIES 100
#define LOCK_PAUSE_NS 10000000L

enum { OPTION_RUNTIME_DIR, OPTION_VERBOSE, OPTION_HELP, OPTION_VERSION, OPTION_OWN };

static const struct option common[] = {
	[OPTION_RUNTIME_DIR] = {"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
	[OPTION_VERBOSE] = {"verbose", no_argument, NULL, OPTION_VERBOSE},
	[OPTION_HELP] = {"help", no_argument, NULL, OPTION_HELP},
	[OPTION_VERSION] = {"version", no_argument, NULL, OPTION_VERSION},
};

static void take_own(const struct daemon_option *option, const char *value)
{
	if (option->flag)
		*option->flag = true;
	else if (option->text)
		*option->text = value;
	else
		option->take(value);
}

const char *daemon_options(int argc, char **argv, const struct daemon_command_line *line)
{
	struct option options[OPTION_OWN + DAEMON_OPTIONS_MAX + 1] = {0};
	const char *runtime_dir = NULL;
	int value;

	memcpy(options, common, sizeof(common));
	for (size_t i = 0; i < line->option_count; i++)
		options[OPTION_OWN + i] = (struct option){
			.name = line->options[i].name,
			.has_arg = line->options[i].flag ? no_argument : required_argument,
			.val = OPTION_OWN + (int)i,
		};
	opterr = 0;
	while ((value = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (value) {
		case OPTION_RUNTIME_DIR:
			runtime_dir = optarg;
			break;
		case OPTION_VERBOSE:
			log_setup(line->program, LOG_LEVEL_DEBUG);
			break;
		case OPTION_HELP:
			line->usage(stdout);
			exit(0);
		case OPTION_VERSION:
			printf("%s %s\n", line->program, line->version);
			exit(0);
		case '?':
			die(NSGATE_STATUS_USAGE,
			    "%s: no such option, or its argument is missing: see --help",
			    argv[optind - 1]);
		default:
			take_own(&line->options[value - OPTION_OWN], optarg);
		}
	}
	return options_runtime_dir(runtime_dir);
}

void daemon_no_arguments(int argc, char **argv)
{
	if (optind < argc)
		die(NSGATE_STATUS_USAGE, "%s: no argument is expected, see --help", argv[optind]);
}

void daemon_add_admin(struct daemon_admins *admins, const char *value)
{
	if (admins->count == DAEMON_ADMINS_MAX)
		die(NSGATE_STATUS_USAGE, "--admin: at most %d of them", DAEMON_ADMINS_MAX);
	admins->uids[admins->count++] = (uid_t)daemon_number("--admin", value, 0, 0xfffffffeUL);
}

bool daemon_is_admin(const struct daemon_admins *admins, uid_t uid)
{
	for (unsigned int i = 0; i < admins->count; i++)
		if (admins->uids[i] == uid)
			return true;
	return false;
}

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
