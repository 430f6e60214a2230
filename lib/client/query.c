// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/query.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <string.h>

#include "ctl/ctl.h"
#include "client/document.h"
#include "options.h"
#include "client/patience.h"
#include "client/problem.h"

#define DAEMON "nsgate-agent"

/* Is there an answer to a question that takes no time? Who is not there at all is told later. */
static bool answers_within(const char *path, int timeout_ms)
{
	const struct http_request request = {
		.socket_path = path, .method = "GET", .path = "/healthz", .timeout_ms = timeout_ms};
	struct http_answer answer = {0};
	const enum http_outcome outcome = http_ask(&request, &answer);

	http_answer_free(&answer);
	return outcome != HTTP_OUTCOME_TIMED_OUT;
}

static bool lives(void *path)
{
	return answers_within(path, patience_ms());
}

/* The agent does not answer, or it lives and waits for the broker. */
static enum nsgate_status too_long(const struct ctl *ctl, const char *path, struct failure *fail)
{
	if (!answers_within(path, PATIENCE_SIGN_MS))
		return failure_connect(fail, ctl->runtime_dir, QUERY_SOCKET, DAEMON, ETIMEDOUT);
	return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
			   "%s: no answer in time, though " DAEMON " is alive: nsgate-broker may "
			   "not answer it; look at both logs, or wait longer with --timeout",
			   QUERY_SOCKET);
}

enum nsgate_status query_answer(const struct ctl *ctl, const struct query *query,
				struct http_answer *ret, struct failure *fail)
{
	char path[NSGATE_TARGET_MAX];
	const bool lasts = strcmp(query->method, "GET") != 0;
	struct http_request request = {
		.socket_path = path,
		.method = query->method,
		.path = query->path,
		.body = query->body,
		.length = query->length,
		.lives = lasts ? lives : NULL,
		.context = path,
		.sign_ms = patience_ms(),
	};
	int err = options_path(ctl->runtime_dir, QUERY_SOCKET, path, sizeof(path));

	if (err != 0)
		return failure_connect(fail, ctl->runtime_dir, QUERY_SOCKET, DAEMON, err);

	request.timeout_ms = lasts ? patience_long_ms() : patience_ms();
	if (lasts && !lives(path))
		return failure_connect(fail, ctl->runtime_dir, QUERY_SOCKET, DAEMON, ETIMEDOUT);
	switch (http_ask(&request, ret)) {
	case HTTP_OUTCOME_ANSWERED:
		return NSGATE_STATUS_OK;
	case HTTP_OUTCOME_NOT_CONNECTED:
		return failure_connect(fail, ctl->runtime_dir, QUERY_SOCKET, DAEMON, ret->error);
	case HTTP_OUTCOME_TIMED_OUT:
		return too_long(ctl, path, fail);
	case HTTP_OUTCOME_TOO_LARGE:
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "%s: the answer is larger than %zu MiB; ask for one namespace",
				   QUERY_SOCKET, HTTP_BODY_MAX / 1024 / 1024);
	case HTTP_OUTCOME_BROKEN:
		break;
	}
	return failure_set(fail, NSGATE_STATUS_FAILED, "%s: %s; look at the log of " DAEMON,
			   QUERY_SOCKET, ret->text);
}

static enum nsgate_status no_document(const char *path, int err, struct failure *fail)
{
	if (err != 0 && err != -EINVAL)
		return failure_set(fail, NSGATE_STATUS_FAILED, "the answer to %s: %s", path,
				   document_problem(err));
	return failure_set(fail, NSGATE_STATUS_FAILED,
			   "%s: the answer to %s is not JSON; is it the socket of "
			   "another program than " DAEMON "?",
			   QUERY_SOCKET, path);
}

enum nsgate_status query_document(const struct ctl *ctl, const struct query *query,
				  struct json_object **ret, struct failure *fail)
{
	struct json_object *document = NULL;
	struct http_answer answer = {0};
	enum nsgate_status status;

	status = query_answer(ctl, query, &answer, fail);
	if (status == NSGATE_STATUS_OK && problem_status(answer.code) != NSGATE_STATUS_OK)
		status = problem_read(answer.code, answer.body, answer.length, query->path,
				      query->prefix, fail);
	if (status != NSGATE_STATUS_OK)
		goto out;

	if (answer.length > 0) {
		const int err = document_parse(answer.body, answer.length, &document);

		if (document == NULL) {
			status = no_document(query->path, err, fail);
			goto out;
		}
	}
	*ret = document;
out:
	http_answer_free(&answer);
	return status;
}

enum nsgate_status query_get(const struct ctl *ctl, struct failure *fail, struct json_object **ret,
			     const char *format, ...)
{
	char path[256]; /* holds two names and what is around them */
	struct query query = {.method = "GET", .path = path};
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(path, sizeof(path), format, arguments);
	va_end(arguments);
	return query_document(ctl, &query, ret, fail);
}
