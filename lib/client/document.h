/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading and printing the API's JSON documents. What is missing in one is no error here. */
#ifndef NSGATE_CTL_DOCUMENT_H
#define NSGATE_CTL_DOCUMENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ctl;
struct json_object;

/*
 * Parse exactly one document; json_object_put() frees.
 * @ret: NULL on failure, and for the document null
 * Return: -EINVAL: it is none; -ENOMEM; -EBADMSG: json-c has built less than was written, as memory
 *         was short or a key is given twice.
 */
int document_parse(const char *text, size_t length, struct json_object **ret);

/* What is wrong with a text, of such an error; NULL for 0. */
const char *document_problem(int err);

/* What is below `object` at "key.key"; NULL: nothing. Takes a NULL object. */
struct json_object *document_find(struct json_object *object, const char *path);

/* The string or the number there. */
const char *document_text(struct json_object *object, const char *path, const char *otherwise);
uint64_t document_count(struct json_object *object, const char *path);

/* The process id there; 0: there is none. */
pid_t document_pid(struct json_object *object, const char *path);

/* The object or array there counted; 0: there is none. */
size_t document_length(struct json_object *object, const char *path);

/* Print to stdout: for eyes on a terminal, compact elsewhere. One line feed at the end. */
void document_print(const struct ctl *ctl, struct json_object *object);

#endif
