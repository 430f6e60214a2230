/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What both daemons do before their loops start. Everything here ends the program on failure. */
#ifndef NSGATE_DAEMON_H
#define NSGATE_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* An option of one daemon; one of the three says what becomes of it. Those without `flag` take a
 * value. */
struct daemon_option {
	const char *name;
	bool *flag;
	const char **text; /* as it is in argv */
	void (*take)(const char *value);
};

struct daemon_command_line {
	const char *program, *version;
	void (*usage)(FILE *out);
	const struct daemon_option *options; /* beside those that all have */
	size_t option_count;		     /* at most DAEMON_OPTIONS_MAX */
};

#define DAEMON_OPTIONS_MAX 16

/*
 * Take the options, among them --runtime-dir, --verbose, --help and --version; the last two end
 * the program. optind is at the first argument behind them. Return: the runtime directory.
 */
const char *daemon_options(int argc, char **argv, const struct daemon_command_line *line);

/* Die where arguments are left. */
void daemon_no_arguments(int argc, char **argv);

#define DAEMON_ADMINS_MAX 16

/* Who may do what root may: --admin UID, DAEMON_ADMINS_MAX times at most. */
struct daemon_admins {
	uid_t uids[DAEMON_ADMINS_MAX];
	unsigned int count;
};

void daemon_add_admin(struct daemon_admins *admins, const char *value);
bool daemon_is_admin(const struct daemon_admins *admins, uid_t uid);

/* An option's number in decimal, from `min` to `max`. */
unsigned long daemon_number(const char *option, const char *text, unsigned long min,
			    unsigned long max);

/*
 * Make the runtime directory and lock it by DIR/NAME.lock for as long as the process lives: two of
 * the same daemon on one directory would undo each other's work. `program` is for the message.
 */
void daemon_lock(const char *runtime_dir, const char *name, const char *program);

/* As many descriptors as the hard limit allows. */
void daemon_raise_nofile(void);

/* Die with `what` unless `err` is 0 or more. */
void daemon_must(int err, const char *what);

#endif
