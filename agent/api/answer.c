// SPDX-License-Identifier: GPL-2.0-or-later
/* Answers and problem documents. What is not sent yet is bounded over all clients together. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api/request.h"
#include "agent/json_writer.h"
#include "policy/policy.h"

#define JSON "application/json"
#define PROBLEM "application/problem+json"
#define PROBLEM_BYTES_MAX (1024 * 1024)
#define DETAIL_MAX 1024

static size_t in_flight; /* bytes of answers that MHD holds */

/* Carries its own length, for the count. */
struct answer {
	size_t length;
	char *data;
};

static void answer_free(void *context)
{
	struct answer *answer = context;

	in_flight -= answer->length;
	free(answer->data);
	free(answer);
}

static struct MHD_Response *make_response(char *data, size_t length)
{
	struct answer *answer = data ? malloc(sizeof(*answer)) : NULL;
	struct MHD_Response *response;

	if (!answer) {
		free(data);
		return NULL;
	}
	*answer = (struct answer){.length = length, .data = data};
	in_flight += length;
	response = MHD_create_response_from_buffer_with_free_callback_cls(length, data, answer_free,
									  answer);
	if (!response)
		answer_free(answer);
	return response;
}

static enum MHD_Result queue(struct api_request *request, unsigned int status,
			     struct MHD_Response *response, const char *content_type,
			     const struct api_header *header)
{
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	if (content_type)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	if (header)
		(void)MHD_add_response_header(response, header->name, header->value);
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	result = MHD_queue_response(request->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

enum MHD_Result api_answer(struct api_request *request, unsigned int status,
			   const char *content_type, char *data, size_t length,
			   const struct api_header *header)
{
	if (in_flight > 0 && length > PROBLEM_BYTES_MAX &&
	    length > API_IN_FLIGHT_MAX -
			     (in_flight < API_IN_FLIGHT_MAX ? in_flight : API_IN_FLIGHT_MAX)) {
		free(data);
		return api_problem(request, MHD_HTTP_SERVICE_UNAVAILABLE, "answers-in-flight",
				   "more than %lu bytes of answers wait for slow readers; read "
				   "them or ask again later",
				   API_IN_FLIGHT_MAX);
	}
	return queue(request, status, make_response(data, length), content_type, header);
}

enum MHD_Result api_answer_json(struct api_request *request, unsigned int status, struct jw *w)
{
	const int error = w->error;
	size_t length = 0;
	char *data = jw_take(w, &length);

	if (error == -EFBIG)
		return api_problem(request, MHD_HTTP_SERVICE_UNAVAILABLE, "answer-too-large",
				   "the answer would be larger than %zu bytes; ask for one "
				   "namespace at a time",
				   w->limit);
	return api_answer(request, status, JSON, data, length, NULL);
}

enum MHD_Result api_answer_copy(struct api_request *request, unsigned int status, const char *data,
				size_t length, const struct api_header *header)
{
	char *copy = malloc(length + 1);

	if (copy)
		memcpy(copy, data, length);
	return api_answer(request, status, JSON, copy, length, header);
}

enum MHD_Result api_answer_empty(struct api_request *request, const struct api_header *header)
{
	return queue(request, MHD_HTTP_NO_CONTENT,
		     MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), NULL,
		     header);
}

/* ---- problem documents ---- */

static void begin_problem(struct jw *w, unsigned int status, const char *code, const char *detail)
{
	jw_init(w, PROBLEM_BYTES_MAX);
	jw_open(w, NULL, '{');
	jw_string(w, "type", "about:blank");
	jw_string(w, "title", MHD_get_reason_phrase_for(status));
	jw_uint(w, "status", status);
	jw_string(w, "code", code);
	jw_string(w, "detail", detail);
}

static enum MHD_Result end_problem(struct api_request *request, unsigned int status, struct jw *w,
				   const struct api_header *header)
{
	size_t length = 0;
	char *data;

	jw_close(w, '}');
	data = jw_take(w, &length);
	return queue(request, status, make_response(data, length), PROBLEM, header);
}

enum MHD_Result api_problem_header(struct api_request *request, unsigned int status,
				   const char *code, const char *detail,
				   const struct api_header *header)
{
	struct jw w;

	begin_problem(&w, status, code, detail);
	return end_problem(request, status, &w, header);
}

enum MHD_Result api_problem(struct api_request *request, unsigned int status, const char *code,
			    const char *format, ...)
{
	char detail[DETAIL_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	return api_problem_header(request, status, code, detail, NULL);
}

enum MHD_Result api_problem_list(struct api_request *request, const char *detail,
				 const struct policy_problems *problems)
{
	const unsigned int status = MHD_HTTP_UNPROCESSABLE_CONTENT;
	struct jw w;

	begin_problem(&w, status, "document-bad", detail);
	jw_open(&w, "errors", '[');
	for (size_t i = 0; i < problems->count; i++) {
		jw_open(&w, NULL, '{');
		jw_string(&w, "pointer", problems->list[i].pointer);
		jw_string(&w, "message", problems->list[i].message);
		jw_close(&w, '}');
	}
	jw_close(&w, ']');
	if (problems->total > problems->count)
		jw_uint(&w, "errors_total", problems->total);
	return end_problem(request, status, &w, NULL);
}

enum MHD_Result api_problem_method(struct api_request *request, const char *path)
{
	char methods[64], detail[DETAIL_MAX];

	api_route_methods(path, methods, sizeof(methods));
	snprintf(detail, sizeof(detail), "%.256s has the methods %s", path, methods);
	return api_problem_header(request, MHD_HTTP_METHOD_NOT_ALLOWED, "method-not-allowed",
				  detail, &(struct api_header){MHD_HTTP_HEADER_ALLOW, methods});
}

/* ---- what handlers ask ---- */

const char *api_query(const struct api_request *request, const char *key)
{
	return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, key);
}

static bool resume_due;

void api_resume(struct MHD_Connection *connection)
{
	MHD_resume_connection(connection);
	resume_due = true;
}

bool api_resume_due(void)
{
	return resume_due;
}

void api_resume_done(void)
{
	resume_due = false;
}
