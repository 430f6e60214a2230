// SPDX-License-Identifier: GPL-2.0-or-later
#include "query.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <string.h>

#include "ctl.h"
#include "document.h"
#include "options.h"
#include "problem.h"

#define DAEMON "nsgate-agent"

enum nsgate_status query_answer(const struct ctl *ctl, const struct query *query,
				struct http_answer *ret, struct failure *fail)
{
	char path[NSGATE_TARGET_MAX];
	int err = options_path(ctl->runtime_dir, QUERY_SOCKET, path, sizeof(path));

	if (err != 0)
		return failure_connect(fail, ctl->runtime_dir, QUERY_SOCKET, DAEMON, err);

	switch (http_request(path, query->method, query->path, query->body, query->length, ret)) {
	case HTTP_OUTCOME_ANSWERED:
		return NSGATE_STATUS_OK;
	case HTTP_OUTCOME_NOT_CONNECTED:
		return failure_connect(fail, ctl->runtime_dir, QUERY_SOCKET, DAEMON, ret->error);
	case HTTP_OUTCOME_TIMED_OUT:
		return failure_connect(fail, ctl->runtime_dir, QUERY_SOCKET, DAEMON, ETIMEDOUT);
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
		document = document_parse(answer.body, answer.length);
		if (document == NULL) {
			status =
				failure_set(fail, NSGATE_STATUS_FAILED,
					    "%s: the answer to %s is not JSON; is it the socket of "
					    "another program than " DAEMON "?",
					    QUERY_SOCKET, query->path);
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
