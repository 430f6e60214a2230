/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One line per event on stderr, key=value; values are quoted where they need it. */
#ifndef NSGATE_LOG_H
#define NSGATE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* The program's name for the lines, and the least urgent level written (default: info). */
void log_setup(const char *program, enum log_level least);

/*
 * Write `level=... event=EVENT key=value...`. After `event` come pairs of const char *: key,
 * value; a NULL value is left out with its key; the list ends with a NULL key. One write(2).
 */
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));

/* A number as text for log_event(), valid until eight more calls in this thread. */
const char *log_number(int64_t value);

/* strerror() of a positive or negative errno, for log_event(). */
const char *log_errno(int error);

/*
 * At most `per_second` true answers in a second; what was refused is reported by the next true one,
 * or by log_suppressed(), to be asked a second later for when there is none.
 */
struct log_limit {
	int64_t second;
	unsigned int used;
	unsigned int suppressed;
};
bool log_allowed(struct log_limit *limit, unsigned int per_second, unsigned int *ret_suppressed);

/* How many were refused before this second and not reported yet: they are now. */
unsigned int log_suppressed(struct log_limit *limit);

/* Print an error to stderr and exit with `code`. Only before a program's loop starts. */
void die(int code, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

#endif
