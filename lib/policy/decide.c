/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * The classifier (lib/policy/class.h) names, for each field, the rules that can match. Those that
 * are in all of its sets are the candidates. They are tried in the order of the policy: what the
 * classifier left open is checked, then the rule's limit is asked. The first that holds decides,
 * but a `continue` rule only leaves its count and mark, and the next candidate is tried. Where
 * none holds, the default decides.
 *
 * A reversed packet (pkt_reverse(): it has unknown fields) takes no token from a limit: whether
 * the limit would hold is one more thing that is not known, so the rule matches if it forbids.
 */
#include <stddef.h>
#include <string.h>

#include "nsgate/shm.h"
#include "policy/compiled.h"
#include "policy/match.h"
#include "policy/value.h"

struct judge {
	const struct policy *policy;
	struct policy_state *state;
	const struct pkt *pkt;
	struct pkt marked; /* the packet again, once a rule has given it another mark */
	bool counts;	   /* not for a question about a reversed packet */
	bool again;	   /* a repeat rule has sent it round */

	/* The candidates: in which chunks there may be more, and what is left of the one at hand.
	 */
	const uint32_t *sets[POLICY_FIELD_MAX];
	uint32_t chunks;
	size_t chunk, word;
	struct policy_chunk left;
};

/* ---- candidates ---- */

static void look_up(struct judge *judge)
{
	const struct policy_class *class = &judge->policy->class;

	judge->chunks = class->all_chunks;
	for (size_t i = 0; i < class->dimension_count; i++) {
		judge->sets[i] = policy_class_lookup(class, &class->dimensions[i], judge->pkt);
		judge->chunks &= judge->sets[i][0];
	}
}

/* Intersect the sets in one chunk. */
static void load_chunk(struct judge *judge, size_t chunk)
{
	const struct policy_class *class = &judge->policy->class;
	policy_vector a, b, c, d; /* in registers: an array would be kept in memory */
	const struct policy_chunk *set;

	a = b = c = d = (policy_vector){-1, -1};
	for (size_t i = 0; i < class->dimension_count; i++) {
		set = policy_sets_chunk(&class->sets, judge->sets[i][1 + chunk]);
		a &= set->vectors[0];
		b &= set->vectors[1];
		c &= set->vectors[2];
		d &= set->vectors[3];
	}
	judge->left.vectors[0] = a;
	judge->left.vectors[1] = b;
	judge->left.vectors[2] = c;
	judge->left.vectors[3] = d;
	a |= b | c | d;
	judge->chunk = chunk;
	judge->word = a[0] | a[1] ? 0 : POLICY_CHUNK_WORDS;
}

/* Go on with the first candidate from rule `from`. */
static void seek(struct judge *judge, size_t from)
{
	size_t chunk = from / POLICY_CHUNK_RULES;

	judge->word = POLICY_CHUNK_WORDS;
	if (chunk >= judge->policy->class.sets.chunks_per_set) {
		judge->chunks = 0;
		return;
	}
	judge->chunks &= UINT32_MAX << chunk;
	if (!(judge->chunks >> chunk & 1))
		return;
	load_chunk(judge, chunk);
	judge->chunks &= judge->chunks - 1;
	for (size_t word = 0; word < from % POLICY_CHUNK_RULES / 64; word++)
		judge->left.words[word] = 0;
	judge->left.words[from % POLICY_CHUNK_RULES / 64] &= UINT64_MAX << from % 64;
}

/* Take the next candidate. Return: its index, or POLICY_RULE_DEFAULT after the last. */
static int32_t next_candidate(struct judge *judge)
{
	const struct policy *policy = judge->policy;
	size_t rule;

	for (;;) {
		for (; judge->word < POLICY_CHUNK_WORDS; judge->word++) {
			uint64_t *word = &judge->left.words[judge->word];

			if (*word == 0)
				continue;
			rule = judge->chunk * POLICY_CHUNK_RULES + judge->word * 64 +
			       (size_t)__builtin_ctzll(*word);
			*word &= *word - 1;
			/* Without any dimension, all bits are set, past the last rule too. */
			return rule < policy->info.rule_count ? (int32_t)rule : POLICY_RULE_DEFAULT;
		}
		if (judge->chunks == 0)
			return POLICY_RULE_DEFAULT;
		load_chunk(judge, (size_t)__builtin_ctz(judge->chunks));
		judge->chunks &= judge->chunks - 1;
	}
}

/* ---- does a candidate hold? ---- */

static bool checks_hold(const struct judge *judge, const struct policy_rule *rule)
{
	const struct policy_check *check = &judge->policy->checks[rule->first_check];

	for (uint32_t i = 0; i < rule->check_count; i++, check++) {
		if (judge->pkt->unknown & POLICY_FIELD_BIT(check->field)) {
			if (!policy_action_forbids((enum policy_action)rule->action))
				return false;
		} else if (!policy_match_holds((enum policy_field)check->field, check->negated,
					       &judge->policy->values[check->first_value],
					       check->value_count, judge->pkt)) {
			return false;
		}
	}
	return true;
}

/* Fill the bucket for the time that has passed, then take one packet's token if it is there. */
static bool take_token(const struct policy_limit *limit, struct policy_bucket *bucket,
		       uint64_t now_ns)
{
	uint64_t elapsed = now_ns > bucket->filled_at_ns ? now_ns - bucket->filled_at_ns : 0;
	/* A rate of one per second is one unit per nanosecond; 64 bits would not hold the product.
	 */
	unsigned __int128 gained = (unsigned __int128)elapsed * limit->rate / limit->period_s;

	if (gained >= limit->capacity - bucket->tokens) {
		bucket->tokens = limit->capacity;
		if (now_ns > bucket->filled_at_ns) /* the turn of another queue began later */
			bucket->filled_at_ns = now_ns;
	} else if (gained > 0) {
		bucket->tokens += (uint64_t)gained;
		/* Only the time that was paid out, rounded up, so that no more is given than due.
		 */
		bucket->filled_at_ns +=
			(uint64_t)((gained * limit->period_s + limit->rate - 1) / limit->rate);
	}
	if (bucket->tokens < POLICY_TOKEN)
		return false;
	bucket->tokens -= POLICY_TOKEN;
	return true;
}

static __attribute__((noinline)) bool take_limited(const struct policy *policy,
						   const struct policy_state *state, uint32_t index)
{
	const struct policy_limit *limit = &policy->limits[index];
	bool taken;

	if (state->pooled)
		pthread_mutex_lock(&state->pool->lock);
	taken = take_token(limit, &state->buckets[index], state->now_ns);
	if (state->pooled)
		pthread_mutex_unlock(&state->pool->lock);
	return taken;
}

static bool limit_holds(const struct judge *judge, const struct policy_rule *rule)
{
	if (rule->limit == POLICY_NO_LIMIT)
		return true;
	if (judge->pkt->unknown)
		return policy_action_forbids((enum policy_action)rule->action);
	return take_limited(judge->policy, judge->state, rule->limit);
}

static bool rule_holds(const struct judge *judge, const struct policy_rule *rule)
{
	if (rule->action == POLICY_ACTION_REPEAT && judge->again)
		return false;
	return checks_hold(judge, rule) && limit_holds(judge, rule);
}

/* ---- what a rule does ---- */

/* This thread alone writes; a reader sees whole words that never go down. */
static void add(uint64_t *counter, uint64_t amount)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + amount,
			 __ATOMIC_RELAXED);
}

#define REACH_AGAIN_NS 100000000

/* The first hit in a group of slots. Return: may they be used? */
static __attribute__((noinline)) bool reach(const struct judge *judge, int32_t index)
{
	struct policy_state *state = judge->state;

	if (state->now_ns >= state->full_until_ns) {
		if (shm_rule_reach(state->touched, state->counters, (uint32_t)index) == 0)
			return true;
		state->full_until_ns = state->now_ns + REACH_AGAIN_NS;
	}
	__atomic_store_n(&state->uncounted, state->uncounted + 1, __ATOMIC_RELAXED);
	return false;
}

static bool has_slot(const struct judge *judge, int32_t index)
{
	const uint64_t *touched = judge->state->touched;

	return !touched || shm_rule_touched(touched, (uint32_t)index) || reach(judge, index);
}

/* The first hit of a rule: the name is there before any count is. */
static __attribute__((noinline)) void claim(const struct judge *judge, int32_t index)
{
	__atomic_store_n(&judge->state->counters[index].name_hash,
			 judge->policy->info.rules[index].name_hash, __ATOMIC_RELEASE);
}

static void count(const struct judge *judge, int32_t index)
{
	struct shm_rule *slot = &judge->state->counters[index];

	if (!has_slot(judge, index))
		return;
	if (slot->name_hash == 0)
		claim(judge, index);
	add(&slot->count.packets, 1);
	add(&slot->count.bytes, judge->pkt->length);
}

/* Return: has the packet another mark now, as far as later rules are concerned? */
static bool apply_mark(struct judge *judge, const struct policy_rule *rule,
		       struct policy_decision *decision)
{
	uint64_t unknown = judge->pkt->unknown;
	uint32_t mark;

	if (!rule->marks)
		return false;
	mark = (decision->mark & ~rule->mark_mask) | rule->mark_set;
	if (rule->mark_mask == POLICY_MARK_MASK)
		unknown &= ~POLICY_FIELD_BIT(POLICY_FIELD_MARK);
	if (mark == decision->mark && unknown == judge->pkt->unknown)
		return false;
	if (judge->pkt != &judge->marked) {
		judge->marked = *judge->pkt;
		judge->pkt = &judge->marked;
	}
	judge->marked.mark = mark;
	judge->marked.unknown = unknown;
	decision->mark = mark;
	return true;
}

/* The list of who wants it logged is long, and as empty as its count says. */
static void begin_decision(struct policy_decision *ret, uint32_t mark)
{
	memset(ret, 0, offsetof(struct policy_decision, log_rules));
	ret->mark = mark;
	ret->set_ttl = -1;
	ret->set_dscp = -1;
}

static void want_log(struct policy_decision *decision, int32_t rule)
{
	if (decision->log_count < POLICY_LOGS_MAX)
		decision->log_rules[decision->log_count] = rule;
	decision->log_count++;
}

/*
 * Find the rule that decides, with the traces that the rules on the way leave in `decision`.
 * Return: its index, or POLICY_RULE_DEFAULT.
 */
static int32_t find_rule(struct judge *judge, struct policy_decision *decision)
{
	const struct policy_rule *rule;
	int32_t index;

	/* policy_decide() sets what is read here, and not the rest, which is large. */
	/* cppcheck-suppress ctuuninitvar */
	if (judge->policy->info.rule_count == 0)
		return POLICY_RULE_DEFAULT;
	look_up(judge);
	judge->word = POLICY_CHUNK_WORDS;
	while ((index = next_candidate(judge)) != POLICY_RULE_DEFAULT) {
		rule = &judge->policy->rules[index];
		if (!rule_holds(judge, rule))
			continue;
		if (judge->counts)
			count(judge, index);
		if (rule->log)
			want_log(decision, index);
		if (apply_mark(judge, rule, decision)) {
			look_up(judge); /* the rules after this one see the new mark */
			seek(judge, (size_t)index + 1);
		}
		if (rule->action != POLICY_ACTION_CONTINUE)
			break;
	}
	return index;
}

static enum policy_verdict verdict_of(enum policy_action action)
{
	switch (action) {
	case POLICY_ACTION_ACCEPT:
		return POLICY_VERDICT_ACCEPT;
	case POLICY_ACTION_REJECT:
		return POLICY_VERDICT_REJECT;
	case POLICY_ACTION_QUEUE:
		return POLICY_VERDICT_QUEUE;
	case POLICY_ACTION_DROP:
	case POLICY_ACTION_REPEAT:   /* find_rule() lets through one only */
	case POLICY_ACTION_CONTINUE: /* and none of these */
	case POLICY_ACTION_MAX:
		break;
	}
	return POLICY_VERDICT_DROP;
}

void policy_decide(const struct policy *policy, struct policy_state *state, const struct pkt *pkt,
		   struct policy_decision *ret)
{
	struct judge judge;
	enum policy_action action;
	bool audit = policy->info.audit, logged = false;

	begin_decision(ret, pkt->mark);
	judge.policy = policy;
	judge.state = state;
	judge.pkt = pkt;
	judge.counts = !pkt->unknown;
	judge.again = false;

	ret->rule = find_rule(&judge, ret);
	if (ret->rule != POLICY_RULE_DEFAULT &&
	    policy->rules[ret->rule].action == POLICY_ACTION_REPEAT) {
		ret->repeated = true;
		judge.again = true;
		ret->rule = find_rule(&judge, ret);
	}

	if (ret->rule == POLICY_RULE_DEFAULT) {
		action = (enum policy_action)policy->defaults[pkt->direction];
	} else {
		const struct policy_rule *rule = &policy->rules[ret->rule];

		action = (enum policy_action)rule->action;
		audit |= rule->audit;
		logged = rule->log;
		ret->queue = rule->queue;
		ret->set_ttl = rule->set_ttl;
		ret->set_dscp = rule->set_dscp;
	}
	ret->verdict = verdict_of(action);
	if (audit && policy_action_forbids(action)) {
		ret->verdict = POLICY_VERDICT_ACCEPT;
		ret->would_drop = true;
		if (!logged)
			want_log(ret, ret->rule);
	}
}
