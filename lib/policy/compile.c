/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the document to the compiled form, and what the rest of the agent may know of it. */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "policy/compiled.h"
#include "policy/json.h"
#include "policy/match.h"
#include "policy/read.h"

#define COPY_HEADERS 256      /* an IP header, some extension headers, a transport header */
#define COPY_EVERYTHING 65531 /* what NFQUEUE can copy at most */

static uint64_t hash_name(const char *name)
{
	const uint64_t hash = hash_bytes(name, strlen(name));

	return hash ? hash : 1;
}

static void free_policy(struct policy *policy)
{
	policy_class_free(&policy->class);
	free(policy->rules);
	free(policy->checks);
	free(policy->values);
	free(policy->limits);
	free(policy->fickle.rules);
	free(policy->rule_infos);
	free(policy->rule_names);
	domain_set_free(policy->name_set);
	free(policy->source);
	free(policy);
}

/* Keep the matches that the classifier does not settle, with their values. */
static int compile_checks(struct policy *policy, const struct policy_doc *doc)
{
	size_t checks = 0, values = 0;

	for (size_t i = 0; i < doc->match_count; i++) {
		if (policy_class_settles(&policy->class, doc, &doc->matches[i]))
			continue;
		checks++;
		values += doc->matches[i].count;
	}
	policy->checks = calloc(checks + 1, sizeof(*policy->checks));
	policy->values = calloc(values + 1, sizeof(*policy->values));
	if (!policy->checks || !policy->values)
		return -ENOMEM;

	checks = values = 0;
	for (size_t i = 0; i < doc->rule_count; i++) {
		const struct policy_doc_rule *rule = &doc->rules[i];

		policy->rules[i].first_check = (uint32_t)checks;
		for (uint32_t j = 0; j < rule->match_count; j++) {
			const struct policy_doc_match *match = &doc->matches[rule->first_match + j];

			if (policy_class_settles(&policy->class, doc, match))
				continue;
			policy->checks[checks++] = (struct policy_check){
				.field = (uint8_t)match->field,
				.negated = match->negated,
				.first_value = (uint32_t)values,
				.value_count = match->count,
			};
			memcpy(&policy->values[values], &doc->values[match->first],
			       match->count * sizeof(*policy->values));
			if (match->field == POLICY_FIELD_DNS)
				policy->values[values].query.forbids =
					policy_action_forbids(rule->action);
			values += match->count;
		}
		policy->rules[i].check_count = (uint32_t)checks - policy->rules[i].first_check;
	}
	return 0;
}

static void compile_rule(struct policy *policy, size_t index, const struct policy_doc_rule *from)
{
	struct policy_rule *rule = &policy->rules[index];

	*rule = (struct policy_rule){
		.action = (uint8_t)from->action,
		.log = from->log,
		.audit = from->audit,
		.marks = from->marks,
		.queue = from->queue,
		.set_ttl = from->set_ttl,
		.set_dscp = from->set_dscp,
		.mark_set = from->mark_set,
		.mark_mask = from->mark_mask,
		.limit = POLICY_NO_LIMIT,
	};
	if (from->limited) {
		rule->limit = policy->info.limit_count++;
		policy->limits[rule->limit] = (struct policy_limit){
			.rate = from->limit.rate,
			.period_s = from->limit.period_s,
			.capacity = from->limit.burst * POLICY_TOKEN,
		};
	}
	if (from->set_ttl >= 0 || from->set_dscp >= 0)
		policy->info.needs |= POLICY_NEED_WHOLE | POLICY_NEED_SEGMENTS;
}

static int compile_rules(struct policy *policy, const struct policy_doc *doc)
{
	size_t names = 0, length;

	for (size_t i = 0; i < doc->rule_count; i++)
		names += strlen(doc->rules[i].name) + 1;
	policy->rules = calloc(doc->rule_count + 1, sizeof(*policy->rules));
	policy->limits = calloc(doc->rule_count + 1, sizeof(*policy->limits));
	policy->rule_infos = calloc(doc->rule_count + 1, sizeof(*policy->rule_infos));
	policy->rule_names = malloc(names + 1);
	if (!policy->rules || !policy->limits || !policy->rule_infos || !policy->rule_names)
		return -ENOMEM;

	names = 0;
	for (size_t i = 0; i < doc->rule_count; i++) {
		const struct policy_doc_rule *from = &doc->rules[i];

		compile_rule(policy, i, from);
		length = strlen(from->name) + 1;
		memcpy(policy->rule_names + names, from->name, length);
		policy->rule_infos[i] = (struct policy_rule_info){
			.name = policy->rule_names + names,
			.name_hash = hash_name(from->name),
			.action = from->action,
			.queue = from->queue,
			.queue_open = from->queue_open,
			.bypass_value = from->bypass_value,
			.bypass_mask = from->bypass_mask,
			.log = from->log,
		};
		names += length;
	}
	policy->info.rule_count = doc->rule_count;
	policy->info.rules = policy->rule_infos;
	policy->info.copy_length = COPY_HEADERS;
	if (policy->info.needs & POLICY_NEED_MESSAGE)
		policy->info.copy_length += POLICY_MESSAGE_MAX;
	if (policy->info.needs & POLICY_NEED_WHOLE)
		policy->info.copy_length = COPY_EVERYTHING;
	return 0;
}

static bool is_fickle(const struct policy_doc *doc, const struct policy_doc_rule *rule)
{
	if (rule->limited || rule->marks || rule->action == POLICY_ACTION_REPEAT)
		return true;
	for (uint32_t i = 0; i < rule->match_count; i++)
		if (!policy_matches[doc->matches[rule->first_match + i].field].of_flow)
			return true;
	return false;
}

static int compile_fickle(struct policy *policy, const struct policy_doc *doc)
{
	const size_t chunks = doc->rule_count / POLICY_CHUNK_RULES + 1;
	struct policy_fickle *fickle = &policy->fickle;

	fickle->first = doc->rule_count;
	fickle->rules = calloc(chunks * POLICY_CHUNK_WORDS, sizeof(*fickle->rules));
	if (!fickle->rules)
		return -ENOMEM;
	for (size_t i = doc->rule_count; i-- > 0;) {
		if (!is_fickle(doc, &doc->rules[i]))
			continue;
		fickle->rules[i / 64] |= UINT64_C(1) << i % 64;
		fickle->first = i;
	}
	return 0;
}

static void compile_info(struct policy *policy, const struct policy_doc *doc)
{
	struct policy_info *info = &policy->info;

	memcpy(policy->name, doc->name, sizeof(policy->name));
	info->name = policy->name;
	info->audit = doc->audit;
	info->offload = doc->offload;
	info->strict = doc->strict;
	info->open_on_agent_down = doc->open_on_agent_down;
	info->open_on_overload = doc->open_on_overload;
	info->hooks = doc->hooks;
	for (size_t i = 0; i < doc->match_count; i++)
		info->needs |= policy_matches[doc->matches[i].field].needs;
	memcpy(policy->ifpatterns, doc->ifpatterns, sizeof(policy->ifpatterns));
	for (size_t i = 0; i < doc->ifpattern_count; i++)
		policy->ifpattern_list[i] = policy->ifpatterns[i];
	info->ifpatterns = policy->ifpattern_list;
	info->ifpattern_count = doc->ifpattern_count;
	for (int i = 0; i < PKT_DIRECTION_MAX; i++) {
		policy->defaults[i] = (uint8_t)doc->defaults[i];
		info->rejects |= doc->defaults[i] == POLICY_ACTION_REJECT;
	}
	for (size_t i = 0; i < doc->rule_count; i++)
		info->rejects |= doc->rules[i].action == POLICY_ACTION_REJECT;
}

/* The set of patterns is taken from the document. */
static void compile_names(struct policy *policy, struct policy_doc *doc)
{
	if (!doc->names.is_used)
		return;
	policy->names = doc->names.said;
	policy->info.names = &policy->names;
	policy->info.needs |= POLICY_NEED_MESSAGE;
	policy->name_set = doc->names.set;
	doc->names.set = NULL;
}

static int compile_doc(struct policy *policy, struct policy_doc *doc)
{
	int err;

	compile_info(policy, doc);
	compile_names(policy, doc);
	err = compile_rules(policy, doc);
	if (err == 0)
		err = policy_class_build(&policy->class, doc);
	if (err == 0)
		err = compile_checks(policy, doc);
	if (err == 0)
		err = compile_fickle(policy, doc);
	return err;
}

/* Read the policy's own source into a document. Return: 0, -EINVAL (problems noted), -ENOMEM. */
static int read_doc(struct policy *policy, struct policy_doc *doc, struct policy_problems *problems)
{
	struct policy_json_list rules = {.name = "rules", .max = NSGATE_RULES_MAX};
	struct policy_reader reader = {.problems = problems, .doc = doc, .rules = &rules};
	struct json_object *document;
	int err;

	err = policy_json_read_list(policy->source, policy->source_length, &document, &rules,
				    problems);
	if (err == 0) {
		policy_read(&reader, document);
		json_object_put(document);
	}
	policy_json_list_free(&rules);
	if (err < 0)
		return err;
	if (reader.no_memory)
		return -ENOMEM;
	return problems->total > 0 ? -EINVAL : 0;
}

int policy_compile(const char *json, size_t length, struct policy **ret_policy,
		   struct policy_problems *problems)
{
	struct policy_doc doc = {.rule_count = 0};
	struct policy *policy = NULL;
	int err;

	policy = calloc(1, sizeof(*policy));
	if (!policy)
		return -ENOMEM;
	policy->references = 1;
	policy->source = malloc(length + 1);
	if (!policy->source) {
		err = -ENOMEM;
		goto out;
	}
	memcpy(policy->source, json, length);
	policy->source[length] = '\0';
	policy->source_length = length;
	policy->info.source_hash = hash_bytes(json, length);

	err = read_doc(policy, &doc, problems);
	if (err == 0)
		err = compile_doc(policy, &doc);
	policy_doc_free(&doc);
out:
	if (err < 0) {
		free_policy(policy);
		return err;
	}
	*ret_policy = policy;
	return 0;
}

struct policy *policy_ref(struct policy *policy)
{
	atomic_fetch_add_explicit(&policy->references, 1, memory_order_relaxed);
	return policy;
}

void policy_unref(struct policy *policy)
{
	if (policy && atomic_fetch_sub_explicit(&policy->references, 1, memory_order_acq_rel) == 1)
		free_policy(policy);
}

const struct policy_info *policy_info(const struct policy *policy)
{
	return &policy->info;
}

const char *policy_source(const struct policy *policy, size_t *ret_length)
{
	*ret_length = policy->source_length;
	return policy->source;
}

uint64_t policy_name_lists(const struct policy *policy, const struct domain *domain)
{
	return policy->name_set ? domain_set_match(policy->name_set, domain) : 0;
}

bool policy_ifpattern_match(const char *pattern, const char *name)
{
	size_t length = strlen(pattern);

	if (length > 0 && pattern[length - 1] == '*')
		return strncmp(pattern, name, length - 1) == 0;
	return strcmp(pattern, name) == 0;
}

int policy_state_init(struct policy_state *state, const struct policy *policy,
		      struct shm_rule *counters)
{
	const uint32_t count = policy->info.limit_count;
	struct policy_pool *pool = NULL;

	if (count > 0) {
		pool = calloc(1, sizeof(*pool) + count * sizeof(pool->buckets[0]));
		if (!pool)
			return -ENOMEM;
		atomic_init(&pool->references, 1);
		pthread_mutex_init(&pool->lock, NULL);
	}
	for (uint32_t i = 0; i < count; i++)
		pool->buckets[i].tokens = policy->limits[i].capacity;
	*state = (struct policy_state){
		.buckets = pool ? pool->buckets : NULL,
		.pool = pool,
		.counters = counters,
	};
	return 0;
}

void policy_state_join(struct policy_state *state, struct policy_state *other)
{
	if (other->pool)
		atomic_fetch_add_explicit(&other->pool->references, 1, memory_order_relaxed);
	other->pooled = true;
	*state = *other;
}

void policy_state_free(struct policy_state *state)
{
	struct policy_pool *pool = state->pool;

	state->buckets = NULL;
	state->pool = NULL;
	if (!pool || atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) > 1)
		return;
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
