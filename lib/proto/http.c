// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * A head is gathered until its empty line and then read as a whole. It says how its body ends: at
 * once, after so many bytes, or with a chunk of size 0. Bodies are not kept. What is not a head
 * goes byte by byte through a few states, and the bytes of bodies in one go.
 */
#include "proto/http.h"

#include <string.h>
#include <strings.h>

enum state {
	STATE_HEAD, /* gathering */
	STATE_BODY,
	STATE_SIZE,	   /* a chunk's size */
	STATE_SIZE_END,	   /* its LF */
	STATE_CHUNK,	   /* the chunk */
	STATE_CHUNK_END,   /* its CR */
	STATE_CHUNK_END_2, /* its LF */
	STATE_LAST_END,	   /* the CR behind the last one, as there are no trailers */
	STATE_LAST_END_2,  /* its LF */
	STATE_REFUSED,
};

#define SIZE_DIGITS_MAX 15   /* hexadecimal */
#define LENGTH_DIGITS_MAX 18 /* decimal */

/* A part of the head. */
struct text {
	const char *at;
	size_t length;
};

/* What the header lines say, as far as it matters. */
struct fields {
	unsigned int hosts, lengths, codings;
	struct text host;
	uint64_t length;
};

/* ---- characters: RFC 9110, 5.6.2 ---- */

static bool is_token(const struct text *text)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	for (size_t i = 0; i < text->length; i++) {
		const char c = text->at[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    (!c || !strchr(others, c)))
			return false;
	}
	return text->length > 0;
}

static bool is_visible(const struct text *text)
{
	for (size_t i = 0; i < text->length; i++)
		if (text->at[i] <= ' ' || text->at[i] >= 0x7f)
			return false;
	return text->length > 0;
}

static bool is_text(const struct text *text, const char *wanted)
{
	return text->length == strlen(wanted) && memcmp(text->at, wanted, text->length) == 0;
}

static bool is_word(const struct text *text, const char *wanted)
{
	return text->length == strlen(wanted) && strncasecmp(text->at, wanted, text->length) == 0;
}

/* Decimal digits, as many as given at most. */
static bool read_decimal(const struct text *text, size_t most, uint64_t *ret_number)
{
	uint64_t number = 0;

	if (!text->length || text->length > most)
		return false;
	for (size_t i = 0; i < text->length; i++) {
		if (text->at[i] < '0' || text->at[i] > '9')
			return false;
		number = number * 10 + (uint64_t)(text->at[i] - '0');
	}
	*ret_number = number;
	return true;
}

/* Up to `end`, which is skipped; all where there is none. */
static struct text take_upto(struct text *text, char end)
{
	const char *at = text->length ? memchr(text->at, end, text->length) : NULL;
	const struct text part = {text->at, at ? (size_t)(at - text->at) : text->length};
	const size_t skipped = part.length + (at ? 1 : 0);

	text->at += skipped;
	text->length -= skipped;
	return part;
}

/* ---- hosts: RFC 9110, 7.2; RFC 3986, 3.2 ---- */

static bool is_address(const struct text *text)
{
	for (size_t i = 0; i < text->length; i++)
		if (!strchr("0123456789.", text->at[i]))
			return false;
	return true;
}

/* [...]: nothing but what addresses of IPv6 are written in. */
static bool read_bracket(struct text *authority)
{
	struct text inside;

	authority->at++;
	authority->length--;
	if (!memchr(authority->at, ']', authority->length))
		return false;
	inside = take_upto(authority, ']');
	for (size_t i = 0; i < inside.length; i++)
		if (!strchr("0123456789abcdefABCDEF:.", inside.at[i]))
			return false;
	return inside.length > 0 && (!authority->length || authority->at[0] == ':');
}

static bool read_host(const struct text *text, struct domain *ret_host, uint16_t *ret_port)
{
	struct text rest = *text, name = {NULL, 0};
	uint64_t port = 0;

	ret_host->length = 0;
	ret_host->text[0] = '\0';
	*ret_port = 0;
	if (!is_visible(text))
		return false;
	if (rest.at[0] == '[') {
		if (!read_bracket(&rest))
			return false;
	} else {
		name = take_upto(&rest, ':');
		if (!name.length ||
		    (!is_address(&name) && domain_from_host(ret_host, name.at, name.length) < 0))
			return false;
		rest.at = text->at + name.length;
		rest.length = text->length - name.length;
	}
	if (!rest.length)
		return true;
	rest.at++; /* the colon */
	rest.length--;
	if (!read_decimal(&rest, 5, &port) || port < 1 || port > UINT16_MAX)
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

/* ---- header lines ---- */

static struct text trim(struct text text)
{
	while (text.length && (text.at[0] == ' ' || text.at[0] == '\t')) {
		text.at++;
		text.length--;
	}
	while (text.length && (text.at[text.length - 1] == ' ' || text.at[text.length - 1] == '\t'))
		text.length--;
	return text;
}

/* Some servers take '_' for '-', others drop such a line: no name that matters may have one. */
static bool is_name(const struct text *name, const char *wanted, bool *ret_doubtful)
{
	if (name->length != strlen(wanted))
		return false;
	for (size_t i = 0; i < name->length; i++) {
		const bool dash = name->at[i] == '_' && wanted[i] == '-';

		if (!dash && strncasecmp(name->at + i, wanted + i, 1) != 0)
			return false;
	}
	*ret_doubtful |= memchr(name->at, '_', name->length) != NULL;
	return true;
}

static enum http_why read_field(const struct text *line, struct fields *fields)
{
	struct text value = *line;
	bool doubtful = false;
	struct text name;

	if (!memchr(line->at, ':', line->length))
		return HTTP_WHY_FIELD;
	name = take_upto(&value, ':');
	value = trim(value);
	if (!is_token(&name))
		return HTTP_WHY_FIELD;
	if (is_name(&name, "host", &doubtful)) {
		fields->hosts++;
		fields->host = value;
	} else if (is_name(&name, "content-length", &doubtful)) {
		fields->lengths++;
		if (!read_decimal(&value, LENGTH_DIGITS_MAX, &fields->length))
			return HTTP_WHY_LENGTH;
	} else if (is_name(&name, "transfer-encoding", &doubtful)) {
		fields->codings++;
		if (!is_word(&value, "chunked"))
			return HTTP_WHY_LENGTH;
	} else if (is_name(&name, "upgrade", &doubtful) ||
		   is_name(&name, "http2-settings", &doubtful)) {
		return HTTP_WHY_UPGRADE;
	}
	return doubtful ? HTTP_WHY_FIELD : HTTP_WHY_NONE;
}

/* ---- the request line ---- */

/* The authority of a target, where it has one. */
static enum http_why read_target(const struct text *method, struct text target,
				 struct text *ret_authority)
{
	static const char scheme[] = "http://";

	if (!is_visible(&target))
		return HTTP_WHY_LINE;
	if (target.at[0] == '/' || (is_text(&target, "*") && is_text(method, "OPTIONS")))
		return HTTP_WHY_NONE;
	if (target.length < sizeof(scheme) - 1 ||
	    strncasecmp(target.at, scheme, sizeof(scheme) - 1) != 0)
		return HTTP_WHY_LINE;
	target.at += sizeof(scheme) - 1;
	target.length -= sizeof(scheme) - 1;
	*ret_authority = target;
	for (size_t i = 0; i < target.length; i++) {
		if (!strchr("/?#", target.at[i]))
			continue;
		ret_authority->length = i;
		break;
	}
	return ret_authority->length ? HTTP_WHY_NONE : HTTP_WHY_HOST;
}

static enum http_why read_line(struct text line, struct http_request *request, bool *ret_old,
			       struct text *ret_authority)
{
	const struct text method = take_upto(&line, ' '), target = take_upto(&line, ' ');

	if (!is_token(&method))
		return HTTP_WHY_LINE;
	if (method.length > HTTP_METHOD_MAX)
		return HTTP_WHY_LONG;
	*ret_old = is_text(&line, "HTTP/1.0");
	if (!*ret_old && !is_text(&line, "HTTP/1.1"))
		return HTTP_WHY_LINE;
	if (is_text(&method, "CONNECT"))
		return HTTP_WHY_UPGRADE;
	memcpy(request->method, method.at, method.length);
	request->method[method.length] = '\0';
	return read_target(&method, target, ret_authority);
}

/* ---- the head ---- */

static enum http_why read_hosts(const struct fields *fields, const struct text *authority,
				struct http_request *request)
{
	struct domain domain;
	uint16_t port;

	if (fields->hosts != 1 || !read_host(&fields->host, &request->host, &request->port))
		return HTTP_WHY_HOST;
	if (!authority->length)
		return HTTP_WHY_NONE;
	if (!read_host(authority, &domain, &port) || !domain_equal(&domain, &request->host) ||
	    port != request->port)
		return HTTP_WHY_HOST;
	if (!domain.length && (authority->length != fields->host.length ||
			       memcmp(authority->at, fields->host.at, authority->length) != 0))
		return HTTP_WHY_HOST; /* two addresses */
	return HTTP_WHY_NONE;
}

static enum http_why begin_body(struct http_reader *reader, const struct fields *fields, bool old)
{
	if (fields->lengths + fields->codings > 1 || (fields->codings && old))
		return HTTP_WHY_LENGTH;
	reader->have = 0;
	reader->digits = 0;
	reader->left = fields->length;
	reader->state = STATE_HEAD;
	if (fields->codings)
		reader->state = STATE_SIZE;
	else if (fields->length)
		reader->state = STATE_BODY;
	return HTTP_WHY_NONE;
}

static enum http_why read_head(struct http_reader *reader, struct http_request *request)
{
	/* Without the empty line. Each line ends in CR LF, and neither is anywhere else. */
	struct text head = {reader->head, reader->have - 2u}, authority = {NULL, 0}, line;
	struct fields fields = {.hosts = 0};
	enum http_why why;
	bool old = false;

	line = take_upto(&head, '\n');
	line.length--;
	why = read_line(line, request, &old, &authority);
	while (head.length && !why) {
		line = take_upto(&head, '\n');
		line.length--;
		why = read_field(&line, &fields);
	}
	if (!why)
		why = read_hosts(&fields, &authority, request);
	return why ? why : begin_body(reader, &fields, old);
}

static bool ends_in_empty_line(const struct http_reader *reader)
{
	return reader->have >= 4 && memcmp(reader->head + reader->have - 4, "\r\n\r\n", 4) == 0;
}

/* One byte more of a head. */
static enum http_why gather(struct http_reader *reader, uint8_t byte)
{
	const bool behind_cr = reader->have && reader->head[reader->have - 1] == '\r';

	if (behind_cr != (byte == '\n') || (byte == '\r' && !reader->have) ||
	    (byte < ' ' && byte != '\t' && byte != '\r' && byte != '\n') || byte == 0x7f)
		return HTTP_WHY_FIELD;
	if (reader->have == HTTP_HEAD_MAX)
		return HTTP_WHY_LONG;
	reader->head[reader->have++] = (char)byte;
	return HTTP_WHY_NONE;
}

/* ---- what is between heads ---- */

static int hex_digit(uint8_t byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	byte |= 0x20;
	return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static enum http_why read_size(struct http_reader *reader, uint8_t byte)
{
	const int digit = hex_digit(byte);

	if (byte == '\r' && reader->digits) {
		reader->state = STATE_SIZE_END;
		return HTTP_WHY_NONE;
	}
	if (digit < 0 || reader->digits == SIZE_DIGITS_MAX)
		return HTTP_WHY_LENGTH;
	reader->left = reader->left << 4 | (uint64_t)digit;
	reader->digits++;
	return HTTP_WHY_NONE;
}

static enum http_why expect(struct http_reader *reader, uint8_t byte, char wanted,
			    enum state following)
{
	if (byte != (uint8_t)wanted)
		return HTTP_WHY_LENGTH;
	reader->state = (uint8_t)following;
	return HTTP_WHY_NONE;
}

static enum http_why read_between(struct http_reader *reader, uint8_t byte)
{
	switch ((enum state)reader->state) {
	case STATE_SIZE:
		return read_size(reader, byte);
	case STATE_SIZE_END:
		return expect(reader, byte, '\n', reader->left ? STATE_CHUNK : STATE_LAST_END);
	case STATE_CHUNK_END:
		return expect(reader, byte, '\r', STATE_CHUNK_END_2);
	case STATE_CHUNK_END_2:
		reader->digits = 0;
		return expect(reader, byte, '\n', STATE_SIZE);
	case STATE_LAST_END:
		return expect(reader, byte, '\r', STATE_LAST_END_2);
	case STATE_LAST_END_2:
		return expect(reader, byte, '\n', STATE_HEAD);
	case STATE_HEAD:
	case STATE_BODY:
	case STATE_CHUNK:
	case STATE_REFUSED:
	default:
		return HTTP_WHY_LENGTH;
	}
}

/* Bytes of a body, which are nobody's concern. Return: how many there were. */
static size_t skip_body(struct http_reader *reader, size_t length)
{
	const size_t skipped = reader->left < length ? (size_t)reader->left : length;

	reader->left -= skipped;
	if (!reader->left)
		reader->state = reader->state == STATE_BODY ? STATE_HEAD : STATE_CHUNK_END;
	return skipped;
}

static enum http_result refuse(struct http_reader *reader, enum http_why why)
{
	reader->state = STATE_REFUSED;
	reader->why = (uint8_t)why;
	return HTTP_REFUSE;
}

enum http_result http_reader_feed(struct http_reader *reader, const uint8_t *data, size_t length,
				  size_t *ret_used, struct http_request *ret_request)
{
	size_t at = 0;

	*ret_used = 0;
	if (reader->state == STATE_REFUSED)
		return HTTP_REFUSE;
	while (at < length) {
		enum http_why why;

		if (reader->state == STATE_BODY || reader->state == STATE_CHUNK) {
			at += skip_body(reader, length - at);
			continue;
		}
		if (reader->state != STATE_HEAD) {
			why = read_between(reader, data[at++]);
		} else {
			why = gather(reader, data[at++]);
			if (!why && ends_in_empty_line(reader)) {
				why = read_head(reader, ret_request);
				*ret_used = at;
				return why ? refuse(reader, why) : HTTP_REQUEST;
			}
		}
		if (why)
			return refuse(reader, why);
	}
	*ret_used = length;
	return HTTP_MORE;
}
