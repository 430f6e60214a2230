// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/problem.h"

#include <json-c/json.h>

#include "client/document.h"

enum nsgate_status problem_status(int http_code)
{
	if (http_code >= 200 && http_code <= 299)
		return NSGATE_STATUS_OK;
	switch (http_code) {
	case 401:
	case 403:
		return NSGATE_STATUS_REFUSED;
	case 404:
		return NSGATE_STATUS_NOT_FOUND;
	case 503: /* the agent answers, but the broker behind it does not */
		return NSGATE_STATUS_UNREACHABLE;
	default:
		return NSGATE_STATUS_FAILED;
	}
}

/* What to say where the agent did not. */
static const char *remedy(int http_code)
{
	switch (http_code) {
	case 401:
	case 403:
		return "permission denied; run as root or as a user that may change things";
	case 404:
		return "no such thing; nsgatectl ls and nsgatectl policy ls show those there are";
	case 409:
		return "in use; see nsgatectl ls";
	case 422:
		return "the document was refused; mend what is listed below";
	case 503:
		return "the agent is not ready; try again or look at its log";
	default:
		return NULL;
	}
}

static void add_errors(struct json_object *document, const char *prefix, struct failure *fail)
{
	struct json_object *errors = document_find(document, "errors");

	if (!json_object_is_type(errors, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(errors); i++) {
		struct json_object *error = json_object_array_get_idx(errors, i);
		const char *pointer = document_text(error, "pointer", "");
		const char *message = document_text(error, "message", "not said what");

		failure_add(fail, "%s%s%s%s%s", prefix != NULL ? prefix : "",
			    prefix != NULL ? ": " : "", pointer, pointer[0] != '\0' ? ": " : "",
			    message);
	}
}

enum nsgate_status problem_read(int http_code, const char *body, size_t length, const char *what,
				const char *prefix, struct failure *fail)
{
	enum nsgate_status status = problem_status(http_code);
	struct json_object *document;
	const char *text;

	document_parse(body, length, &document); /* without it there is the code */
	text = document_text(document, "detail", NULL);
	if (text == NULL && remedy(http_code) == NULL)
		text = document_text(document, "title", NULL);
	if (text != NULL)
		failure_set(fail, status, "%s%s%s", prefix != NULL ? prefix : "",
			    prefix != NULL ? ": " : "", text);
	else if (remedy(http_code) != NULL)
		failure_set(fail, status, "%s: %s", what, remedy(http_code));
	else
		failure_set(fail, status, "%s: HTTP status %d; look at the log of nsgate-agent",
			    what, http_code);
	add_errors(document, prefix, fail);
	json_object_put(document);
	return status;
}
