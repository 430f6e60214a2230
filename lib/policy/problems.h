/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Collecting what is wrong with a document, and where. */
#ifndef NSGATE_POLICY_PROBLEMS_H
#define NSGATE_POLICY_PROBLEMS_H

#include <stddef.h>

#include "policy/policy.h"

#define POLICY_PATH_MAX 512 /* a deeper or longer pointer is cut off */

/* A JSON pointer that grows and shrinks with the walk through a document. */
struct policy_path {
	char text[POLICY_PATH_MAX];
	size_t length;
};

/* Append a key or an index. Return: the length before, to go back to with policy_path_pop(). */
size_t policy_path_key(struct policy_path *path, const char *key, size_t length);
size_t policy_path_index(struct policy_path *path, size_t index);
void policy_path_pop(struct policy_path *path, size_t length);

/*
 * Note a problem at `path`. The message is one line; bytes that a terminal would act on are
 * replaced. Only counted once the list is full or where memory is short.
 */
void policy_problem(struct policy_problems *problems, const struct policy_path *path,
		    const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The candidate nearest to a misspelt word, or NULL where none is near. */
const char *policy_nearest(const char *word, const char *const *candidates, size_t count);

#endif
