/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json_scan.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

struct json_scan json_scan_begin(const char *text, size_t length)
{
	return (struct json_scan){
		.start = (const unsigned char *)text,
		.at = (const unsigned char *)text,
		.end = (const unsigned char *)text + length,
	};
}

bool json_scan_fail(struct json_scan *scan, const char *problem)
{
	scan->problem = problem;
	return false;
}

void json_scan_space(struct json_scan *scan)
{
	while (scan->at < scan->end &&
	       (*scan->at == ' ' || *scan->at == '\t' || *scan->at == '\n' || *scan->at == '\r'))
		scan->at++;
}

bool json_scan_take(struct json_scan *scan, unsigned char c)
{
	if (scan->at == scan->end || *scan->at != c)
		return false;
	scan->at++;
	return true;
}

/* ---- strings ---- */

static void keep(struct json_scan_string *string, unsigned char c)
{
	if (string->length < JSON_SCAN_KEPT)
		string->bytes[string->length] = (char)c;
	string->length++;
	string->characters += json_scan_begins_character((char)c);
}

static void keep_code_point(struct json_scan_string *string, uint32_t code)
{
	if (code < 0x80) {
		keep(string, (unsigned char)code);
		return;
	}
	if (code < 0x800) {
		keep(string, (unsigned char)(0xc0 | code >> 6));
	} else {
		if (code < 0x10000) {
			keep(string, (unsigned char)(0xe0 | code >> 12));
		} else {
			keep(string, (unsigned char)(0xf0 | code >> 18));
			keep(string, (unsigned char)(0x80 | (code >> 12 & 0x3f)));
		}
		keep(string, (unsigned char)(0x80 | (code >> 6 & 0x3f)));
	}
	keep(string, (unsigned char)(0x80 | (code & 0x3f)));
}

static bool scan_hex4(struct json_scan *scan, uint32_t *ret)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++) {
		unsigned char c = scan->at < scan->end ? *scan->at : 0;

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint32_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
		else
			return json_scan_fail(scan, "\\u needs four hexadecimal digits");
		scan->at++;
	}
	*ret = value;
	return true;
}

static bool scan_unicode_escape(struct json_scan *scan, struct json_scan_string *string)
{
	uint32_t code = 0, low = 0;

	if (!scan_hex4(scan, &code))
		return false;
	string->nul |= code == 0;
	if (code >= 0xdc00 && code < 0xe000)
		return json_scan_fail(scan, "a low surrogate without a high one before it");
	if (code >= 0xd800 && code < 0xdc00) {
		if (!json_scan_take(scan, '\\') || !json_scan_take(scan, 'u'))
			return json_scan_fail(scan, "a high surrogate without a low one after it");
		if (!scan_hex4(scan, &low))
			return false;
		if (low < 0xdc00 || low >= 0xe000)
			return json_scan_fail(scan, "a high surrogate without a low one after it");
		code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
	}
	keep_code_point(string, code);
	return true;
}

static bool scan_escape(struct json_scan *scan, struct json_scan_string *string)
{
	static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (json_scan_take(scan, 'u'))
		return scan_unicode_escape(scan, string);
	found = scan->at < scan->end && *scan->at ? strchr(letters, *scan->at) : NULL;
	if (!found)
		return json_scan_fail(scan, "unknown escape after \\");
	scan->at++;
	keep(string, (unsigned char)meanings[found - letters]);
	return true;
}

/* One character of two to four bytes: shortest form only, no surrogates, at most U+10FFFF. */
static bool scan_utf8(struct json_scan *scan, struct json_scan_string *string)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char lead = *scan->at;
	size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
	uint32_t code = lead & (0x7fU >> size);

	if (lead < 0xc2 || lead > 0xf4 || (size_t)(scan->end - scan->at) < size)
		return json_scan_fail(scan, "not valid UTF-8");
	for (size_t i = 1; i < size; i++) {
		if ((scan->at[i] & 0xc0) != 0x80)
			return json_scan_fail(scan, "not valid UTF-8");
		code = code << 6 | (scan->at[i] & 0x3fU);
	}
	if (code < smallest[size] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return json_scan_fail(scan, "not valid UTF-8");
	for (size_t i = 0; i < size; i++)
		keep(string, *scan->at++);
	return true;
}

bool json_scan_string(struct json_scan *scan, struct json_scan_string *string)
{
	string->length = 0;
	string->characters = 0;
	string->nul = false;
	if (!json_scan_take(scan, '"'))
		return json_scan_fail(scan, "expected a string in double quotes");
	for (;;) {
		if (scan->at == scan->end)
			return json_scan_fail(scan, "the string has no closing quote");
		if (*scan->at < 0x20)
			return json_scan_fail(scan,
					      "a control character in a string must be escaped");
		if (*scan->at >= 0x80) {
			if (!scan_utf8(scan, string))
				return false;
		} else if (json_scan_take(scan, '"')) {
			return true;
		} else if (json_scan_take(scan, '\\')) {
			if (!scan_escape(scan, string))
				return false;
		} else {
			keep(string, *scan->at++);
		}
	}
}

/* ---- everything else ---- */

static bool scan_digits(struct json_scan *scan)
{
	const unsigned char *from = scan->at;

	while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
		scan->at++;
	return scan->at != from || json_scan_fail(scan, "expected a digit");
}

/* Do the digits from there to `at` fit? */
static bool whole_number_fits(const struct json_scan *scan, const unsigned char *from,
			      bool negative)
{
	const uint64_t max = negative ? (uint64_t)INT64_MAX + 1 : UINT64_MAX;
	uint64_t value = 0;

	for (; from < scan->at; from++) {
		const uint64_t digit = *from - '0';

		if (value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	return true;
}

static bool scan_whole_number(struct json_scan *scan)
{
	if (!json_scan_take(scan, '0'))
		return scan_digits(scan);
	if (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
		return json_scan_fail(scan, "a number may not start with 0");
	return true;
}

bool json_scan_number(struct json_scan *scan)
{
	const bool negative = json_scan_take(scan, '-');
	const unsigned char *from = scan->at;
	bool whole = true, fits;

	if (!scan_whole_number(scan))
		return false;
	fits = whole_number_fits(scan, from, negative);
	if (json_scan_take(scan, '.')) {
		whole = false;
		if (!scan_digits(scan))
			return false;
	}
	if (json_scan_take(scan, 'e') || json_scan_take(scan, 'E')) {
		whole = false;
		if (!json_scan_take(scan, '-'))
			json_scan_take(scan, '+');
		if (!scan_digits(scan))
			return false;
	}
	return fits || !whole || json_scan_fail(scan, "the number does not fit into 64 bits");
}

bool json_scan_word(struct json_scan *scan, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, word, length) != 0)
		return json_scan_fail(
			scan, "expected a value: an object, a list, a string in double quotes, "
			      "a number, true, false or null");
	scan->at += length;
	return true;
}

/* ---- a document of which nothing is asked but that it is one ---- */

static bool scan_value(struct json_scan *scan, int depth);

static bool scan_member(struct json_scan *scan, int depth)
{
	struct json_scan_string key;

	json_scan_space(scan);
	if (!json_scan_string(scan, &key))
		return false;
	if (key.nul) /* json-c ends it there: another key */
		return json_scan_fail(scan, "\\u0000 is not allowed in a key");
	scan->weight += key.characters;
	json_scan_space(scan);
	if (!json_scan_take(scan, ':'))
		return json_scan_fail(scan, "expected a colon after the key");
	return scan_value(scan, depth);
}

static bool scan_members(struct json_scan *scan, unsigned char close, int depth)
{
	json_scan_space(scan);
	if (json_scan_take(scan, close))
		return true;
	do {
		if (!(close == '}' ? scan_member(scan, depth) : scan_value(scan, depth)))
			return false;
		json_scan_space(scan);
	} while (json_scan_take(scan, ','));
	return json_scan_take(scan, close) ||
	       json_scan_fail(scan, "expected a comma or the closing bracket");
}

static bool scan_value(struct json_scan *scan, int depth)
{
	struct json_scan_string string;

	json_scan_space(scan);
	if (scan->at == scan->end)
		return json_scan_fail(scan, "the document ends in the middle");
	scan->weight += *scan->at == 'n' ? JSON_WEIGHT_NULL : JSON_WEIGHT_VALUE;
	switch (*scan->at) {
	case '{':
	case '[':
		if (depth == 0)
			return json_scan_fail(scan, "nested too deep");
		return scan_members(scan, *scan->at++ == '{' ? '}' : ']', depth - 1);
	case '"':
		if (!json_scan_string(scan, &string))
			return false;
		scan->weight += string.characters;
		return true;
	case '-':
	case '0' ... '9':
		return json_scan_number(scan);
	case 'f':
		return json_scan_word(scan, "false");
	case 'n':
		return json_scan_word(scan, "null");
	default:
		return json_scan_word(scan, "true");
	}
}

bool json_scan_document(const char *text, size_t length, int depth, uint32_t *ret_weight)
{
	struct json_scan scan = json_scan_begin(text, length);

	if (!scan_value(&scan, depth))
		return false;
	json_scan_space(&scan);
	*ret_weight = scan.weight;
	return scan.at == scan.end;
}

/* ---- json-c ---- */

static uint32_t weigh_text(const char *text, size_t length)
{
	uint32_t weight = 0;

	for (size_t i = 0; i < length; i++)
		weight += json_scan_begins_character(text[i]);
	return weight;
}

uint32_t json_weigh(struct json_object *value)
{
	uint32_t weight = JSON_WEIGHT_VALUE;

	switch (json_object_get_type(value)) {
	case json_type_null:
		return JSON_WEIGHT_NULL;
	case json_type_string:
		return weight + weigh_text(json_object_get_string(value),
					   (size_t)json_object_get_string_len(value));
	case json_type_array:
		for (size_t i = 0; i < json_object_array_length(value); i++)
			weight += json_weigh(json_object_array_get_idx(value, i));
		return weight;
	case json_type_object: {
		json_object_object_foreach (value, key, member)
			weight += weigh_text(key, strlen(key)) + json_weigh(member);
		return weight;
	}
	case json_type_boolean:
	case json_type_double:
	case json_type_int:
		break;
	}
	return weight;
}

/* Its last error, which it has since 0.17. Before, it does not say what it lacked memory for. */
enum { TOKENER_ERROR_MEMORY = json_tokener_error_size + 1 };

int json_scan_refused(struct json_tokener *tokener)
{
	switch ((int)json_tokener_get_error(tokener)) {
	case json_tokener_success:
	case json_tokener_continue: /* the text is whole, so it gave up */
	case TOKENER_ERROR_MEMORY:
		return -ENOMEM;
	default:
		return -EINVAL;
	}
}
