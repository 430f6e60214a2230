// SPDX-License-Identifier: GPL-2.0-or-later
#include "http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct collector {
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

static void set_up(CURL *curl, const char *socket_path, const char *method, const char *url,
		   const char *body, size_t length)
{
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever the environment says */
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)HTTP_TIMEOUT_MS);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	if (body != NULL) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)length);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
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

enum http_outcome http_request(const char *socket_path, const char *method, const char *path,
			       const char *body, size_t length, struct http_answer *ret)
{
	struct collector collector = {.answer = ret, .outcome = HTTP_OUTCOME_ANSWERED};
	enum http_outcome outcome = HTTP_OUTCOME_BROKEN;
	struct curl_slist *headers = make_headers();
	CURL *curl = curl_easy_init();
	char *url = NULL;

	ret->text = "out of memory";
	if (curl == NULL || headers == NULL || asprintf(&url, "http://localhost%s", path) < 0)
		goto out;
	set_up(curl, socket_path, method, url, body, length);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &collector);
	outcome = judge(curl, curl_easy_perform(curl), &collector, ret);
	free(url);
out:
	curl_easy_cleanup(curl);
	curl_slist_free_all(headers);
	return outcome;
}

void http_answer_free(struct http_answer *answer)
{
	free(answer->body);
	*answer = (struct http_answer){0};
}
