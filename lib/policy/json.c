/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * json-c builds the tree, but it keeps the last of two equal keys without a word and is lax in
 * places. So the text is first scanned (json_scan.h): what passes has one meaning only, and a
 * mistake is named by line and column. The scan needs no memory but its own: an object may have at
 * most POLICY_OBJECT_KEYS_MAX keys, which are compared with each other after their escapes are
 * resolved.
 *
 * The tree that json-c built must weigh as much as what was scanned (json_scan.h): a rule without
 * one of its conditions accepts too much.
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
#include "json_scan.h"
#include "nsgate/limits.h"
#include "policy/json.h"
#include "policy/problems.h"

struct scan {
	struct json_scan json;
	struct policy_problems *problems;
	struct policy_path path;
	int depth;
	struct policy_json_list *list; /* to be noted, or NULL */
	bool listed;		       /* the value that comes is that list */
	uint32_t weight;	       /* of what was scanned */
	bool repeated;		       /* a key: json-c keeps one of the two */
	bool no_memory;
};

static bool scan_value(struct scan *scan);

static_assert(NSGATE_POLICY_BYTES_MAX <= UINT32_MAX / JSON_WEIGHT_VALUE,
	      "any document can be weighed");

/* Where the scan stopped, and why. */
static void tell(struct scan *scan)
{
	size_t line = 1, column = 1;

	for (const unsigned char *at = scan->json.start; at < scan->json.at; at++) {
		column++;
		if (*at == '\n') {
			line++;
			column = 1;
		}
	}
	policy_problem(scan->problems, &scan->path, "line %zu, column %zu: %s", line, column,
		       scan->json.problem);
}

/* Always false, so that callers can return it. */
static bool fail(struct scan *scan, const char *problem)
{
	return json_scan_fail(&scan->json, problem);
}

static bool scan_string(struct scan *scan, struct json_scan_string *string)
{
	if (!json_scan_string(&scan->json, string))
		return false;
	return !string->nul || fail(scan, "\\u0000 is not allowed");
}

struct scan_keys {
	uint64_t hashes[POLICY_OBJECT_KEYS_MAX];
	size_t count;
};

/* Note a key of an object. Keys are told apart by a 64-bit hash of their resolved bytes. */
static bool note_key(struct scan *scan, struct scan_keys *keys, const struct json_scan_string *key)
{
	uint64_t hash;

	if (key->length > JSON_SCAN_KEPT)
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
	struct json_scan_string key;
	size_t before;

	json_scan_space(&scan->json);
	if (json_scan_take(&scan->json, '}'))
		return true;
	do {
		json_scan_space(&scan->json);
		if (!scan_string(scan, &key))
			return false;
		before = policy_path_key(&scan->path, key.bytes,
					 key.length < JSON_SCAN_KEPT ? key.length : JSON_SCAN_KEPT);
		if (!note_key(scan, &keys, &key))
			return false;
		scan->weight += key.characters;
		json_scan_space(&scan->json);
		if (!json_scan_take(&scan->json, ':'))
			return fail(scan, "expected a colon after the key");
		scan->listed = list && key.length == strlen(list->name) &&
			       memcmp(key.bytes, list->name, key.length) == 0;
		if (!scan_value(scan))
			return false;
		policy_path_pop(&scan->path, before);
		json_scan_space(&scan->json);
	} while (json_scan_take(&scan->json, ','));
	return json_scan_take(&scan->json, '}') ||
	       fail(scan, "expected a comma or the object's closing brace");
}

static size_t offset(const struct scan *scan)
{
	return (size_t)(scan->json.at - scan->json.start);
}

/* Of the same list twice, which is a mistake but goes on, json-c keeps the last. */
static void begin_list(struct scan *scan, struct policy_json_list *list)
{
	list->text = (const char *)scan->json.start;
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
	json_scan_space(&scan->json);
	if (json_scan_take(&scan->json, ']'))
		return true;
	do {
		before = policy_path_index(&scan->path, index++);
		json_scan_space(&scan->json);
		from = offset(scan);
		weight = scan->weight;
		if (!scan_value(scan) || (list && !note_member(scan, list, from, weight)))
			return false;
		policy_path_pop(&scan->path, before);
		json_scan_space(&scan->json);
	} while (json_scan_take(&scan->json, ','));
	return json_scan_take(&scan->json, ']') ||
	       fail(scan, "expected a comma or the list's closing bracket");
}

static bool scan_nested(struct scan *scan, bool (*contents)(struct scan *scan))
{
	bool ok;

	if (scan->depth == NSGATE_POLICY_DEPTH_MAX)
		return fail(scan, "nested more than 16 levels deep");
	scan->json.at++;
	scan->depth++;
	ok = contents(scan);
	scan->depth--;
	return ok;
}

static bool scan_value(struct scan *scan)
{
	struct json_scan_string string;

	json_scan_space(&scan->json);
	if (scan->json.at == scan->json.end)
		return fail(scan, "the document ends in the middle");
	scan->weight += *scan->json.at == 'n' ? JSON_WEIGHT_NULL : JSON_WEIGHT_VALUE;
	switch (*scan->json.at) {
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
		return json_scan_number(&scan->json);
	case 'f':
		return json_scan_word(&scan->json, "false");
	case 'n':
		return json_scan_word(&scan->json, "null");
	default:
		return json_scan_word(&scan->json, "true");
	}
}

static_assert(NSGATE_POLICY_DEPTH_MAX == 16, "a message above names the limit");

static bool scan_document(struct scan *scan)
{
	json_scan_space(&scan->json);
	if (scan->json.at == scan->json.end)
		return fail(scan, "the document is empty");
	if (*scan->json.at != '{')
		return fail(scan, "a policy is one JSON object, in braces");
	if (!scan_value(scan))
		return false;
	json_scan_space(&scan->json);
	return scan->json.at == scan->json.end ||
	       fail(scan, "there is text after the end of the document");
}

/* The scan allows one level less than a tokener of that depth takes, so that it never is too deep.
 */
static struct json_tokener *new_tokener(void)
{
	return json_tokener_new_ex(NSGATE_POLICY_DEPTH_MAX + 2);
}

/* `weight`: that the tree must have, or 0. */
static bool is_whole(struct json_tokener *tokener, struct json_object *tree, uint32_t weight)
{
	return json_tokener_get_error(tokener) == json_tokener_success &&
	       (weight == 0 || json_weigh(tree) == weight);
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
		.json = json_scan_begin(text, length),
		.problems = problems,
		.list = list,
	};
	struct json_tokener *tokener;
	struct json_object *document;
	int err = 0;

	if (length > NSGATE_POLICY_BYTES_MAX) {
		policy_problem(problems, &scan.path,
			       "the document has %zu bytes, at most %d are allowed", length,
			       NSGATE_POLICY_BYTES_MAX);
		return -EINVAL;
	}
	if (!scan_document(&scan)) {
		if (scan.no_memory)
			return -ENOMEM;
		tell(&scan);
		return -EINVAL;
	}

	tokener = new_tokener();
	if (!tokener)
		return -ENOMEM;
	document = parse(tokener, text, length, list);
	if (!document || !is_whole(tokener, document, scan.repeated ? 0 : scan.weight))
		err = json_scan_refused(tokener);
	json_tokener_free(tokener);
	if (err) {
		json_object_put(document);
		if (err == -EINVAL)
			policy_problem(problems, &scan.path, "json-c cannot read it");
		return err;
	}
	if (list)
		list->repeated = scan.repeated;
	*ret_document = document;
	return 0;
}

int policy_json_list_get(struct policy_json_list *list, size_t i, struct json_object **ret_member)
{
	const struct policy_json_span *span = &list->members[i];
	struct json_object *member;

	if (!list->tokener)
		list->tokener = new_tokener();
	if (!list->tokener)
		return -ENOMEM;
	json_tokener_reset(list->tokener);
	/* With the comma or bracket behind it, which ends a number. */
	member = json_tokener_parse_ex(list->tokener, list->text + span->from,
				       (int)span->length + 1);
	if (!is_whole(list->tokener, member, list->repeated ? 0 : span->weight)) {
		json_object_put(member);
		return json_scan_refused(list->tokener);
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
