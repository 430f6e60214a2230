/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What both daemons do before their loops start. Everything here ends the program on failure. */
#ifndef NSGATE_DAEMON_H
#define NSGATE_DAEMON_H

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
