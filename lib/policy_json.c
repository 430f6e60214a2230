/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * json-c builds the tree, but it keeps the last of two equal keys without a word and is lax in
 * places. So the text is first scanned here by the grammar of RFC 8259: what passes has one
 * meaning only, and a mistake is named by line and column. The scan needs no memory but its own:
 * an object may have at most POLICY_OBJECT_KEYS_MAX keys, which are compared with each other
 * after their escapes are resolved.
 *
 * Where memory is short, json-c (0.16) leaves out a member, or the end of a string, without a word;
 * a rule without one of its conditions accepts too much. So what is scanned is weighed: each value
 * counts, each character of a key and of a string (not each byte: json-c takes some escaped pairs
 * of surrogates for U+FFFD). The tree that json-c built must weigh as much.
 *
 * The list of the rules is most of a large document. The scan notes where each of its members
 * stands; json-c reads the document as if the list were empty, and the members one by one.
 */
#include <assert.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "nsgate/limits.h"
#include "policy_json.h"
#include "policy_problems.h"

#define KEY_MAX 256 /* bytes of a key that are kept: no honest key is longer */

struct scan {
	const unsigned char *start, *at, *end;
	struct policy_problems *problems;
	struct policy_path path;
	int depth;
	struct policy_json_list *list; /* to be noted, or NULL */
	bool listed;		       /* the value that comes is that list */
	uint32_t weight;	       /* of what was scanned */
	bool repeated;		       /* a key: json-c keeps one of the two */
	bool no_memory;
};

struct scan_string {
	char bytes[KEY_MAX];
	size_t length; /* may be above KEY_MAX: then `bytes` holds the start of it */
	uint32_t characters;
};

static bool scan_value(struct scan *scan);

/* A null weighs least: it is what json-c has where a value could not be made. */
enum { WEIGHT_NULL = 1, WEIGHT_VALUE = 2 };

static_assert(NSGATE_POLICY_BYTES_MAX <= UINT32_MAX / WEIGHT_VALUE, "any document can be weighed");

/* Is it a character, or the first byte of one? */
static bool begins_character(char c)
{
	return ((unsigned char)c & 0xc0) != 0x80;
}

static uint32_t weigh_text(const char *text, size_t length)
{
	uint32_t weight = 0;

	for (size_t i = 0; i < length; i++)
		weight += begins_character(text[i]);
	return weight;
}

static uint32_t weigh(struct json_object *value)
{
	uint32_t weight = WEIGHT_VALUE;

	switch (json_object_get_type(value)) {
	case json_type_null:
		return WEIGHT_NULL;
	case json_type_string:
		return weight + weigh_text(json_object_get_string(value),
					   (size_t)json_object_get_string_len(value));
	case json_type_array:
		for (size_t i = 0; i < json_object_array_length(value); i++)
			weight += weigh(json_object_array_get_idx(value, i));
		return weight;
	case json_type_object: {
		json_object_object_foreach (value, key, member)
			weight += weigh_text(key, strlen(key)) + weigh(member);
		return weight;
	}
	case json_type_boolean:
	case json_type_double:
	case json_type_int:
		break;
	}
	return weight;
}

/* Always false, so that callers can return it. */
static bool fail(struct scan *scan, const char *what)
{
	size_t line = 1, column = 1;

	for (const unsigned char *at = scan->start; at < scan->at; at++) {
		column++;
		if (*at == '\n') {
			line++;
			column = 1;
		}
	}
	policy_problem(scan->problems, &scan->path, "line %zu, column %zu: %s", line, column, what);
	return false;
}

static void skip_space(struct scan *scan)
{
	while (scan->at < scan->end &&
	       (*scan->at == ' ' || *scan->at == '\t' || *scan->at == '\n' || *scan->at == '\r'))
		scan->at++;
}

static bool take(struct scan *scan, unsigned char c)
{
	if (scan->at == scan->end || *scan->at != c)
		return false;
	scan->at++;
	return true;
}

/* ---- strings ---- */

static void keep(struct scan_string *string, unsigned char c)
{
	if (string->length < KEY_MAX)
		string->bytes[string->length] = (char)c;
	string->length++;
	string->characters += begins_character((char)c);
}

static void keep_code_point(struct scan_string *string, uint32_t code)
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

static bool scan_hex4(struct scan *scan, uint32_t *ret)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++) {
		unsigned char c = scan->at < scan->end ? *scan->at : 0;

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint32_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
		else
			return fail(scan, "\\u needs four hexadecimal digits");
		scan->at++;
	}
	*ret = value;
	return true;
}

static bool scan_unicode_escape(struct scan *scan, struct scan_string *string)
{
	uint32_t code = 0, low = 0;

	if (!scan_hex4(scan, &code))
		return false;
	if (code == 0)
		return fail(scan, "\\u0000 is not allowed");
	if (code >= 0xdc00 && code < 0xe000)
		return fail(scan, "a low surrogate without a high one before it");
	if (code >= 0xd800 && code < 0xdc00) {
		if (!take(scan, '\\') || !take(scan, 'u'))
			return fail(scan, "a high surrogate without a low one after it");
		if (!scan_hex4(scan, &low))
			return false;
		if (low < 0xdc00 || low >= 0xe000)
			return fail(scan, "a high surrogate without a low one after it");
		code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
	}
	keep_code_point(string, code);
	return true;
}

static bool scan_escape(struct scan *scan, struct scan_string *string)
{
	static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (take(scan, 'u'))
		return scan_unicode_escape(scan, string);
	found = scan->at < scan->end && *scan->at ? strchr(letters, *scan->at) : NULL;
	if (!found)
		return fail(scan, "unknown escape after \\");
	scan->at++;
	keep(string, (unsigned char)meanings[found - letters]);
	return true;
}

/* One character of two to four bytes: shortest form only, no surrogates, at most U+10FFFF. */
static bool scan_utf8(struct scan *scan, struct scan_string *string)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char lead = *scan->at;
	size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
	uint32_t code = lead & (0x7fU >> size);

	if (lead < 0xc2 || lead > 0xf4 || (size_t)(scan->end - scan->at) < size)
		return fail(scan, "not valid UTF-8");
	for (size_t i = 1; i < size; i++) {
		if ((scan->at[i] & 0xc0) != 0x80)
			return fail(scan, "not valid UTF-8");
		code = code << 6 | (scan->at[i] & 0x3fU);
	}
	if (code < smallest[size] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return fail(scan, "not valid UTF-8");
	for (size_t i = 0; i < size; i++)
		keep(string, *scan->at++);
	return true;
}

static bool scan_string(struct scan *scan, struct scan_string *string)
{
	string->length = 0;
	string->characters = 0;
	if (!take(scan, '"'))
		return fail(scan, "expected a string in double quotes");
	for (;;) {
		if (scan->at == scan->end)
			return fail(scan, "the string has no closing quote");
		if (*scan->at < 0x20)
			return fail(scan, "a control character in a string must be escaped");
		if (*scan->at >= 0x80) {
			if (!scan_utf8(scan, string))
				return false;
		} else if (take(scan, '"')) {
			return true;
		} else if (take(scan, '\\')) {
			if (!scan_escape(scan, string))
				return false;
		} else {
			keep(string, *scan->at++);
		}
	}
}

/* ---- everything else ---- */

static bool scan_digits(struct scan *scan)
{
	const unsigned char *from = scan->at;

	while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
		scan->at++;
	return scan->at != from || fail(scan, "expected a digit");
}

static bool scan_number(struct scan *scan)
{
	take(scan, '-');
	if (take(scan, '0')) {
		if (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
			return fail(scan, "a number may not start with 0");
	} else if (!scan_digits(scan)) {
		return false;
	}
	if (take(scan, '.') && !scan_digits(scan))
		return false;
	if (take(scan, 'e') || take(scan, 'E')) {
		if (!take(scan, '-'))
			take(scan, '+');
		return scan_digits(scan);
	}
	return true;
}

static bool scan_word(struct scan *scan, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, word, length) != 0)
		return fail(scan, "expected a value: an object, a list, a string in double quotes, "
				  "a number, true, false or null");
	scan->at += length;
	return true;
}

struct scan_keys {
	uint64_t hashes[POLICY_OBJECT_KEYS_MAX];
	size_t count;
};

/* Note a key of an object. Keys are told apart by a 64-bit hash of their resolved bytes. */
static bool note_key(struct scan *scan, struct scan_keys *keys, const struct scan_string *key)
{
	uint64_t hash;

	if (key->length > KEY_MAX)
		return fail(scan, "no key of a policy is that long");
	if (keys->count == POLICY_OBJECT_KEYS_MAX)
		return fail(scan, "no object of a policy has that many keys");
	hash = hash_bytes(key->bytes, key->length);
	for (size_t i = 0; i < keys->count; i++) {
		if (keys->hashes[i] != hash)
			continue;
		policy_problem(scan->problems, &scan->path,
			       "key \"%.*s\" is given twice; keep one of them", (int)key->length,
			       key->bytes);
		scan->repeated = true;
		return true;
	}
	keys->hashes[keys->count++] = hash;
	return true;
}

static bool scan_object(struct scan *scan)
{
	const struct policy_json_list *list = scan->depth == 1 ? scan->list : NULL;
	struct scan_keys keys = {.count = 0};
	struct scan_string key;
	size_t before;

	skip_space(scan);
	if (take(scan, '}'))
		return true;
	do {
		skip_space(scan);
		if (!scan_string(scan, &key))
			return false;
		before = policy_path_key(&scan->path, key.bytes,
					 key.length < KEY_MAX ? key.length : KEY_MAX);
		if (!note_key(scan, &keys, &key))
			return false;
		scan->weight += key.characters;
		skip_space(scan);
		if (!take(scan, ':'))
			return fail(scan, "expected a colon after the key");
		scan->listed = list && key.length == strlen(list->name) &&
			       memcmp(key.bytes, list->name, key.length) == 0;
		if (!scan_value(scan))
			return false;
		policy_path_pop(&scan->path, before);
		skip_space(scan);
	} while (take(scan, ','));
	return take(scan, '}') || fail(scan, "expected a comma or the object's closing brace");
}

static size_t offset(const struct scan *scan)
{
	return (size_t)(scan->at - scan->start);
}

/* Of the same list twice, which is a mistake but goes on, json-c keeps the last. */
static void begin_list(struct scan *scan, struct policy_json_list *list)
{
	list->text = (const char *)scan->start;
	list->count = 0;
	list->from = list->end = offset(scan);
}

static bool note_member(struct scan *scan, struct policy_json_list *list, size_t from,
			uint32_t weight)
{
	list->end = offset(scan);
	if (list->count == list->room && list->count < list->max) {
		const size_t room = list->room ? list->room * 2 : 64;
		struct policy_json_span *members =
			reallocarray(list->members, room, sizeof(*members));

		if (!members) {
			scan->no_memory = true;
			return false;
		}
		list->members = members;
		list->room = room;
	}
	if (list->count < list->max)
		list->members[list->count] =
			(struct policy_json_span){.from = (uint32_t)from,
						  .length = (uint32_t)(list->end - from),
						  .weight = scan->weight - weight};
	list->count++;
	scan->weight = weight; /* it is not in the document's tree */
	return true;
}

static bool scan_array(struct scan *scan)
{
	struct policy_json_list *list = scan->listed ? scan->list : NULL;
	size_t before, from, index = 0;
	uint32_t weight;

	scan->listed = false;
	if (list)
		begin_list(scan, list);
	skip_space(scan);
	if (take(scan, ']'))
		return true;
	do {
		before = policy_path_index(&scan->path, index++);
		skip_space(scan);
		from = offset(scan);
		weight = scan->weight;
		if (!scan_value(scan) || (list && !note_member(scan, list, from, weight)))
			return false;
		policy_path_pop(&scan->path, before);
		skip_space(scan);
	} while (take(scan, ','));
	return take(scan, ']') || fail(scan, "expected a comma or the list's closing bracket");
}

static bool scan_nested(struct scan *scan, bool (*contents)(struct scan *scan))
{
	bool ok;

	if (scan->depth == NSGATE_POLICY_DEPTH_MAX)
		return fail(scan, "nested more than 16 levels deep");
	scan->at++;
	scan->depth++;
	ok = contents(scan);
	scan->depth--;
	return ok;
}

static bool scan_value(struct scan *scan)
{
	struct scan_string string;

	skip_space(scan);
	if (scan->at == scan->end)
		return fail(scan, "the document ends in the middle");
	scan->weight += *scan->at == 'n' ? WEIGHT_NULL : WEIGHT_VALUE;
	switch (*scan->at) {
	case '{':
		scan->listed = false;
		return scan_nested(scan, scan_object);
	case '[':
		return scan_nested(scan, scan_array);
	case '"':
		if (!scan_string(scan, &string))
			return false;
		scan->weight += string.characters;
		return true;
	case '-':
	case '0' ... '9':
		return scan_number(scan);
	case 'f':
		return scan_word(scan, "false");
	case 'n':
		return scan_word(scan, "null");
	default:
		return scan_word(scan, "true");
	}
}

static_assert(NSGATE_POLICY_DEPTH_MAX == 16, "a message above names the limit");

static bool scan_document(struct scan *scan)
{
	skip_space(scan);
	if (scan->at == scan->end)
		return fail(scan, "the document is empty");
	if (*scan->at != '{')
		return fail(scan, "a policy is one JSON object, in braces");
	if (!scan_value(scan))
		return false;
	skip_space(scan);
	return scan->at == scan->end || fail(scan, "there is text after the end of the document");
}

static struct json_tokener *new_tokener(int flags)
{
	struct json_tokener *tokener = json_tokener_new_ex(NSGATE_POLICY_DEPTH_MAX + 2);

	if (tokener)
		json_tokener_set_flags(tokener,
				       JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8 | flags);
	return tokener;
}

/* The whole text but the members of the list. */
static struct json_object *parse(struct json_tokener *tokener, const char *text, size_t length,
				 const struct policy_json_list *list)
{
	if (list && list->count) {
		json_tokener_parse_ex(tokener, text, (int)list->from);
		if (json_tokener_get_error(tokener) != json_tokener_continue)
			return NULL;
		text += list->end;
		length -= list->end;
	}
	return json_tokener_parse_ex(tokener, text, (int)length);
}

int policy_json_read(const char *text, size_t length, struct json_object **ret_document,
		     struct policy_problems *problems)
{
	return policy_json_read_list(text, length, ret_document, NULL, problems);
}

int policy_json_read_list(const char *text, size_t length, struct json_object **ret_document,
			  struct policy_json_list *list, struct policy_problems *problems)
{
	struct scan scan = {
		.start = (const unsigned char *)text,
		.at = (const unsigned char *)text,
		.end = (const unsigned char *)text + length,
		.problems = problems,
		.list = list,
	};
	struct json_tokener *tokener;
	struct json_object *document;
	enum json_tokener_error error;

	if (length > NSGATE_POLICY_BYTES_MAX) {
		policy_problem(problems, &scan.path,
			       "the document has %zu bytes, at most %d are allowed", length,
			       NSGATE_POLICY_BYTES_MAX);
		return -EINVAL;
	}
	if (!scan_document(&scan))
		return scan.no_memory ? -ENOMEM : -EINVAL;

	tokener = new_tokener(0);
	if (!tokener)
		return -ENOMEM;
	document = parse(tokener, text, length, list);
	error = json_tokener_get_error(tokener);
	json_tokener_free(tokener);
	if (error != json_tokener_success) {
		json_object_put(document);
		policy_problem(problems, &scan.path, "%s", json_tokener_error_desc(error));
		return -EINVAL;
	}
	if (!document || (!scan.repeated && weigh(document) != scan.weight)) {
		json_object_put(document);
		return -ENOMEM;
	}
	if (list)
		list->repeated = scan.repeated;
	*ret_document = document;
	return 0;
}

/* The text was scanned: only for want of memory can it be refused. */
int policy_json_list_get(struct policy_json_list *list, size_t i, struct json_object **ret_member)
{
	const struct policy_json_span *span = &list->members[i];
	struct json_object *member;

	if (!list->tokener)
		list->tokener = new_tokener(JSON_TOKENER_ALLOW_TRAILING_CHARS);
	if (!list->tokener)
		return -ENOMEM;
	json_tokener_reset(list->tokener);
	/* With the comma or bracket behind it, which ends a number. */
	member = json_tokener_parse_ex(list->tokener, list->text + span->from,
				       (int)span->length + 1);
	if (json_tokener_get_error(list->tokener) != json_tokener_success ||
	    (!list->repeated && weigh(member) != span->weight)) {
		json_object_put(member);
		return -ENOMEM;
	}
	*ret_member = member;
	return 0;
}

void policy_json_list_free(struct policy_json_list *list)
{
	free(list->members);
	if (list->tokener)
		json_tokener_free(list->tokener);
	list->members = NULL;
	list->tokener = NULL;
	list->count = list->room = 0;
}
