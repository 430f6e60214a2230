/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running another program and reading what it says. */
#ifndef NSGATE_CTL_CHILD_H
#define NSGATE_CTL_CHILD_H

#include <stddef.h>

struct child_output {
	int status; /* of waitpid() */
	char *text; /* its standard output; NUL beyond its end; free() */
	size_t length;
	char complaint[512]; /* the first line of its standard error */
};

/*
 * Run argv[0], found by PATH, without a shell, its standard input empty.
 * @max: of its standard output, bytes; a program that says more is killed
 * @ret: free(ret->text) whatever the outcome
 * Return: 0 it has ended by itself; -ENOENT there is no such program; -ETIMEDOUT, -EMSGSIZE: it
 * was killed; -errno.
 */
int child_run(char *const argv[], size_t max, int timeout_ms, struct child_output *ret);

#endif
