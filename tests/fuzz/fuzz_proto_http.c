/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: a byte that says how a client's stream is cut, then the stream.
 *
 * Must hold: in pieces the requests, their places and the end are those of the stream in one piece,
 * and those that a plain reading finds, which looks for whole lines in the whole stream.
 */
#include <strings.h>

#include "fuzz.h"
#include "proto/http.h"

#define REQUESTS_MAX 64

struct found {
	size_t count;
	bool refused;
	struct {
		size_t end;
		struct http_request request;
	} list[REQUESTS_MAX];
};

/* ---- the plain reading: by copies of lines, ended by NUL ---- */

struct plain {
	const char *bytes;
	size_t length, at;
};

/* The next line. Return: its length; -1 it has not ended yet; -2 it ends wrongly. */
static long plain_line(struct plain *plain, char *line, size_t size)
{
	for (size_t i = plain->at; i < plain->length; i++) {
		const char c = plain->bytes[i];

		if (c == '\n')
			return -2;
		if (c == '\r') {
			const size_t length = i - plain->at;

			if (i + 1 >= plain->length)
				return -1;
			if (plain->bytes[i + 1] != '\n' || length >= size)
				return -2;
			memcpy(line, plain->bytes + plain->at, length);
			line[length] = '\0';
			plain->at = i + 2;
			return (long)length;
		}
		if (((unsigned char)c < 32 && c != '\t') || c == 127)
			return -2;
	}
	return -1;
}

static bool only(const char *text, const char *of)
{
	return *text && !text[strspn(text, of)];
}

#define DIGITS "0123456789"
#define TOKEN "!#$%&'*+-.^_`|~" DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool plain_visible(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c <= 32 || *c > 126)
			return false;
	return *text;
}

static bool plain_host(char *text, struct domain *host, uint16_t *port)
{
	char *end = text + strcspn(text, ":");
	long number;

	memset(host, 0, sizeof(*host));
	*port = 0;
	if (!plain_visible(text))
		return false;
	if (*text == '[') {
		end = strchr(text, ']');
		if (!end || end == text + 1 ||
		    strspn(text + 1, DIGITS "abcdefABCDEF:.") != (size_t)(end - text - 1))
			return false;
		end++;
	} else if (end == text || (strspn(text, DIGITS ".") < (size_t)(end - text) &&
				   domain_from_host(host, text, (size_t)(end - text)) < 0)) {
		return false;
	}
	if (!*end)
		return true;
	number = strtol(end + 1, NULL, 10);
	*port = (uint16_t)number;
	return *end == ':' && only(end + 1, DIGITS) && strlen(end + 1) <= 5 && number > 0 &&
	       number < 65536;
}

struct plain_head {
	int hosts, lengths, codings;
	char host[HTTP_HEAD_MAX + 1], authority[HTTP_HEAD_MAX + 1];
	uint64_t length;
	bool old;
};

static bool plain_request(char *line, struct plain_head *head, struct http_request *request)
{
	char *target = strchr(line, ' '), *version;

	if (!target)
		return false;
	*target++ = '\0';
	version = strchr(target, ' ');
	if (!version)
		return false;
	*version++ = '\0';
	head->old = strcmp(version, "HTTP/1.0") == 0;
	if (!only(line, TOKEN) || strlen(line) > 32 || strcmp(line, "CONNECT") == 0 ||
	    (!head->old && strcmp(version, "HTTP/1.1") != 0) || !plain_visible(target))
		return false;
	snprintf(request->method, sizeof(request->method), "%s", line);
	if (*target == '/' || (strcmp(target, "*") == 0 && strcmp(line, "OPTIONS") == 0))
		return true;
	if (strncasecmp(target, "http://", 7) != 0)
		return false;
	memcpy(head->authority, target + 7, strcspn(target + 7, "/?#"));
	return *head->authority;
}

static bool plain_field(char *line, struct plain_head *head)
{
	static const char *const known[] = {"host", "content-length", "transfer-encoding",
					    "upgrade", "http2-settings"};
	char *value = strchr(line, ':'), name[HTTP_HEAD_MAX + 1];
	size_t which = 0;

	if (!value)
		return false;
	*value++ = '\0';
	if (!only(line, TOKEN))
		return false;
	value += strspn(value, " \t");
	for (size_t i = strlen(value); i > 0 && strchr(" \t", value[i - 1]); i--)
		value[i - 1] = '\0';
	snprintf(name, sizeof(name), "%s", line);
	for (char *c = name; *c; c++)
		*c = *c == '_' ? '-' : *c;
	while (which < 5 && strcasecmp(name, known[which]) != 0)
		which++;
	if (which < 5 && (strchr(line, '_') || which > 2))
		return false;
	if (which == 0) {
		head->hosts++;
		snprintf(head->host, sizeof(head->host), "%s", value);
	} else if (which == 1) {
		head->lengths++;
		head->length = strtoull(value, NULL, 10);
		return only(value, DIGITS) && strlen(value) <= 18;
	} else if (which == 2) {
		head->codings++;
		return strcasecmp(value, "chunked") == 0;
	}
	return true;
}

/* Return: 1 a head was read; 0 there is no whole one; -1 it is refused. */
static int plain_head(struct plain *plain, struct plain_head *head, struct http_request *request)
{
	static char line[HTTP_HEAD_MAX + 1];
	const size_t begin = plain->at;
	bool good = true, first = true;
	struct domain domain;
	uint16_t port;
	long length;

	memset(head, 0, sizeof(*head));
	while ((length = plain_line(plain, line, sizeof(line))) > 0) {
		/* It is only said at the end what is wrong with a line. */
		if (good)
			good = first ? plain_request(line, head, request) : plain_field(line, head);
		first = false;
	}
	if (plain->length - begin > HTTP_HEAD_MAX &&
	    (length < 0 || plain->at - begin > HTTP_HEAD_MAX))
		return -1;
	if (length == -1 && first && plain->at < plain->length && plain->bytes[plain->at] == '\r')
		return -1;
	if (length < 0)
		return length == -1 ? 0 : -1;
	if (first || !good || head->hosts != 1 ||
	    !plain_host(head->host, &request->host, &request->port))
		return -1;
	if (*head->authority &&
	    (!plain_host(head->authority, &domain, &port) || port != request->port ||
	     strcmp(domain.text, request->host.text) != 0 ||
	     (!*domain.text && strcmp(head->authority, head->host) != 0)))
		return -1;
	return head->lengths + head->codings > 1 || (head->codings && head->old) ? -1 : 1;
}

/* Return: as above, of a body in chunks. */
static int plain_chunks(struct plain *plain)
{
	for (;;) {
		size_t digits = 0;
		uint64_t size = 0;

		for (; plain->at < plain->length &&
		       strchr(DIGITS "abcdefABCDEF", plain->bytes[plain->at]) &&
		       plain->bytes[plain->at];
		     plain->at++, digits++) {
			const char c = plain->bytes[plain->at];

			if (digits == 15)
				return -1;
			size = size * 16 + (uint64_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
		}
		if (plain->at < plain->length && (plain->bytes[plain->at] != '\r' || !digits))
			return -1;
		if (plain->at + 1 < plain->length && plain->bytes[plain->at + 1] != '\n')
			return -1;
		if (plain->at + 2 > plain->length)
			return 0;
		plain->at += 2;
		if (plain->length - plain->at < size)
			return 0;
		plain->at += size;
		for (int i = 0; i < 2; i++, plain->at++) {
			if (plain->at >= plain->length)
				return 0;
			if (plain->bytes[plain->at] != "\r\n"[i])
				return -1;
		}
		if (!size)
			return 1;
	}
}

static void plain_read(const uint8_t *data, size_t length, struct found *found)
{
	static struct plain_head head;
	struct plain plain = {.bytes = (const char *)data, .length = length};

	found->count = 0;
	found->refused = false;
	while (plain.at < length && found->count < REQUESTS_MAX) {
		int result = plain_head(&plain, &head, &found->list[found->count].request);

		found->refused = result < 0;
		if (result <= 0)
			return;
		found->list[found->count++].end = plain.at;
		if (head.codings)
			result = plain_chunks(&plain);
		found->refused = result < 0;
		if (result <= 0 || head.length > length - plain.at)
			return;
		plain.at += head.length;
	}
}

/* ---- the reader ---- */

static void read_pieces(const uint8_t *data, size_t length, size_t piece, struct found *found)
{
	static struct http_reader reader;
	size_t used;

	memset(&reader, 0, offsetof(struct http_reader, head));
	found->count = 0;
	found->refused = false;
	for (size_t at = 0; at < length && found->count < REQUESTS_MAX; at += used) {
		const size_t size = length - at < piece ? length - at : piece;
		uint8_t *exact = malloc(size);
		enum http_result result;

		MUST(exact);
		memcpy(exact, data + at, size);
		result = http_reader_feed(&reader, exact, size, &used,
					  &found->list[found->count].request);
		free(exact);
		MUST((result == HTTP_REFUSE) == (reader.why != HTTP_WHY_NONE));
		MUST(reader.why < HTTP_WHY_MAX);
		if (result == HTTP_REFUSE) {
			found->refused = true;
			return;
		}
		MUST(used > 0 && used <= size && (used == size || result == HTTP_REQUEST));
		if (result == HTTP_REQUEST)
			found->list[found->count++].end = at + used;
	}
}

static void check_same(const struct found *a, const struct found *b)
{
	MUST(a->count == b->count && a->refused == b->refused);
	for (size_t i = 0; i < a->count; i++) {
		MUST(a->list[i].end == b->list[i].end);
		MUST(strcmp(a->list[i].request.method, b->list[i].request.method) == 0);
		MUST(strcmp(a->list[i].request.host.text, b->list[i].request.host.text) == 0);
		MUST(a->list[i].request.port == b->list[i].request.port);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct found whole, pieces, plain;

	if (size < 2)
		return 0;
	read_pieces(data + 1, size - 1, size - 1, &whole);
	read_pieces(data + 1, size - 1, 1u + data[0], &pieces);
	plain_read(data + 1, size - 1, &plain);
	check_same(&whole, &pieces);
	check_same(&whole, &plain);
	return 0;
}
