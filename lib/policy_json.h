/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_POLICY_JSON_H
#define NSGATE_POLICY_JSON_H

#include <stddef.h>

#include "policy.h"

#define POLICY_OBJECT_KEYS_MAX 128 /* more than any object of a policy can rightly have */

/*
 * Read a policy's text strictly: RFC 8259 to the letter, valid UTF-8, no key twice in an object,
 * within the limits of size and depth, and an object at the top.
 * @text: `length` bytes and a NUL after them
 * @ret_document: set where the text can be read at all (it may have repeated keys: those are in
 * `problems`); the caller json_object_put()s it
 * Return: 0; -EINVAL with a problem noted; -ENOMEM.
 */
int policy_json_read(const char *text, size_t length, struct json_object **ret_document,
		     struct policy_problems *problems);

#endif
