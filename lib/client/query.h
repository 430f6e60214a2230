/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking the agent's API on api.sock. */
#ifndef NSGATE_CTL_QUERY_H
#define NSGATE_CTL_QUERY_H

#include <stddef.h>

#include "client/failure.h"
#include "client/http.h"

#define QUERY_SOCKET "api.sock"

struct ctl;
struct json_object;

struct query {
	const char *method;
	const char *path;   /* names in it are checked ones: nothing to escape */
	const char *body;   /* NULL: none */
	size_t length;	    /* of the body, bytes */
	const char *prefix; /* for the lines of a refused document: its file */
};

/*
 * Ask. Any answer is an answer here, 404 too.
 * @ret: zeroed by the caller, http_answer_free()d by the caller whatever the outcome
 * Return: OK, or the status with the reason in `fail`.
 */
enum nsgate_status query_answer(const struct ctl *ctl, const struct query *query,
				struct http_answer *ret, struct failure *fail);

/*
 * Ask and read the JSON of a good answer.
 * @ret: json_object_put() frees; NULL for an empty body; untouched on failure
 */
enum nsgate_status query_document(const struct ctl *ctl, const struct query *query,
				  struct json_object **ret, struct failure *fail);

/* GET a path that printf() makes. */
enum nsgate_status query_get(const struct ctl *ctl, struct failure *fail, struct json_object **ret,
			     const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
