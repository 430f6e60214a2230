// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * A policy is put in force in two steps, in this order:
 * first every queue of the namespace is bound to it between two turns of its worker, so from then
 * on each packet is judged by it; then the broker is asked to put the rules in force, which also
 * carry a new generation, so that what the kernel remembers of flows (by the old policy) counts no
 * more. A packet judged by the old policy is through the kernel before the first step is over,
 * because a verdict takes effect inside the send; so no flow is ever remembered under a
 * generation whose policy did not judge it.
 *
 * What was denied is forgotten in the second step, too. From the first step on the queues have none
 * noted, until the broker says that the rules in force are those of their policy and remember it:
 * so what the kernel drops unasked was denied by the policy in force, or, until the broker has
 * done the second step, by the one before.
 */
#include "agent/ns/policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "hash.h"
#include "loop.h"
#include "agent/ns/names.h"
#include "agent/ns/state.h"
#include "nsgate/hook.h"
#include "nsgate/flow.h"
#include "agent/worker/worker.h"

/* ---- changes: who waits for what ---- */

static void change_worsen(struct ns_change *change, uint32_t status, const char *text)
{
	if (!change || !status || change->status)
		return;
	change->status = status;
	memcpy(change->text, text, strnlen(text, sizeof(change->text) - 1));
}

static void change_release(struct ns_change *change)
{
	if (change && --change->waiting == 0)
		change->done(change, change->context);
}

void ns_change_end(struct ns *ns, uint32_t status, const char *text)
{
	struct ns_change *change = ns->change;

	ns->change = NULL;
	change_worsen(change, status, text);
	change_release(change);
}

/* ---- what the kernel should have ---- */

static uint32_t next_generation(uint32_t generation)
{
	return generation >= NSGATE_GENERATION_MAX ? 1 : generation + 1;
}

static bool hands_on(const struct policy_info *info)
{
	for (size_t i = 0; i < info->rule_count; i++)
		if (info->rules[i].action == POLICY_ACTION_QUEUE)
			return true;
	return false;
}

/* Is not all accepted that passes? Then the agent says of what was. */
static bool is_selective(const struct policy_info *info)
{
	return info->open_on_agent_down || info->open_on_overload || hands_on(info);
}

static bool has_bypass(const struct nsgate_rules_spec *spec, const struct nsgate_bypass_mark *mark)
{
	for (uint32_t i = 0; i < spec->bypass_count; i++)
		if (spec->bypass[i].value == mark->value && spec->bypass[i].mask == mark->mask)
			return true;
	return false;
}

/* No policy has more different ones than there is room for (lib/policy/doc.c). */
static void want_bypass(struct nsgate_rules_spec *spec, const struct policy_info *info)
{
	for (size_t i = 0; i < info->rule_count; i++) {
		const struct nsgate_bypass_mark mark = {info->rules[i].bypass_value,
							info->rules[i].bypass_mask};

		if (mark.mask && spec->bypass_count < NSGATE_BYPASS_MARKS_MAX &&
		    !has_bypass(spec, &mark))
			spec->bypass[spec->bypass_count++] = mark;
	}
}

static struct nsgate_rules_spec wanted_spec(const struct ns *ns, uint32_t generation)
{
	const struct policy_info *info = ns->policy ? policy_info(ns->policy) : NULL;
	struct nsgate_rules_spec spec = {.generation = generation};

	if (info) {
		spec.hooks = info->hooks;
		if (info->open_on_agent_down)
			spec.flags |= NSGATE_RULES_BYPASS;
		if (info->open_on_overload)
			spec.flags |= NSGATE_RULES_OVERLOAD;
		if (info->offload)
			spec.flags |= NSGATE_RULES_OFFLOAD;
		/* An audit drops nothing; for the strict, see DESIGN.md. */
		if (info->offload && !info->audit && !info->strict)
			spec.flags |= NSGATE_RULES_DENIED;
		if (info->strict)
			spec.flags |= NSGATE_RULES_STRICT;
		if (hands_on(info))
			spec.flags |= NSGATE_RULES_CONSUMERS;
		if (info->names)
			spec.flags |= NSGATE_RULES_NAMES;
		want_bypass(&spec, info);
	} else {
		/* Nothing is known but that it is to be policed: as before, else both ways. */
		spec.hooks = ns->record.rules.hooks ? ns->record.rules.hooks
						    : NSGATE_HOOK_BIT(NSGATE_HOOK_IN) |
							      NSGATE_HOOK_BIT(NSGATE_HOOK_OUT);
		spec.flags = ns->record.rules.flags & NSGATE_RULES_STRICT;
	}
	return spec;
}

/* What the kernel counts is to be read also if nobody asks before the next change. */
static void note_kernel(struct ns *ns)
{
	if (ns->wanted.flags & STATS_PASSING)
		ns->last.passes = true;
	if (ns->wanted.flags & NSGATE_RULES_STRICT)
		ns->last.strict = true;
}

static void want_rules(struct ns *ns, uint32_t generation)
{
	ns->generation = generation;
	ns->wanted = wanted_spec(ns, generation);
	note_kernel(ns);
	ns->rules_error[0] = '\0'; /* that was about others */
	ns->todo |= NS_TODO_RULES;
}

/* ---- binding a policy to the queues ---- */

static int compare_links(const void *one, const void *other)
{
	const struct queue_link *a = one, *b = other;

	return (a->ifindex > b->ifindex) - (a->ifindex < b->ifindex);
}

static int make_links(const struct ns *ns, const struct policy *policy,
		      struct queue_link **ret_links)
{
	const struct policy_info *info = policy ? policy_info(policy) : NULL;
	struct queue_link *links = calloc(ns->link_count ? ns->link_count : 1, sizeof(*links));

	if (!links)
		return -ENOMEM;
	for (uint32_t i = 0; i < ns->link_count; i++) {
		links[i].ifindex = ns->links[i].ifindex;
		for (size_t p = 0; info && p < info->ifpattern_count; p++)
			if (policy_ifpattern_match(info->ifpatterns[p], ns->links[i].name))
				links[i].bits |= 1ULL << p;
	}
	qsort(links, ns->link_count, sizeof(*links), compare_links); /* it is searched by halves */
	*ret_links = links;
	return 0;
}

/* No rule can have that name. */
static uint64_t fallback_key(const struct ns *ns)
{
	char text[sizeof("default/") + NSGATE_NAME_MAX];
	const int length = snprintf(text, sizeof(text), "default/%s", ns->record.policy);

	return hash_bytes(text, (size_t)length);
}

static void binding_free(struct queue_binding *binding)
{
	policy_unref(binding->policy);
	policy_state_free(&binding->state);
	free(binding->links);
	free(binding->scratch);
}

/* `first` is the binding of the namespace's first queue, if it is made. */
static int binding_make(struct ns *ns, struct policy *policy, struct queue_binding *first,
			struct queue_binding *ret)
{
	struct queue_binding binding = {
		.generation = ns->generation,
		.accept_without_policy = agent_status.default_accept,
		.link_count = ns->link_count,
		.fallback_key = fallback_key(ns),
	};
	int err = make_links(ns, policy, &binding.links);

	if (!err && policy) {
		size_t rules = policy_info(policy)->rule_count;

		binding.policy = policy_ref(policy);
		binding.selective = is_selective(policy_info(policy));
		binding.scratch = calloc(rules ? rules : 1, sizeof(*binding.scratch));
		err = binding.scratch ? 0 : -ENOMEM;
		if (!err && first)
			policy_state_join(&binding.state, &first->state);
		else if (!err)
			err = policy_state_init(&binding.state, policy, NULL);
		if (!err && policy_info(policy)->names) {
			err = ns_names_open(ns, policy_info(policy)->names->entries);
			binding.names = ns->names;
		}
	}
	if (err) {
		binding_free(&binding);
		return err;
	}
	*ret = binding;
	return 0;
}

struct bind_call {
	struct queue *queue;
	struct queue_binding *binding;
};

static void bind_in_worker(void *arg)
{
	struct bind_call *call = arg;

	queue_bind(call->queue, call->binding);
}

/* Where nobody serves the queue, nobody is in its way. */
static void call_in_worker(struct ns *ns, unsigned int i, void (*fn)(void *arg), void *arg)
{
	if (ns->workers[i])
		worker_call(ns->workers[i], fn, arg);
	else
		fn(arg);
}

static int bind_queues(struct ns *ns, struct policy *policy)
{
	struct queue_binding bindings[NSGATE_QUEUES_MAX];
	unsigned int made = 0;
	int err = 0;

	while (!err && made < ns->record.queue_count) {
		err = binding_make(ns, policy, made ? &bindings[0] : NULL, &bindings[made]);
		made += !err;
	}
	for (unsigned int i = 0; !err && i < made; i++) {
		struct bind_call call = {.queue = &ns->queues[i], .binding = &bindings[i]};

		call_in_worker(ns, i, bind_in_worker, &call);
	}
	for (unsigned int i = 0; i < made; i++)
		binding_free(&bindings[i]); /* what was replaced, or what was not used */
	return err;
}

/* 0: not known. What the kernel remembers of flows was judged by this one. */
static void note_hash(struct ns *ns, uint64_t hash)
{
	__atomic_store_n(&ns->shm[0]->policy_hash, hash, __ATOMIC_RELAXED);
}

/* From now until the rules are its own, the kernel remembers flows that the old one judged. */
static void note_policy(struct ns *ns, struct policy *policy)
{
	struct policy *old = ns->policy;

	ns->policy = policy ? policy_ref(policy) : NULL;
	policy_unref(old);
	note_hash(ns, 0);
}

bool ns_policy_conflicts(const struct ns *ns, const struct policy *policy,
			 char ret_text[NSGATE_TEXT_MAX])
{
	const struct policy_info *info = policy ? policy_info(policy) : NULL;
	unsigned int first = ns->record.queue_first, count = ns->record.queue_count;

	for (size_t i = 0; info && i < info->rule_count; i++) {
		const struct policy_rule_info *rule = &info->rules[i];

		if (rule->action != POLICY_ACTION_QUEUE || rule->queue < first ||
		    rule->queue >= first + NSGATE_FLOW_MAX * count)
			continue;
		snprintf(ret_text, NSGATE_TEXT_MAX,
			 "rule %s hands packets to queue %u, which is nsgate's own in %s: use "
			 "another "
			 "number in the rule, or attach with --queue",
			 rule->name, rule->queue, ns->record.name);
		return true;
	}
	return false;
}

/*
 * Whoever waits for a change is not left waiting for a broker that hangs: he is told, and the rules
 * follow when it goes on. One that has much to do says something all the time.
 */
#define SILENCE_MS 3000

static int64_t silence_at_ms; /* 0: nobody waits */

static void await_change(struct ns *ns, struct ns_change *change)
{
	change->waiting++;
	ns->change = change;
	ns->change_ms = loop_now_ms();
	if (!silence_at_ms)
		silence_at_ms = ns->change_ms + SILENCE_MS;
}

static int64_t silent_at_ms(const struct ns *ns)
{
	const int64_t heard_ms = agent_status.broker_heard_ms;

	return (ns->change_ms > heard_ms ? ns->change_ms : heard_ms) + SILENCE_MS;
}

static void end_silence(int64_t now_ms)
{
	silence_at_ms = 0;
	for (struct ns *ns = ns_first(); ns; ns = ns->next) {
		const int64_t at_ms = silent_at_ms(ns);

		if (!ns->change)
			continue;
		if (at_ms <= now_ms)
			ns_change_end(ns, NSGATE_STATUS_UNREACHABLE,
				      "the agent judges by the new policy, but nsgate-broker does "
				      "not answer: the rules follow when it does; look at its log");
		else if (!silence_at_ms || at_ms < silence_at_ms)
			silence_at_ms = at_ms;
	}
}

static void apply(struct ns *ns, struct policy *policy, struct ns_change *change)
{
	uint32_t generation = next_generation(ns->generation);
	uint32_t before = ns->generation;
	int err;

	if (ns_policy_conflicts(ns, policy, ns->conflict)) {
		/* The one before goes on judging; no other is at hand that the operator chose. */
		change_worsen(change, NSGATE_STATUS_FAILED, ns->conflict);
		ns_state_update(ns);
		return;
	}
	ns->conflict[0] = '\0';
	ns->generation = generation;
	err = bind_queues(ns, policy);
	if (err) {
		ns->generation = before;
		snprintf(ns->conflict, sizeof(ns->conflict),
			 "out of memory for policy %s: the one before stays in force; set it again",
			 ns->record.policy);
		change_worsen(change, NSGATE_STATUS_FAILED, ns->conflict);
		ns_log(LOG_LEVEL_ERROR, "policy.failed", ns, log_errno(err));
		ns_state_update(ns);
		return;
	}
	note_policy(ns, policy);
	want_rules(ns, generation);
	ns_state_update(ns);
	ns_change_end(ns, 0, ""); /* an older change is overtaken */
	if (change) {
		change->touched++;
		if (generation > change->generation)
			change->generation = generation;
	}
	if (!agent_status.broker_connected) {
		change_worsen(change, NSGATE_STATUS_UNREACHABLE,
			      "the agent judges by the new policy, but nsgate-broker is away: "
			      "flows that the "
			      "kernel remembers end when it is back");
		return;
	}
	if (change)
		await_change(ns, change);
	ns_log(LOG_LEVEL_INFO, "policy.applied", ns, NULL);
}

void ns_policy_changed(const char *name, struct policy *policy, struct ns_change *change)
{
	if (change)
		change->waiting++;
	for (struct ns *ns = ns_first(); ns; ns = ns->next)
		if (strcmp(ns->record.policy, name) == 0)
			apply(ns, policy, change);
	change_release(change);
}

void ns_rebind(struct ns *ns, const char *policy_name, struct policy *policy,
	       struct ns_change *change)
{
	char conflict[NSGATE_TEXT_MAX];

	if (change)
		change->waiting++;
	if (ns_policy_conflicts(ns, policy, conflict)) {
		change_worsen(change, NSGATE_STATUS_FAILED, conflict);
		change_release(change);
		return;
	}
	snprintf(ns->record.policy, sizeof(ns->record.policy), "%s", policy_name);
	apply(ns, policy, change);
	change_release(change);
}

/*
 * Packets are judged by the new policy, and the rules are those of the old one: flows that the
 * kernel remembers go on, hooks that are new are not judged. That must not stay so.
 */
#define RETRY_MS 1000

static int64_t retry_at_ms; /* 0: nothing is to be asked again */

int ns_policy_timeout_ms(void)
{
	const int retry = retry_at_ms ? loop_left_ms(retry_at_ms) : -1;
	const int silence = silence_at_ms ? loop_left_ms(silence_at_ms) : -1;

	return loop_nearest(retry, silence);
}

void ns_policy_tick(void)
{
	const int64_t now = loop_now_ms();

	if (silence_at_ms && silence_at_ms <= now)
		end_silence(now);
	if (!retry_at_ms || retry_at_ms > now)
		return;
	retry_at_ms = 0;
	for (struct ns *ns = ns_first(); ns; ns = ns->next)
		if (ns->rules_error[0] && agent_status.broker_connected)
			ns->todo |= NS_TODO_RULES;
}

/* What the rules in force know of the queue's answers. */
struct answers_call {
	struct queue *queue;
	bool notes, turns;
};

static void set_answers(void *arg)
{
	const struct answers_call *call = arg;

	call->queue->in_force.notes_denied = call->notes;
	call->queue->in_force.turns = call->turns;
}

static void tell_answers(struct ns *ns)
{
	const uint32_t known = ns_rules_in_force(ns) ? ns->wanted.flags : 0;

	for (unsigned int i = 0; i < ns->record.queue_count; i++) {
		const struct judge_policy *judge = &ns->queues[i].in_force;
		struct answers_call call = {
			.queue = &ns->queues[i],
			.notes = known & NSGATE_RULES_DENIED,
			.turns = known & NSGATE_RULES_NAMES,
		};

		if (judge->notes_denied != call.notes || judge->turns != call.turns)
			call_in_worker(ns, i, set_answers, &call);
	}
}

static void rules_taken(struct ns *ns)
{
	ns->record.rules = ns->asked; /* others may be wanted by now, which are asked for next */
	ns->rules_error[0] = '\0';
	if (ns_rules_in_force(ns))
		note_hash(ns, ns->policy ? policy_info(ns->policy)->source_hash : 0);
	tell_answers(ns);
}

static void rules_refused(struct ns *ns, uint32_t status, const char *text)
{
	snprintf(ns->rules_error, sizeof(ns->rules_error), "%s",
		 *text ? text : "nsgate-broker cannot install the rules; see its log");
	/* A broker of an earlier release does not know it. All the rest is worth more. */
	if (status == NSGATE_STATUS_USAGE)
		ns->wanted.flags &= ~(uint32_t)NSGATE_RULES_DENIED;
	if (!retry_at_ms)
		retry_at_ms = loop_now_ms() + RETRY_MS;
}

void ns_rules_answer(const struct nsgate_msg_reply *reply)
{
	struct ns *ns = ns_first();

	while (ns && ns->change_id != reply->header.id)
		ns = ns->next;
	if (!ns)
		return; /* overtaken by a later request, or the namespace is gone */
	ns->change_id = 0;
	if (reply->status == NSGATE_STATUS_OK)
		rules_taken(ns);
	else
		rules_refused(ns, reply->status, reply->text);
	ns_state_update(ns);
	if (!(ns->todo &
	      NS_TODO_RULES)) /* else the change is about others, still to be asked for */
		ns_change_end(ns, reply->status, reply->text);
}

/* ---- the first policy of a namespace, and new links ---- */

/* The flows that the kernel remembers stay known only if they were judged by this very policy. */
static uint32_t first_generation(const struct ns *ns)
{
	uint32_t inherited = ns->record.rules.generation;

	if (!inherited)
		return 1;
	if (ns->policy && ns->shm[0]->policy_hash == policy_info(ns->policy)->source_hash)
		return inherited;
	return next_generation(inherited);
}

int ns_policy_start(struct ns *ns, struct policy *policy)
{
	int err;

	ns->policy = policy ? policy_ref(policy) : NULL;
	ns->generation = first_generation(ns);
	err = bind_queues(ns, policy);
	if (err)
		return err;
	/* A predecessor's policy may have let some pass, or been strict. */
	ns->last.passes = ns->last.strict = ns->record.rules.generation;
	if (ns->generation != ns->record.rules.generation)
		note_hash(ns, 0);
	ns->wanted = wanted_spec(ns, ns->generation);
	note_kernel(ns);
	tell_answers(ns);
	return 0;
}

struct links_call {
	struct queue *queue;
	struct queue_link *links; /* in: the new ones; out: those they replace */
	uint32_t count;
};

static void swap_links(void *arg)
{
	struct links_call *call = arg;
	struct queue_link *old = call->queue->links;

	call->queue->links = call->links;
	call->queue->link_count = call->count;
	call->links = old;
}

/* The links alone: limits go on where they stand. */
int ns_policy_refresh(struct ns *ns)
{
	for (unsigned int i = 0; i < ns->record.queue_count; i++) {
		struct links_call call = {.queue = &ns->queues[i], .count = ns->link_count};
		int err = make_links(ns, ns->policy, &call.links);

		if (err)
			return err;
		worker_call(ns->workers[i], swap_links, &call);
		free(call.links);
	}
	return 0;
}
