/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_POLICY_JSON_H
#define NSGATE_POLICY_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

#define POLICY_OBJECT_KEYS_MAX 128 /* more than any object of a policy can rightly have */

/*
 * The members of one list of a document, each made into a tree when it is asked for: a tree of ten
 * thousand rules takes twenty megabytes.
 */
struct policy_json_list {
	const char *name; /* the list's key in the object at the top */
	size_t max;	  /* further members are only counted */
	const char *text;
	struct policy_json_span {
		uint32_t from, length;
		uint32_t weight; /* that its tree must have */
	} * members;
	size_t count, room;
	size_t from, end; /* of all members */
	bool repeated;	  /* a key in the document, which is no good then: nothing is weighed */
	struct json_tokener *tokener;
};

/*
 * Read a policy's text strictly: RFC 8259 to the letter, valid UTF-8, no key twice in an object,
 * within the limits of size and depth, and an object at the top.
 * @text: `length` bytes and a NUL after them
 * @ret_document: set where the text can be read at all (it may have repeated keys: those are in
 * `problems`); the caller json_object_put()s it
 * Return: 0; -EINVAL with a problem noted; -ENOMEM, also where the tree is not whole.
 */
int policy_json_read(const char *text, size_t length, struct json_object **ret_document,
		     struct policy_problems *problems);

/*
 * The same, but the list `list->name` is empty in the document, if it is there and a list, and its
 * members are in `list`. The caller sets `name` and `max`, the rest to zero; keeps `text`; and
 * frees the list, in any case.
 */
int policy_json_read_list(const char *text, size_t length, struct json_object **ret_document,
			  struct policy_json_list *list, struct policy_problems *problems);
void policy_json_list_free(struct policy_json_list *list);

/*
 * Member `i` of those that were kept. NULL is a null. The caller json_object_put()s it.
 * Return: 0; -ENOMEM; -EINVAL where json-c has a word against it, which the scan found good.
 */
int policy_json_list_get(struct policy_json_list *list, size_t i, struct json_object **ret_member);

#endif
