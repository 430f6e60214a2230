/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * The document is read key by key against the tables of keys below. A reader that finds a mistake
 * notes it and goes on, so that one check shows the operator all of them; a half-read document is
 * never used because its problems are counted.
 */
#include "policy/read.h"

#include <assert.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "nsgate/hook.h"
#include "nsgate/proto.h"
#include "policy/doc.h"
#include "policy/domains.h"
#include "policy/json.h"
#include "policy/match.h"
#include "policy/rule.h"
#include "policy/value.h"

#define DEFAULT_HOOKS (NSGATE_HOOK_BIT(NSGATE_HOOK_IN) | NSGATE_HOOK_BIT(NSGATE_HOOK_OUT))

/* The keys that an object may have, and who reads them. */
struct key {
	const char *name;
	void (*read)(struct policy_reader *reader, struct json_object *value);
};

static void read_version(struct policy_reader *reader, struct json_object *value)
{
	if (!json_object_is_type(value, json_type_int) || json_object_get_int64(value) != 1)
		policy_complain(reader, "must be 1, the only version there is");
}

static void read_name(struct policy_reader *reader, struct json_object *value)
{
	policy_value_name(reader, value, reader->doc->name);
}

static void read_mode(struct policy_reader *reader, struct json_object *value)
{
	static const char *const words[] = {"enforce", "audit", NULL};
	int word;

	if (policy_value_word(reader, value, words, &word))
		reader->doc->audit = word == 1;
}

static void read_hook(struct policy_reader *reader, struct json_object *value)
{
	const char *words[NSGATE_HOOK_MAX + 1] = {NULL};
	int hook;

	memcpy(words, nsgate_hook_names, sizeof(nsgate_hook_names));
	if (!policy_value_word(reader, value, words, &hook))
		return;
	if (reader->doc->hooks & NSGATE_HOOK_BIT(hook))
		policy_complain(reader, "hook \"%s\" is named twice", words[hook]);
	reader->doc->hooks |= NSGATE_HOOK_BIT(hook);
}

static void read_hooks(struct policy_reader *reader, struct json_object *value)
{
	size_t before;

	if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) == 0) {
		policy_complain(reader, "must be a list of hooks, like [\"in\", \"out\"]");
		return;
	}
	reader->doc->hooks = 0;
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		before = policy_path_index(&reader->path, i);
		read_hook(reader, json_object_array_get_idx(value, i));
		policy_path_pop(&reader->path, before);
	}
}

static void read_default_action(struct policy_reader *reader, struct json_object *value,
				enum policy_action *ret)
{
	static const char *const words[] = {"accept", "drop", "reject", NULL};
	int word;

	static_assert(POLICY_ACTION_ACCEPT == 0 && POLICY_ACTION_DROP == 1 &&
			      POLICY_ACTION_REJECT == 2,
		      "the words are in the order of enum policy_action");
	if (policy_value_word(reader, value, words, &word))
		*ret = (enum policy_action)word;
}

static void read_default(struct policy_reader *reader, struct json_object *value)
{
	static const char *const directions[PKT_DIRECTION_MAX] = {
		[PKT_DIRECTION_IN] = "in",
		[PKT_DIRECTION_OUT] = "out",
		[PKT_DIRECTION_FORWARD] = "forward",
	};
	enum policy_action *defaults = reader->doc->defaults;
	size_t before;
	int i;

	if (json_object_is_type(value, json_type_string)) {
		read_default_action(reader, value, &defaults[0]);
		for (i = 1; i < PKT_DIRECTION_MAX; i++)
			defaults[i] = defaults[0];
		return;
	}
	if (!json_object_is_type(value, json_type_object)) {
		policy_complain(reader, "must be \"accept\", \"drop\" or \"reject\", or an object "
					"with one of them for \"in\", \"out\" and \"forward\"");
		return;
	}
	json_object_object_foreach (value, key, member) {
		before = policy_path_key(&reader->path, key, strlen(key));
		for (i = 0; i < PKT_DIRECTION_MAX && strcmp(directions[i], key) != 0; i++)
			;
		if (i < PKT_DIRECTION_MAX)
			read_default_action(reader, member, &defaults[i]);
		else
			policy_unknown_key(reader, key, directions, PKT_DIRECTION_MAX);
		policy_path_pop(&reader->path, before);
	}
}

static void read_open(struct policy_reader *reader, struct json_object *value, bool *ret_open)
{
	static const char *const words[] = {"closed", "open", NULL};
	int word;

	if (policy_value_word(reader, value, words, &word))
		*ret_open = word == 1;
}

static void read_on_agent_down(struct policy_reader *reader, struct json_object *value)
{
	read_open(reader, value, &reader->doc->open_on_agent_down);
}

static void read_on_overload(struct policy_reader *reader, struct json_object *value)
{
	read_open(reader, value, &reader->doc->open_on_overload);
}

static void read_offload(struct policy_reader *reader, struct json_object *value)
{
	policy_value_bool(reader, value, &reader->doc->offload);
}

static void read_strict(struct policy_reader *reader, struct json_object *value)
{
	policy_value_bool(reader, value, &reader->doc->strict);
}

static void read_comment(struct policy_reader *reader, struct json_object *value)
{
	const char *ignored;

	policy_value_text(reader, value, &ignored);
}

static void read_rules(struct policy_reader *reader, struct json_object *value)
{
	struct policy_doc *doc = reader->doc;
	size_t count, before;
	int err;

	if (!json_object_is_type(value, json_type_array)) {
		policy_complain(reader, "must be a list of rules, in brackets");
		return;
	}
	count = reader->rules->count;
	if (count > NSGATE_RULES_MAX) {
		policy_complain(reader, "%zu rules are too many; at most %d are allowed", count,
				NSGATE_RULES_MAX);
		return;
	}
	if (count == 0)
		return;
	doc->rules = calloc(count, sizeof(*doc->rules));
	if (!doc->rules) {
		reader->no_memory = true;
		return;
	}
	for (size_t i = 0; i < count; i++) {
		struct json_object *rule;

		err = policy_json_list_get(reader->rules, i, &rule);
		if (err == -ENOMEM) {
			reader->no_memory = true;
			return;
		}
		before = policy_path_index(&reader->path, i);
		if (err) {
			policy_complain(reader, "json-c cannot read it");
			policy_path_pop(&reader->path, before);
			return;
		}
		doc->rule_count = i + 1;
		policy_rule_read(reader, &doc->rules[i], rule);
		policy_path_pop(&reader->path, before);
		json_object_put(rule);
	}
}

static const struct key keys[] = {
	{"version", read_version},
	{"name", read_name},
	{"mode", read_mode},
	{"hooks", read_hooks},
	{"default", read_default},
	{"on_agent_down", read_on_agent_down},
	{"on_overload", read_on_overload},
	{"offload", read_offload},
	{"strict", read_strict},
	{"names", policy_names_read},
	{"rules", read_rules},
	{"comment", read_comment},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

static void read_key(struct policy_reader *reader, const char *name, struct json_object *value)
{
	const char *names[KEYS];

	for (size_t i = 0; i < KEYS; i++) {
		if (strcmp(keys[i].name, name) == 0) {
			keys[i].read(reader, value);
			return;
		}
		names[i] = keys[i].name;
	}
	policy_unknown_key(reader, name, names, KEYS);
}

/* ---- what only the whole document shows ---- */

static int compare_names(const void *a, const void *b)
{
	const struct policy_doc_rule *const *left = a, *const *right = b;
	int order = strcmp((*left)->name, (*right)->name);

	if (order != 0)
		return order;
	return *left < *right ? -1 : 1;
}

static void check_names(struct policy_reader *reader)
{
	struct policy_doc *doc = reader->doc;
	const struct policy_doc_rule **sorted;
	size_t before, first = 0;

	if (doc->rule_count == 0)
		return;
	sorted = malloc(doc->rule_count * sizeof(*sorted));
	if (!sorted) {
		reader->no_memory = true;
		return;
	}
	for (size_t i = 0; i < doc->rule_count; i++)
		sorted[i] = &doc->rules[i];
	qsort(sorted, doc->rule_count, sizeof(*sorted), compare_names);
	for (size_t i = 1; i < doc->rule_count; i++) {
		if (sorted[i]->name[0] == '\0' ||
		    strcmp(sorted[i]->name, sorted[first]->name) != 0) {
			first = i;
			continue;
		}
		before = policy_path_key(&reader->path, "rules", 5);
		policy_path_index(&reader->path, (size_t)(sorted[i] - doc->rules));
		policy_path_key(&reader->path, "name", 4);
		policy_complain(reader, "rule name \"%s\" is already taken by /rules/%zu",
				sorted[i]->name, (size_t)(sorted[first] - doc->rules));
		policy_path_pop(&reader->path, before);
	}
	free(sorted);
}

/* The kernel's reject works in every hook but the last one. */
static void check_rejects(struct policy_reader *reader)
{
	static const char why[] = "\"reject\" cannot be done in the postrouting hook; "
				  "use \"drop\", or take \"postrouting\" out of \"hooks\"";
	const struct policy_doc *doc = reader->doc;
	size_t before;

	if (!(doc->hooks & NSGATE_HOOK_BIT(NSGATE_HOOK_POSTROUTING)))
		return;
	for (int i = 0; i < PKT_DIRECTION_MAX; i++) {
		if (doc->defaults[i] != POLICY_ACTION_REJECT)
			continue;
		before = policy_path_key(&reader->path, "default", 7);
		policy_complain(reader, "%s", why);
		policy_path_pop(&reader->path, before);
		break;
	}
	for (size_t i = 0; i < doc->rule_count; i++) {
		if (doc->rules[i].action != POLICY_ACTION_REJECT)
			continue;
		before = policy_path_key(&reader->path, "rules", 5);
		policy_path_index(&reader->path, i);
		policy_path_key(&reader->path, "action", 6);
		policy_complain(reader, "%s", why);
		policy_path_pop(&reader->path, before);
	}
}

struct bypass_marks {
	struct nsgate_bypass_mark list[NSGATE_BYPASS_MARKS_MAX];
	size_t count;
};

/* Note the mark, if there is one. Return: was there room for it? */
static bool note_bypass_mark(struct bypass_marks *marks, const struct policy_doc_rule *rule)
{
	if (!rule->bypass_mask)
		return true;
	for (size_t i = 0; i < marks->count; i++)
		if (marks->list[i].value == rule->bypass_value &&
		    marks->list[i].mask == rule->bypass_mask)
			return true;
	if (marks->count == NSGATE_BYPASS_MARKS_MAX)
		return false;
	marks->list[marks->count++] =
		(struct nsgate_bypass_mark){rule->bypass_value, rule->bypass_mask};
	return true;
}

/* Each costs a rule of the kernel in every hook, so their number has an end. */
static void check_bypass_marks(struct policy_reader *reader)
{
	const struct policy_doc *doc = reader->doc;
	struct bypass_marks marks = {.count = 0};
	size_t rule = 0, before;

	while (rule < doc->rule_count && note_bypass_mark(&marks, &doc->rules[rule]))
		rule++;
	if (rule == doc->rule_count)
		return;
	before = policy_path_key(&reader->path, "rules", 5);
	policy_path_index(&reader->path, rule);
	policy_path_key(&reader->path, "bypass_mark", 11);
	policy_complain(reader,
			"is one too many: a policy has at most %d different bypass marks; "
			"let some of the programs use the same",
			NSGATE_BYPASS_MARKS_MAX);
	policy_path_pop(&reader->path, before);
}

void policy_read(struct policy_reader *reader, struct json_object *document)
{
	struct policy_doc *doc = reader->doc;
	struct json_object *version;
	size_t before;

	doc->hooks = DEFAULT_HOOKS;
	policy_names_begin(reader);
	for (int i = 0; i < PKT_DIRECTION_MAX; i++)
		doc->defaults[i] = POLICY_ACTION_DROP;

	if (!json_object_object_get_ex(document, "version", &version))
		policy_complain(reader, "\"version\" is missing; write \"version\": 1");
	json_object_object_foreach (document, key, value) {
		before = policy_path_key(&reader->path, key, strlen(key));
		read_key(reader, key, value);
		policy_path_pop(&reader->path, before);
	}
	check_names(reader);
	check_rejects(reader);
	check_bypass_marks(reader);
	policy_names_check(reader);
}
