// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/nft/rule.h"

#include <assert.h>
#include <stdio.h>

#include "nsgate/hook.h"

#define EACH ((uint64_t)(EACH_PATH | EACH_BYPASS))

void rule_chain_name(char name[RULES_CHAIN_NAME_MAX], enum rule_role role, uint32_t hook)
{
	static const char *const names[] = {
		[ROLE_JUDGE] = "judge",	  [ROLE_ANSWERS] = "answers", [ROLE_REJECT] = "reject",
		[ROLE_DENIED] = "denied", [ROLE_DROPPED] = "dropped", [ROLE_REPLIES] = "replies",
		[ROLE_ODD] = "odd",	  [ROLE_ERRORS] = "errors",   [ROLE_NOTICES] = "notices",
		[ROLE_UPKEEP] = "upkeep", [ROLE_SETTLE] = "settle",   [ROLE_MARKED] = "marked",
		[ROLE_NOTED] = "noted",	  [ROLE_FRAGMENTS] = "guard",
	};
	static const char *const common[] = {"unsure", "guessed", "guard"};

	static_assert(sizeof(names) / sizeof(names[0]) == ROLE_COMMON &&
			      sizeof(common) / sizeof(common[0]) == ROLE_MAX - ROLE_COMMON,
		      "each role has its name");
	if (role < ROLE_COMMON)
		rules_chain_name(name, names[role], hook);
	else
		snprintf(name, RULES_CHAIN_NAME_MAX, "%s", common[role - ROLE_COMMON]);
}

/* ---- when a row is there ---- */

static bool is_judged(const struct rules_set *set, uint32_t hook)
{
	return set->hooks & NSGATE_HOOK_BIT(hook);
}

/*
 * In a hook that is not judged what comes is accepted, unless another hook judges the same packets:
 * what leaves is judged in postrouting after it was here; what arrives was judged in prerouting,
 * and labelled there.
 */
static bool is_accepted(const struct rules_set *set, uint32_t hook)
{
	if (is_judged(set, hook))
		return !set->selective && !set->opened;
	if (hook != NSGATE_HOOK_IN && is_judged(set, NSGATE_HOOK_POSTROUTING))
		return false;
	return hook == NSGATE_HOOK_OUT || !is_judged(set, NSGATE_HOOK_PREROUTING);
}

/*
 * Errors about what leaves are the kernel's own, unless they are forwarded. What came by the
 * loopback left by it, and was looked at there.
 */
static bool is_of_kernel(const struct rules_path *path, uint32_t hook)
{
	return (rules_hook_outgoing(hook) && path->links != RULES_FORWARDED) ||
	       path->links == RULES_LOOP_IN;
}

static uint32_t when_hook(uint32_t hook)
{
	static const uint32_t hooks[NSGATE_HOOK_MAX] = {
		[NSGATE_HOOK_PREROUTING] = IF_PREROUTING | IF_INCOMING,
		[NSGATE_HOOK_IN] = IF_INCOMING,
		[NSGATE_HOOK_FORWARD] = IF_FORWARD,
		[NSGATE_HOOK_OUT] = IF_OUT | IF_OUTGOING,
		[NSGATE_HOOK_POSTROUTING] = IF_POSTROUTING | IF_OUTGOING,
	};

	return hooks[hook];
}

static uint32_t when_set(const struct rules_set *set, uint32_t hook)
{
	const bool judged = is_judged(set, hook), memory = rules_hook_offloads(hook);
	const struct {
		bool holds;
		uint32_t when;
	} all[] = {
		{set->ct_state, IF_CT},
		{set->ct_label, IF_LABELS},
		{set->fib, IF_FIB},
		{set->strict, IF_STRICT},
		{set->names, IF_NAMES},
		{set->offload && set->ct_label && memory, IF_OFFLOADS},
		{rules_denies(set, hook), IF_DENIES},
		{rules_remembers(set, hook), IF_REMEMBERS},
		{rules_judges_looped(set, hook), IF_LOOPED},
		/* Prerouting left behind labels nothing: in judges what it sees. */
		{set->ct_label && (judged || memory), IF_LABELLING},
		{is_accepted(set, hook), IF_ACCEPTED},
		{set->ct_label && judged && set->selective && !set->opened, IF_SELECTIVE},
	};
	uint32_t when = 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		when |= all[i].holds ? all[i].when : 0;
	return when;
}

static bool holds(uint64_t when, uint32_t now)
{
	return !((uint32_t)(when & ~EACH) & ~now) && !((uint32_t)(when >> 32) & now);
}

/* ---- rules ---- */

static void add_rule(const struct rule_context *context, const char *chain, const struct rule *rule,
		     uint32_t when)
{
	if (context->path && is_of_kernel(context->path, context->hook))
		when |= IF_OF_KERNEL;
	if (!holds(rule->when, when))
		return;
	nft_rule_begin(context->set->batch, chain);
	for (size_t i = 0; i < RULE_PARTS_MAX && rule->parts[i].add; i++)
		rule->parts[i].add(context, rule->parts[i].value);
	nft_rule_end(context->set->batch);
}

/* Rows that are made for each path, or each mark. */
static void add_block(const struct rules_set *set, uint32_t hook, const char *chain,
		      const struct rule *rules, size_t count, uint32_t when)
{
	const struct rules_paths paths = rules_paths(hook);
	const bool by_path = rules->when & EACH_PATH;
	const size_t times = by_path ? paths.count : set->bypass_count;
	struct rule_context context = {.set = set, .hook = hook};

	for (size_t i = 0; i < times; i++) {
		context.path = by_path ? &paths.list[i] : NULL;
		context.bypass = by_path ? NULL : &set->bypass[i];
		for (size_t j = 0; j < count; j++)
			add_rule(&context, chain, &rules[j], when);
	}
}

static void add_rules(const struct rules_set *set, uint32_t hook, const struct rule_chain *chain,
		      uint32_t when)
{
	const struct rule_context context = {.set = set, .hook = hook};
	char name[RULES_CHAIN_NAME_MAX];
	size_t end;

	rule_chain_name(name, chain->role, hook);
	for (size_t i = 0; i < chain->count; i = end) {
		const struct rule *rules = &chain->rules[i];

		end = i + 1;
		if (!(rules->when & EACH)) {
			add_rule(&context, name, rules, when);
			continue;
		}
		while (end < chain->count &&
		       (chain->rules[end].when & EACH) == (rules->when & EACH))
			end++;
		add_block(set, hook, name, rules, end - i, when);
	}
}

void rule_chains_add(const struct rules_set *set, uint32_t hook, const struct rule_chain *chains,
		     size_t count)
{
	const uint32_t when = when_hook(hook) | when_set(set, hook);
	char name[RULES_CHAIN_NAME_MAX];

	for (size_t i = 0; i < count; i++) {
		if (!holds(chains[i].when, when))
			continue;
		rule_chain_name(name, chains[i].role, hook);
		if (chains[i].priority)
			nft_add_base_chain(set->batch, name, "filter", hook, chains[i].priority);
		else
			nft_add_chain(set->batch, name);
	}
	for (size_t i = 0; i < count; i++)
		if (holds(chains[i].when, when))
			add_rules(set, hook, &chains[i], when);
}
