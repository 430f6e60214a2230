/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Every list of patterns in a document is one of at most 64, and a packet's name is looked up once
 * for all of them: a rule's value is the bit of its list. Lists that are written alike are one.
 */
#include "policy/domains.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "nsgate/hook.h"
#include "policy/rule.h"
#include "policy/value.h"

#define TTL_MAX_S 604800
#define GRACE_MAX_S 86400
#define ENTRIES_MIN 16

void policy_names_begin(struct policy_reader *reader)
{
	reader->doc->names.said = (struct policy_names){
		.ttl_min_s = 60,
		.ttl_max_s = 3600,
		.grace_s = 60,
		.entries = 4096,
	};
}

/* ---- lists of patterns ---- */

static void add_pattern(struct policy_reader *reader, uint32_t list, struct json_object *value)
{
	struct domain_pattern pattern;
	const char *text, *why = "";
	int err;

	if (!policy_value_text(reader, value, &text))
		return;
	err = domain_pattern_parse(&pattern, text, &why);
	if (err == -EINVAL) {
		policy_complain(reader, "\"%.80s\" is not a pattern of names: %s", text, why);
		return;
	}
	if (!err)
		err = domain_set_add(reader->doc->names.set, list, &pattern);
	if (err == -ENOMEM)
		reader->no_memory = true;
	else if (err == -ENOSPC)
		policy_complain(reader,
				"is one too many: at most %d patterns with a \"*\" inside a label "
				"below the same name; use \"*.\" and that name",
				DOMAIN_SET_STARS_MAX);
	else if (err)
		policy_complain(reader,
				"is one too many: a policy has at most %d patterns; use \"*.\" "
				"and a name for all below it",
				DOMAIN_SET_PATTERNS_MAX);
}

static void add_patterns(struct policy_reader *reader, uint32_t list, struct json_object *value)
{
	size_t before = 0;

	if (!json_object_is_type(value, json_type_array)) {
		add_pattern(reader, list, value);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		before = policy_path_index(&reader->path, i);
		add_pattern(reader, list, json_object_array_get_idx(value, i));
		policy_path_pop(&reader->path, before);
	}
}

/* Return: its number, or DOMAIN_SET_LISTS_MAX where none is written so. */
static uint32_t find_list(const struct policy_doc_names *names, const char *text)
{
	for (uint32_t i = 0; i < names->list_count; i++)
		if (strcmp(names->lists[i], text) == 0)
			return i;
	return DOMAIN_SET_LISTS_MAX;
}

/* Return: its number, or DOMAIN_SET_LISTS_MAX with the reason noted. */
static uint32_t new_list(struct policy_reader *reader, const char *text)
{
	struct policy_doc_names *names = &reader->doc->names;
	char *copy;

	if (names->list_count == DOMAIN_SET_LISTS_MAX) {
		policy_complain(reader,
				"is one too many: a policy has at most %d different lists of "
				"names; give some rules the same",
				DOMAIN_SET_LISTS_MAX);
		return DOMAIN_SET_LISTS_MAX;
	}
	if (!names->set)
		names->set = domain_set_new();
	copy = names->set && text ? strdup(text) : NULL;
	if (!copy) {
		reader->no_memory = true;
		return DOMAIN_SET_LISTS_MAX;
	}
	names->lists[names->list_count] = copy;
	return names->list_count++;
}

/* Return: the bit of the list, or 0 where something is wrong with it. */
static uint64_t read_list(struct policy_reader *reader, struct json_object *value)
{
	const char *text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN);
	uint32_t list;

	if (json_object_is_type(value, json_type_array) && json_object_array_length(value) == 0) {
		policy_complain(reader, "an empty list matches nothing; leave the key out to match "
					"everything");
		return 0;
	}
	list = text ? find_list(&reader->doc->names, text) : DOMAIN_SET_LISTS_MAX;
	if (list == DOMAIN_SET_LISTS_MAX) {
		list = new_list(reader, text);
		if (list < DOMAIN_SET_LISTS_MAX)
			add_patterns(reader, list, value);
	}
	return list < DOMAIN_SET_LISTS_MAX ? UINT64_C(1) << list : 0;
}

/* ---- matches ---- */

void policy_names_read_domain(struct policy_reader *reader, struct json_object *value)
{
	const union policy_value list = {.bits = read_list(reader, value)};

	reader->doc->names.is_used = true;
	policy_doc_add_value(reader, &list);
}

static const struct policy_name query_types[] = {
	{"A", 1},      {"NS", 2},     {"CNAME", 5},   {"SOA", 6},   {"PTR", 12},
	{"MX", 15},    {"TXT", 16},   {"AAAA", 28},   {"SRV", 33},  {"NAPTR", 35},
	{"DS", 43},    {"SSHFP", 44}, {"DNSKEY", 48}, {"TLSA", 52}, {"SVCB", 64},
	{"HTTPS", 65}, {"ANY", 255},  {"CAA", 257},   {NULL, 0},
};

static void read_type(struct policy_reader *reader, struct json_object *value)
{
	union policy_value type;
	const char *name;
	int number;

	if (!json_object_is_type(value, json_type_string) ||
	    isdigit((unsigned char)json_object_get_string(value)[0])) {
		if (policy_value_range(reader, value, "query type", 65535, &type))
			policy_doc_add_value(reader, &type);
		return;
	}
	name = json_object_get_string(value);
	number = policy_name_lookup(query_types, name);
	if (number < 0) {
		policy_name_unknown(reader, query_types, "query type", name);
		return;
	}
	type.range.low = type.range.high = (uint64_t)number;
	policy_doc_add_value(reader, &type);
}

static void read_types(struct policy_reader *reader, struct json_object *value)
{
	size_t before = 0;

	if (!json_object_is_type(value, json_type_array)) {
		read_type(reader, value);
		return;
	}
	if (json_object_array_length(value) == 0)
		policy_complain(reader, "an empty list matches nothing; leave the key out to match "
					"everything");
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		before = policy_path_index(&reader->path, i);
		read_type(reader, json_object_array_get_idx(value, i));
		policy_path_pop(&reader->path, before);
	}
}

/* A member of the object that the path is at. NULL: it is not there. */
static struct json_object *enter(struct policy_reader *reader, struct json_object *object,
				 const char *key, size_t *ret_before)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value))
		return NULL;
	*ret_before = policy_path_key(&reader->path, key, strlen(key));
	return value;
}

static bool has_member(struct json_object *object, const char *key)
{
	return json_object_object_get_ex(object, key, NULL);
}

static uint64_t read_member_list(struct policy_reader *reader, struct json_object *object,
				 const char *key)
{
	struct json_object *value;
	uint64_t list = 0;
	size_t before = 0;

	if (!has_member(object, key))
		return 0;
	value = enter(reader, object, key, &before);
	list = read_list(reader, value);
	policy_path_pop(&reader->path, before);
	return list;
}

static void check_keys(struct policy_reader *reader, struct json_object *object,
		       const char *const *names, size_t count)
{
	size_t before = 0;

	json_object_object_foreach (object, key, value) {
		bool is_known = false;

		(void)value;
		for (size_t i = 0; i < count; i++)
			is_known |= strcmp(names[i], key) == 0;
		if (is_known)
			continue;
		before = policy_path_key(&reader->path, key, strlen(key));
		policy_unknown_key(reader, key, names, count);
		policy_path_pop(&reader->path, before);
	}
}

static bool is_negated(const struct policy_reader *reader)
{
	return reader->doc->matches[reader->doc->match_count - 1].negated;
}

void policy_names_read_dns(struct policy_reader *reader, struct json_object *value)
{
	static const char *const names[] = {"name", "not_name", "type"};
	union policy_value query;
	size_t before = 0;

	memset(&query, 0, sizeof(query));
	reader->doc->names.is_used = true;
	if (!json_object_is_type(value, json_type_object)) {
		policy_complain(reader, "must be an object like {\"name\": [\"example.org\"], "
					"\"type\": [\"A\", \"AAAA\"]}, or {} for any query");
		return;
	}
	if (json_object_object_length(value) == 0 && !reader->no_memory && is_negated(reader))
		policy_complain(reader, "no query is none: \"dns\": {} is any query; leave the key "
					"out for what is none as well");
	check_keys(reader, value, names, sizeof(names) / sizeof(names[0]));
	query.query.names = read_member_list(reader, value, "name");
	query.query.not_names = read_member_list(reader, value, "not_name");
	policy_doc_add_value(reader, &query);
	if (!has_member(value, "type"))
		return;
	value = enter(reader, value, "type", &before);
	read_types(reader, value);
	policy_path_pop(&reader->path, before);
}

/* ---- "names" ---- */

static void read_resolver(struct policy_reader *reader, struct json_object *value)
{
	struct policy_names *said = &reader->doc->names.said;
	union policy_value address;

	if (!policy_value_address(reader, value, &address))
		return;
	if (memcmp(&address.address.low, &address.address.high, sizeof(address.address.low)) != 0) {
		policy_complain(reader, "a resolver is one address, not a prefix or a range of "
					"them: name each");
		return;
	}
	if (said->resolver_count == POLICY_RESOLVERS_MAX) {
		policy_complain(reader, "is one too many: at most %d resolvers",
				POLICY_RESOLVERS_MAX);
		return;
	}
	said->resolvers[said->resolver_count++] = (struct policy_resolver){
		.address = address.address.low,
		.family = address.address.family,
	};
}

static void read_resolvers(struct policy_reader *reader, struct json_object *value)
{
	size_t before = 0;

	if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) == 0) {
		policy_complain(reader, "must be a list of addresses, like [\"10.0.0.1\"]; leave "
					"the key out to believe no answers");
		return;
	}
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		before = policy_path_index(&reader->path, i);
		read_resolver(reader, json_object_array_get_idx(value, i));
		policy_path_pop(&reader->path, before);
	}
}

static void read_number(struct policy_reader *reader, struct json_object *value, const char *what,
			uint64_t low, uint64_t high, uint32_t *ret)
{
	uint64_t number;

	if (policy_value_number(reader, value, what, low, high, &number))
		*ret = (uint32_t)number;
}

static void read_ttl_min(struct policy_reader *reader, struct json_object *value)
{
	read_number(reader, value, "ttl_min", 0, TTL_MAX_S, &reader->doc->names.said.ttl_min_s);
}

static void read_ttl_max(struct policy_reader *reader, struct json_object *value)
{
	read_number(reader, value, "ttl_max", 1, TTL_MAX_S, &reader->doc->names.said.ttl_max_s);
}

static void read_grace(struct policy_reader *reader, struct json_object *value)
{
	read_number(reader, value, "grace", 0, GRACE_MAX_S, &reader->doc->names.said.grace_s);
}

static void read_entries(struct policy_reader *reader, struct json_object *value)
{
	read_number(reader, value, "entries", ENTRIES_MIN, POLICY_NAMES_ENTRIES_MAX,
		    &reader->doc->names.said.entries);
}

static void read_private(struct policy_reader *reader, struct json_object *value)
{
	reader->doc->names.said.private_lists = read_list(reader, value);
}

static void read_refuse(struct policy_reader *reader, struct json_object *value)
{
	static const char *const words[] = {"nxdomain", "refused", "drop", NULL};
	int word;

	static_assert(POLICY_REFUSE_NXDOMAIN == 0 && POLICY_REFUSE_REFUSED == 1 &&
			      POLICY_REFUSE_DROP == 2,
		      "the words are in the order of enum policy_refuse");
	if (policy_value_word(reader, value, words, &word))
		reader->doc->names.said.refuse = (enum policy_refuse)word;
}

static const struct {
	const char *name;
	void (*read)(struct policy_reader *reader, struct json_object *value);
} keys[] = {
	{"resolvers", read_resolvers}, {"ttl_min", read_ttl_min}, {"ttl_max", read_ttl_max},
	{"grace", read_grace},	       {"entries", read_entries}, {"private", read_private},
	{"refuse", read_refuse},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

void policy_names_read(struct policy_reader *reader, struct json_object *value)
{
	const char *names[KEYS];
	size_t before = 0;

	reader->doc->names.is_used = true;
	if (!json_object_is_type(value, json_type_object)) {
		policy_complain(reader, "must be an object like {\"resolvers\": [\"10.0.0.1\"]}");
		return;
	}
	for (size_t i = 0; i < KEYS; i++)
		names[i] = keys[i].name;
	check_keys(reader, value, names, KEYS);
	for (size_t i = 0; i < KEYS; i++) {
		struct json_object *member;

		if (!has_member(value, keys[i].name))
			continue;
		member = enter(reader, value, keys[i].name, &before);
		keys[i].read(reader, member);
		policy_path_pop(&reader->path, before);
	}
}

/* ---- what only the whole document shows ---- */

static bool asks_for_domain(const struct policy_doc *doc, const struct policy_doc_rule *rule,
			    bool *ret_negated)
{
	for (uint32_t i = 0; i < rule->match_count; i++) {
		const struct policy_doc_match *match = &doc->matches[rule->first_match + i];

		*ret_negated = match->negated;
		if (match->field == POLICY_FIELD_DOMAIN)
			return true;
	}
	return false;
}

static void check_domains(struct policy_reader *reader)
{
	const struct policy_doc *doc = reader->doc;
	const size_t before = policy_path_key(&reader->path, "rules", 5);

	for (size_t i = 0; i < doc->rule_count; i++) {
		size_t at = policy_path_index(&reader->path, i);
		bool negated = false;

		if (asks_for_domain(doc, &doc->rules[i], &negated)) {
			const char *key = negated ? "not_domain" : "domain";

			policy_path_key(&reader->path, key, strlen(key));
			policy_complain(reader, "needs \"names\" with \"resolvers\": the servers "
						"whose answers say which address has which name");
		}
		policy_path_pop(&reader->path, at);
	}
	policy_path_pop(&reader->path, before);
}

/* Answers that nobody sees are believed by nobody. */
static void check_hooks(struct policy_reader *reader)
{
	const uint32_t incoming = NSGATE_HOOK_BIT(NSGATE_HOOK_IN) |
				  NSGATE_HOOK_BIT(NSGATE_HOOK_PREROUTING) |
				  NSGATE_HOOK_BIT(NSGATE_HOOK_FORWARD);
	size_t before;

	if (reader->doc->hooks & incoming || reader->doc->names.said.resolver_count == 0)
		return;
	before = policy_path_key(&reader->path, "hooks", 5);
	policy_complain(reader, "\"names\" has resolvers, whose answers come in by \"in\", "
				"\"prerouting\" or \"forward\": name one of these as well");
	policy_path_pop(&reader->path, before);
}

void policy_names_check(struct policy_reader *reader)
{
	const struct policy_names *said = &reader->doc->names.said;
	size_t before = 0;

	if (said->ttl_min_s > said->ttl_max_s) {
		before = policy_path_key(&reader->path, "names", 5);
		policy_path_key(&reader->path, "ttl_min", 7);
		policy_complain(reader, "%u is more than \"ttl_max\", which is %u", said->ttl_min_s,
				said->ttl_max_s);
		policy_path_pop(&reader->path, before);
	}
	check_hooks(reader);
	if (said->resolver_count == 0 && !reader->no_memory)
		check_domains(reader);
}
