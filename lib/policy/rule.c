/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One rule of a policy document. */
#include <assert.h>
#include <json-c/json.h>
#include <string.h>

#include "policy/match.h"
#include "policy/rule.h"
#include "policy/value.h"

#define LIMIT_BURST_MAX 1000000000
#define LIMIT_BURST_LEAST 5

const char *const policy_action_names[POLICY_ACTION_MAX] = {
	[POLICY_ACTION_ACCEPT] = "accept", [POLICY_ACTION_DROP] = "drop",
	[POLICY_ACTION_REJECT] = "reject", [POLICY_ACTION_QUEUE] = "queue",
	[POLICY_ACTION_REPEAT] = "repeat", [POLICY_ACTION_CONTINUE] = "continue",
};
static_assert(sizeof(policy_action_names) / sizeof(policy_action_names[0]) == POLICY_ACTION_MAX,
	      "a name for every action");

/* A rule while it is read: keys come in any order, so they are held together at the end. */
struct draft {
	struct policy_doc_rule *rule;
	bool has_name, has_action, has_queue, has_queue_down, has_bypass, has_set;
	bool action_known; /* else nothing can be said of what goes with it */
};

static void read_name(struct policy_reader *reader, struct draft *draft, struct json_object *value)
{
	draft->has_name = true;
	policy_value_name(reader, value, draft->rule->name);
}

static void read_action(struct policy_reader *reader, struct draft *draft,
			struct json_object *value)
{
	const char *words[POLICY_ACTION_MAX + 1] = {NULL};
	int action;

	draft->has_action = true;
	memcpy(words, policy_action_names, sizeof(policy_action_names));
	if (policy_value_word(reader, value, words, &action)) {
		draft->rule->action = (enum policy_action)action;
		draft->action_known = true;
	}
}

static void read_queue(struct policy_reader *reader, struct draft *draft, struct json_object *value)
{
	uint64_t queue;

	draft->has_queue = true;
	if (policy_value_number(reader, value, "queue", 0, 65535, &queue))
		draft->rule->queue = (uint16_t)queue;
}

static void read_queue_down(struct policy_reader *reader, struct draft *draft,
			    struct json_object *value)
{
	static const char *const words[] = {"closed", "open", NULL};
	int word;

	draft->has_queue_down = true;
	if (policy_value_word(reader, value, words, &word))
		draft->rule->queue_open = word == 1;
}

/* Written as a mark to match. One without a bit that is set would be borne by unmarked packets. */
static void read_bypass_mark(struct policy_reader *reader, struct draft *draft,
			     struct json_object *value)
{
	union policy_value mark;

	draft->has_bypass = true;
	if (!policy_value_mark_match(reader, value, &mark))
		return;
	if (mark.masked.value == 0) {
		policy_complain(reader, "must have a bit that is set, like \"0x1/0x1\": a packet "
					"without a mark would bear it");
		return;
	}
	draft->rule->bypass_value = (uint32_t)mark.masked.value;
	draft->rule->bypass_mask = (uint32_t)mark.masked.mask;
}

static void read_log(struct policy_reader *reader, struct draft *draft, struct json_object *value)
{
	policy_value_bool(reader, value, &draft->rule->log);
}

static void read_audit(struct policy_reader *reader, struct draft *draft, struct json_object *value)
{
	policy_value_bool(reader, value, &draft->rule->audit);
}

static void read_comment(struct policy_reader *reader, struct draft *draft,
			 struct json_object *value)
{
	const char *ignored;

	(void)draft;
	policy_value_text(reader, value, &ignored);
}

/* Is this an object? If not, say so. */
static bool check_object(struct policy_reader *reader, struct json_object *value, const char *like)
{
	if (json_object_is_type(value, json_type_object))
		return true;
	policy_complain(reader, "must be an object like %s", like);
	return false;
}

static void read_limit(struct policy_reader *reader, struct draft *draft, struct json_object *value)
{
	static const char *const names[] = {"rate", "burst"};
	struct policy_doc_limit *limit = &draft->rule->limit;
	bool has_rate = false, has_burst = false;
	size_t before;

	if (!check_object(reader, value, "{\"rate\": \"50/s\", \"burst\": 100}"))
		return;
	json_object_object_foreach (value, key, member) {
		before = policy_path_key(&reader->path, key, strlen(key));
		if (strcmp(key, "rate") == 0) {
			has_rate = true;
			policy_value_rate(reader, member, limit);
		} else if (strcmp(key, "burst") == 0) {
			has_burst = true;
			policy_value_number(reader, member, "burst", 1, LIMIT_BURST_MAX,
					    &limit->burst);
		} else {
			policy_unknown_key(reader, key, names, 2);
		}
		policy_path_pop(&reader->path, before);
	}
	if (!has_rate)
		policy_complain(reader, "\"rate\" is missing; write it like \"50/s\"");
	/* One period's worth at once is no surprise to whoever wrote the rate. */
	if (!has_burst)
		limit->burst = limit->rate > LIMIT_BURST_LEAST ? limit->rate : LIMIT_BURST_LEAST;
	draft->rule->limited = true;
}

static void read_mark_rewrite(struct policy_reader *reader, struct draft *draft,
			      struct json_object *value)
{
	static const char *const names[] = {"set", "mask"};
	struct policy_doc_rule *rule = draft->rule;
	uint32_t set = 0, mask = POLICY_MARK_MASK;
	bool has_set = false, sound = true;
	size_t before;

	if (!check_object(reader, value, "{\"set\": \"0x10\", \"mask\": \"0xff\"}"))
		return;
	json_object_object_foreach (value, key, member) {
		before = policy_path_key(&reader->path, key, strlen(key));
		if (strcmp(key, "set") == 0) {
			has_set = true;
			sound &= policy_value_mark(reader, member, &set);
		} else if (strcmp(key, "mask") == 0) {
			sound &= policy_value_mark(reader, member, &mask);
		} else {
			policy_unknown_key(reader, key, names, 2);
		}
		policy_path_pop(&reader->path, before);
	}
	if (!has_set)
		policy_complain(reader, "\"set\" is missing: the mark to set");
	else if (sound && set & ~mask)
		policy_complain(reader, "bits of 0x%x are outside of the mask 0x%x", set, mask);
	if (rule->marks)
		policy_complain(reader, "the mark is set twice, by \"mark\" and in \"set\"");
	rule->marks = true;
	rule->mark_set = set;
	rule->mark_mask = mask;
}

static void read_set_ttl(struct policy_reader *reader, struct draft *draft,
			 struct json_object *value)
{
	uint64_t ttl;

	if (policy_value_number(reader, value, "ttl", 1, 255, &ttl))
		draft->rule->set_ttl = (int16_t)ttl;
}

static void read_set_dscp(struct policy_reader *reader, struct draft *draft,
			  struct json_object *value)
{
	uint64_t dscp;
	int named;

	if (json_object_is_type(value, json_type_string)) {
		named = policy_name_lookup(policy_dscps, json_object_get_string(value));
		if (named < 0)
			policy_name_unknown(reader, policy_dscps, "dscp",
					    json_object_get_string(value));
		else
			draft->rule->set_dscp = (int16_t)named;
	} else if (policy_value_number(reader, value, "dscp", 0, 63, &dscp)) {
		draft->rule->set_dscp = (int16_t)dscp;
	}
}

struct key {
	const char *name;
	void (*read)(struct policy_reader *reader, struct draft *draft, struct json_object *value);
};

static const struct key set_keys[] = {
	{"ttl", read_set_ttl},
	{"dscp", read_set_dscp},
	{"mark", read_mark_rewrite},
};
#define SET_KEYS (sizeof(set_keys) / sizeof(set_keys[0]))

/* Return: is `name` among the keys? Then it has been read. */
static bool read_known_key(struct policy_reader *reader, struct draft *draft,
			   const struct key *keys, size_t count, const char *name,
			   struct json_object *value)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(keys[i].name, name) == 0) {
			keys[i].read(reader, draft, value);
			return true;
		}
	}
	return false;
}

static void read_set(struct policy_reader *reader, struct draft *draft, struct json_object *value)
{
	static const char *const names[SET_KEYS] = {"ttl", "dscp", "mark"};
	size_t before;

	draft->has_set = true;
	if (!check_object(reader, value, "{\"ttl\": 64, \"dscp\": 46}"))
		return;
	if (json_object_object_length(value) == 0)
		policy_complain(reader, "sets nothing; name \"ttl\", \"dscp\" or \"mark\"");
	json_object_object_foreach (value, key, member) {
		before = policy_path_key(&reader->path, key, strlen(key));
		if (!read_known_key(reader, draft, set_keys, SET_KEYS, key, member))
			policy_unknown_key(reader, key, names, SET_KEYS);
		policy_path_pop(&reader->path, before);
	}
}

static const struct key rule_keys[] = {
	{"name", read_name},
	{"action", read_action},
	{"queue", read_queue},
	{"on_queue_down", read_queue_down},
	{"bypass_mark", read_bypass_mark},
	{"log", read_log},
	{"audit", read_audit},
	{"limit", read_limit},
	{"set", read_set},
	{"comment", read_comment},
};
#define RULE_KEYS (sizeof(rule_keys) / sizeof(rule_keys[0]))

static void unknown_rule_key(struct policy_reader *reader, const char *key)
{
	static const char *const later[] = {"tls", "http"};
	const char *bare = strncmp(key, "not_", 4) == 0 ? key + 4 : key;
	const char *names[RULE_KEYS + POLICY_FIELD_MAX], *nearest;
	size_t count = 0;

	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		if (strcmp(later[i], bare) == 0) {
			policy_complain(reader, "\"%s\" is not supported by this version of nsgate",
					key);
			return;
		}
	}
	for (size_t i = 0; i < POLICY_FIELD_MAX; i++)
		names[count++] = policy_matches[i].name;
	nearest = bare == key ? NULL : policy_nearest(bare, names, count);
	if (nearest) {
		policy_complain(reader, "unknown key \"%.40s\"; did you mean \"not_%s\"?", key,
				nearest);
		return;
	}
	for (size_t i = 0; i < RULE_KEYS; i++)
		names[count++] = rule_keys[i].name;
	policy_unknown_key(reader, key, names, count);
}

static void read_key(struct policy_reader *reader, struct draft *draft, const char *key,
		     struct json_object *value)
{
	if (strcmp(key, "mark") == 0 && json_object_is_type(value, json_type_object))
		read_mark_rewrite(reader, draft, value);
	else if (!read_known_key(reader, draft, rule_keys, RULE_KEYS, key, value) &&
		 !policy_match_read(reader, key, value))
		unknown_rule_key(reader, key);
}

/* Complain of a key of the rule. */
static void complain_of(struct policy_reader *reader, const char *key, const char *message)
{
	size_t before = policy_path_key(&reader->path, key, strlen(key));

	policy_complain(reader, "%s", message);
	policy_path_pop(&reader->path, before);
}

/* What goes with the action `queue`. */
static void check_queue(struct policy_reader *reader, const struct draft *draft)
{
	static const char stray[] = "goes only with action \"queue\"";
	const struct policy_doc_rule *rule = draft->rule;

	if (rule->action != POLICY_ACTION_QUEUE) {
		if (draft->has_queue)
			complain_of(reader, "queue", stray);
		if (draft->has_queue_down)
			complain_of(reader, "on_queue_down", stray);
		if (draft->has_bypass)
			complain_of(reader, "bypass_mark", stray);
		return;
	}
	if (!draft->has_queue)
		policy_complain(reader, "action \"queue\" needs a \"queue\": the other consumer's "
					"queue number");
	if (rule->marks && rule->bypass_mask && (rule->bypass_mask & ~rule->mark_mask) == 0 &&
	    (rule->mark_set & rule->bypass_mask) == rule->bypass_value)
		complain_of(reader, "bypass_mark",
			    "is what the rule's own \"mark\" sets, so every packet would bear it");
}

/* What goes with which action. */
static void check_action(struct policy_reader *reader, const struct draft *draft)
{
	enum policy_action action = draft->rule->action;

	check_queue(reader, draft);
	if (action == POLICY_ACTION_REPEAT && !draft->rule->marks)
		policy_complain(reader, "action \"repeat\" needs a \"mark\" like "
					"{\"set\": \"0x10\"}: without one, nothing would be "
					"different the second time");
	if (draft->has_set && action != POLICY_ACTION_ACCEPT)
		complain_of(reader, "set", "goes only with action \"accept\"");
	else if (draft->rule->marks &&
		 (action == POLICY_ACTION_DROP || action == POLICY_ACTION_REJECT))
		complain_of(reader, "mark", "a packet that is dropped or rejected needs no mark");
}

void policy_rule_read(struct policy_reader *reader, struct policy_doc_rule *rule,
		      struct json_object *value)
{
	struct draft draft = {.rule = rule};
	size_t before;

	rule->set_ttl = -1;
	rule->set_dscp = -1;
	rule->first_match = (uint32_t)reader->doc->match_count;
	if (!check_object(reader, value, "{\"name\": \"web\", \"action\": \"accept\"}"))
		return;
	json_object_object_foreach (value, key, member) {
		before = policy_path_key(&reader->path, key, strlen(key));
		read_key(reader, &draft, key, member);
		policy_path_pop(&reader->path, before);
	}
	if (!draft.has_name)
		policy_complain(reader, "\"name\" is missing; every rule has one of its own");
	if (!draft.has_action)
		policy_complain(reader, "\"action\" is missing: accept, drop, reject, queue, "
					"repeat or continue");
	if (draft.action_known)
		check_action(reader, &draft);
}
