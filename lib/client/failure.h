/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why a command failed. Whatever notices a failure describes it here, once, and hands the status
 * up; main() prints it. The text is one line, "what: why; what to do", without the program's name.
 */
#ifndef NSGATE_CTL_FAILURE_H
#define NSGATE_CTL_FAILURE_H

#include <stdbool.h>
#include <stdio.h>

#include "nsgate/proto.h"

struct failure {
	char text[1024]; /* empty: the command has said all there is to say itself */
	char **details;	 /* lines for below the text: the problems of a document */
	size_t detail_count;
};

/* Set the text; control characters in it become '?'. Return: `status`. */
enum nsgate_status failure_set(struct failure *fail, enum nsgate_status status, const char *format,
			       ...) __attribute__((format(printf, 3, 4)));

/* Add a line. It is dropped where there is no memory for it. */
void failure_add(struct failure *fail, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Connecting to a daemon's socket failed.
 * @socket: the file's name in the runtime directory
 * @daemon: the program that should listen there
 * @error: errno or -errno of the connect
 */
enum nsgate_status failure_connect(struct failure *fail, const char *runtime_dir,
				   const char *socket, const char *daemon, int error);

/* Print "PROGRAM: TEXT" and the details. */
void failure_print(const struct failure *fail, const char *program, FILE *to);

void failure_free(struct failure *fail); /* frees what it holds, not itself */

/* Replace what a terminal would obey, in place: control characters of ASCII and of UTF-8's C1. */
void text_clean(char *text);

#endif
