/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A decision holds for a whole flow if no rule up to the one that decided, that one included, could
 * do with another packet of the flow what it did not do with this one, or the other way about. A
 * rule can if it asks for something that packets of a flow differ in, has a limit, or changes the
 * mark that later rules see (lib/policy/compile.c knows these, the fickle ones); unless what it
 * asks of the flow itself keeps the whole flow from it. All other rules do the same with each
 * packet.
 *
 * policy_decide() could note what it came across, but rules that the classifier excluded because
 * of one packet's value it never sees. So this is a question of its own, and deciding stays as it
 * is. It is asked of the few packets alone whose decision somebody wants to keep.
 */
#include "policy/compiled.h"
#include "policy/match.h"

/* Does what the rule asks of the flow, beyond what the classifier settled, hold? */
static bool flow_checks_hold(const struct policy *policy, size_t index, const struct pkt *pkt)
{
	const struct policy_rule *rule = &policy->rules[index];
	const struct policy_check *check = &policy->checks[rule->first_check];

	for (uint32_t i = 0; i < rule->check_count; i++, check++) {
		if (policy_matches[check->field].of_flow &&
		    !policy_match_holds((enum policy_field)check->field, check->negated,
					&policy->values[check->first_value], check->value_count,
					pkt))
			return false;
	}
	return true;
}

/* The fickle rules of a word that the classifier, asked for the flow alone, leaves. */
static uint64_t fickle_candidates(const struct policy *policy, const uint32_t *const *sets,
				  size_t word)
{
	const struct policy_class *class = &policy->class;
	const size_t chunk = word / POLICY_CHUNK_WORDS;
	uint64_t rules = policy->fickle.rules[word];

	for (size_t i = 0; i < class->flow_dimension_count && rules; i++)
		rules &= policy_sets_chunk(&class->sets, sets[i][1 + chunk])
				 ->words[word % POLICY_CHUNK_WORDS];
	return rules;
}

bool policy_decides_flow(const struct policy *policy, const struct pkt *pkt,
			 const struct policy_decision *decision)
{
	const struct policy_class *class = &policy->class;
	const uint32_t *sets[POLICY_FIELD_MAX];
	const size_t end = decision->rule == POLICY_RULE_DEFAULT ? policy->info.rule_count
								 : (size_t)decision->rule + 1;

	if (decision->repeated)
		return false;
	if (policy->fickle.first >= end)
		return true;
	for (size_t i = 0; i < class->flow_dimension_count; i++)
		sets[i] = policy_class_lookup(class, &class->dimensions[i], pkt);
	for (size_t word = policy->fickle.first / 64; word * 64 < end; word++) {
		uint64_t rules = fickle_candidates(policy, sets, word);

		for (; rules; rules &= rules - 1) {
			const size_t index = word * 64 + (size_t)__builtin_ctzll(rules);

			if (index < end && flow_checks_hold(policy, index, pkt))
				return false;
		}
	}
	return true;
}
