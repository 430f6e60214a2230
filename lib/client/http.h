/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One HTTP request over a unix socket (libcurl). */
#ifndef NSGATE_CTL_HTTP_H
#define NSGATE_CTL_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_BODY_MAX ((size_t)64 * 1024 * 1024)

enum http_outcome {
	HTTP_OUTCOME_ANSWERED,
	HTTP_OUTCOME_NOT_CONNECTED, /* `error` is the errno of the connect */
	HTTP_OUTCOME_TIMED_OUT,
	HTTP_OUTCOME_TOO_LARGE, /* more than HTTP_BODY_MAX */
	HTTP_OUTCOME_BROKEN,	/* not HTTP, cut off, or no memory: see `text` */
};

struct http_answer {
	int code;   /* of HTTP */
	char *body; /* ends in a NUL beyond `length` */
	size_t length;
	int error;
	const char *text; /* static */
};

struct http_request {
	const char *socket_path;
	const char *method;
	const char *path; /* starting with '/', already escaped */
	const char *body; /* sent as application/json; NULL: none */
	size_t length;	  /* of the body, bytes */
	int timeout_ms;	  /* for all of it */
	/*
	 * While the answer is longer in coming than sign_ms: does the other end live? NULL: not
	 * asked. Where it does not, the outcome is TIMED_OUT.
	 */
	bool (*lives)(void *context);
	void *context;
	int sign_ms;
};

/*
 * Ask and read the whole answer.
 * @ret: zeroed by the caller, http_answer_free()d by the caller whatever the outcome
 */
enum http_outcome http_ask(const struct http_request *request, struct http_answer *ret);

void http_answer_free(struct http_answer *answer);

#endif
