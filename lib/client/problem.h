/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an HTTP answer other than 2xx means for nsgatectl (problem+json, RFC 9457). */
#ifndef NSGATE_CTL_PROBLEM_H
#define NSGATE_CTL_PROBLEM_H

#include <stddef.h>

#include "client/failure.h"

/* The exit code for an HTTP status code; 2xx is OK. */
enum nsgate_status problem_status(int http_code);

/*
 * Describe an answer: its "detail", else its "title", else the code; and every entry of "errors" as
 * a line "PREFIX: POINTER: MESSAGE".
 * @what: what was asked for, where the answer does not say
 * @prefix: the file that was sent, before all lines; NULL: lines are "POINTER: MESSAGE"
 * Return: problem_status().
 */
enum nsgate_status problem_read(int http_code, const char *body, size_t length, const char *what,
				const char *prefix, struct failure *fail);

#endif
