// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/json_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 4096
#define DIGITS_MAX 20 /* of a uint64_t */

void jw_init(struct jw *w, size_t limit)
{
	*w = (struct jw){.limit = limit};
}

void jw_free(struct jw *w)
{
	free(w->data);
	*w = (struct jw){.limit = w->limit};
}

static __attribute__((noinline)) bool grow(struct jw *w, size_t length)
{
	size_t size = w->size ? w->size : FIRST_SIZE;
	char *data;

	if (w->error)
		return false;
	if (length > w->limit || w->used > w->limit - length) {
		w->error = -EFBIG;
		return false;
	}
	while (size - w->used <= length)
		size *= 2;
	if (size > w->limit)
		size = w->limit + 1; /* the NUL */
	data = realloc(w->data, size);
	if (!data) {
		w->error = -ENOMEM;
		return false;
	}
	w->data = data;
	w->size = size;
	return true;
}

/* Room for `length` bytes and a NUL. NULL after a failure. */
static inline char *reserve(struct jw *w, size_t length)
{
	if (w->error || (w->size - w->used <= length && !grow(w, length)))
		return NULL;
	return w->data + w->used;
}

void jw_text(struct jw *w, const char *text, size_t length)
{
	char *to = reserve(w, length);

	if (!to)
		return;
	memcpy(to, text, length);
	w->used += length;
}

/*
 * Bytes of the UTF-8 sequence at `text` (RFC 3629: no overlong forms, no surrogates), 0 where it
 * is none. The NUL at the end stops every look ahead.
 */
static size_t utf8_length(const unsigned char *text)
{
	const unsigned char first = text[0];
	unsigned char low = 0x80, high = 0xbf;
	size_t length;

	if (first >= 0xc2 && first <= 0xdf)
		length = 2;
	else if (first >= 0xe0 && first <= 0xef)
		length = 3;
	else if (first >= 0xf0 && first <= 0xf4)
		length = 4;
	else
		return 0;
	if (first == 0xe0)
		low = 0xa0;
	else if (first == 0xed)
		high = 0x9f;
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f;
	if (text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

static void put_escaped_byte(struct jw *w, unsigned char byte)
{
	static const char hex[] = "0123456789abcdef";
	char escaped[6] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};

	switch (byte) {
	case '"':
	case '\\':
		escaped[1] = (char)byte;
		break;
	case '\n':
		escaped[1] = 'n';
		break;
	case '\t':
		escaped[1] = 't';
		break;
	default:
		jw_text(w, escaped, 6);
		return;
	}
	jw_text(w, escaped, 2);
}

static inline bool is_plain(unsigned char byte)
{
	return byte >= ' ' && byte < 0x7f && byte != '"' && byte != '\\';
}

static void put_escaped(struct jw *w, const unsigned char *at)
{
	while (*at) {
		const unsigned char *start = at;
		size_t length;

		while (is_plain(*at))
			at++;
		if (at > start) {
			jw_text(w, (const char *)start, (size_t)(at - start));
		} else if (*at < 0x80) {
			put_escaped_byte(w, *at++);
		} else if ((length = utf8_length(at)) > 0) {
			jw_text(w, (const char *)at, length);
			at += length;
		} else {
			jw_text(w, "\xef\xbf\xbd", 3); /* U+FFFD stands for what is none */
			at++;
		}
	}
}

static inline void put_byte(struct jw *w, char byte)
{
	char *to = reserve(w, 1);

	if (!to)
		return;
	*to = byte;
	w->used++;
}

/* Nearly every text is plain to its end: that is copied as it is looked at. */
static inline void put_quoted(struct jw *w, const char *value)
{
	const size_t length = strlen(value);
	char *to = reserve(w, length + 2);
	size_t plain = 0;

	if (!to)
		return;
	*to++ = '"';
	for (; plain < length && is_plain((unsigned char)value[plain]); plain++)
		to[plain] = value[plain];
	w->used += 1 + plain;
	if (plain < length)
		put_escaped(w, (const unsigned char *)value + plain);
	put_byte(w, '"');
}

static inline void begin(struct jw *w, const char *key)
{
	if (w->comma)
		put_byte(w, ',');
	w->comma = true;
	if (key) {
		put_quoted(w, key);
		put_byte(w, ':');
	}
}

void jw_open(struct jw *w, const char *key, char bracket)
{
	begin(w, key);
	put_byte(w, bracket);
	w->comma = false;
}

void jw_close(struct jw *w, char bracket)
{
	put_byte(w, bracket);
	w->comma = true;
}

void jw_string(struct jw *w, const char *key, const char *value)
{
	begin(w, key);
	if (value)
		put_quoted(w, value);
	else
		jw_text(w, "null", 4);
}

static inline void put_digits(struct jw *w, uint64_t value)
{
	char *to = reserve(w, DIGITS_MAX);
	size_t length = 1;

	if (!to)
		return;
	for (uint64_t rest = value; rest >= 10; rest /= 10)
		length++;
	w->used += length;
	do {
		to[--length] = (char)('0' + value % 10);
		value /= 10;
	} while (length > 0);
}

void jw_uint(struct jw *w, const char *key, uint64_t value)
{
	begin(w, key);
	put_digits(w, value);
}

void jw_int(struct jw *w, const char *key, int64_t value)
{
	begin(w, key);
	if (value < 0)
		jw_text(w, "-", 1);
	put_digits(w, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void jw_bool(struct jw *w, const char *key, bool value)
{
	begin(w, key);
	jw_text(w, value ? "true" : "false", value ? 4 : 5);
}

char *jw_take(struct jw *w, size_t *ret_length)
{
	char *data = reserve(w, 0);

	if (!data) {
		jw_free(w);
		return NULL;
	}
	data = w->data;
	data[w->used] = '\0';
	*ret_length = w->used;
	*w = (struct jw){.limit = w->limit};
	return data;
}
