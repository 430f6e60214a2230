// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc.h"
#include "loop.h"

struct collector {
	const struct http_request *request;
	int64_t sign_at_ms;
	struct http_answer *answer;
	size_t capacity;
	enum http_outcome outcome;
};

/* Bytes of the body (CURLOPT_WRITEFUNCTION); returning less than it got ends the transfer. */
static size_t collect(char *data, size_t size, size_t count, void *context)
{
	struct collector *collector = context;
	struct http_answer *answer = collector->answer;
	size_t length = size * count;

	if (length > HTTP_BODY_MAX - answer->length) {
		collector->outcome = HTTP_OUTCOME_TOO_LARGE;
		return 0;
	}
	if (answer->length + length >= collector->capacity) {
		size_t capacity = 2 * (answer->length + length) + 4096;
		char *grown = realloc(answer->body, capacity);

		if (grown == NULL)
			return 0;
		answer->body = grown;
		collector->capacity = capacity;
	}
	memcpy(answer->body + answer->length, data, length);
	answer->length += length;
	answer->body[answer->length] = '\0';
	return length;
}

static struct curl_slist *make_headers(void)
{
	static const char *const lines[] = {"Connection: close", "Content-Type: application/json",
					    "Expect:", "Accept: application/json"};
	struct curl_slist *list = NULL;

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		struct curl_slist *longer = curl_slist_append(list, lines[i]);

		if (longer == NULL) {
			curl_slist_free_all(list);
			return NULL;
		}
		list = longer;
	}
	return list;
}

/* A CURLOPT_XFERINFOFUNCTION: called about once a second. Return: not 0 to give up. */
static int look_for_life(void *context, curl_off_t download, curl_off_t downloaded,
			 curl_off_t upload, curl_off_t uploaded)
{
	struct collector *collector = context;
	const int64_t now = loop_now_ms();

	(void)download;
	(void)downloaded;
	(void)upload;
	(void)uploaded;
	if (now < collector->sign_at_ms)
		return 0;
	collector->sign_at_ms = now + collector->request->sign_ms;
	if (collector->request->lives(collector->request->context))
		return 0;
	collector->outcome = HTTP_OUTCOME_TIMED_OUT;
	return 1;
}

static void set_up(CURL *curl, const struct http_request *request, const char *url,
		   struct collector *collector)
{
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, request->socket_path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever the environment says */
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, collector);
	if (request->lives != NULL) {
		curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_for_life);
		curl_easy_setopt(curl, CURLOPT_XFERINFODATA, collector);
	}
	if (request->body != NULL) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->length);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

static enum http_outcome judge(CURL *curl, CURLcode result, const struct collector *collector,
			       struct http_answer *ret)
{
	long code = 0, error = 0;

	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
	curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &error);
	ret->code = (int)code;
	ret->error = (int)error;
	ret->text = curl_easy_strerror(result);
	if (collector->outcome != HTTP_OUTCOME_ANSWERED)
		return collector->outcome;

	/* A refused document may be answered before all of it is sent. */
	if (result == CURLE_OK || (result == CURLE_SEND_ERROR && code >= 400))
		return HTTP_OUTCOME_ANSWERED;
	if (result == CURLE_COULDNT_CONNECT) {
		ret->error = error != 0 ? (int)error : ECONNREFUSED;
		return HTTP_OUTCOME_NOT_CONNECTED;
	}
	if (result == CURLE_OPERATION_TIMEDOUT)
		return HTTP_OUTCOME_TIMED_OUT;
	return HTTP_OUTCOME_BROKEN;
}

static enum http_outcome try_once(const struct http_request *request, int timeout_ms,
				  struct http_answer *ret)
{
	struct collector collector = {
		.request = request,
		.answer = ret,
		.outcome = HTTP_OUTCOME_ANSWERED,
		.sign_at_ms = loop_now_ms() + request->sign_ms,
	};
	enum http_outcome outcome = HTTP_OUTCOME_BROKEN;
	struct curl_slist *headers = make_headers();
	CURL *curl = curl_easy_init();
	char *url = NULL;

	ret->text = "out of memory";
	if (curl == NULL || headers == NULL ||
	    asprintf(&url, "http://localhost%s", request->path) < 0)
		goto out;
	set_up(curl, request, url, &collector);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
	outcome = judge(curl, curl_easy_perform(curl), &collector, ret);
	free(url);
out:
	curl_easy_cleanup(curl);
	curl_slist_free_all(headers);
	return outcome;
}

/* The library does not wait where the listening queue is full. Return: whether there is room. */
static bool wait_for_room(const char *path, int64_t until)
{
	const int64_t left = until - loop_now_ms();
	int fd = left > 0 ? ipc_connect_within(path, SOCK_STREAM, (int)left) : -ETIMEDOUT;

	fd_close(&fd);
	return loop_now_ms() < until;
}

enum http_outcome http_ask(const struct http_request *request, struct http_answer *ret)
{
	const int64_t until = loop_now_ms() + request->timeout_ms;
	enum http_outcome outcome;
	int64_t left;

	do {
		left = until - loop_now_ms();
		if (left <= 0)
			return HTTP_OUTCOME_TIMED_OUT;
		outcome = try_once(request, (int)left, ret);
		if (outcome != HTTP_OUTCOME_NOT_CONNECTED || ret->error != EAGAIN)
			return outcome;
	} while (wait_for_room(request->socket_path, until));
	return HTTP_OUTCOME_TIMED_OUT;
}

void http_answer_free(struct http_answer *answer)
{
	free(answer->body);
	*answer = (struct http_answer){0};
}
