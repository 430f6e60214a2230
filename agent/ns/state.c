// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Nobody sets a namespace's state: it is worked out from what is known of it. It is attached only
 * while the kernel holds exactly what the policy asks for: hooks, flags, guard and generation. The
 * broker's answer to NS_RULES says so; until then the namespace is degraded, also if nothing goes
 * wrong and the answer is on its way.
 *
 * Whoever asks is told the state of the moment. The log and the events are told of a change at
 * once, but for an answer of the broker that is still on its way: most come within a
 * millisecond, and every change of a policy would be a fall and a recovery.
 */
#include "agent/ns/state.h"

#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "hash.h"
#include "loop.h"
#include "agent/ns/policy.h"
#include "agent/ns/silence.h"

#define ANSWER_MS 1000 /* an answer that takes longer is news */

static int64_t tell_at_ms; /* 0: nothing is to be told later */

/* All is well but that the broker's answer is still on its way. */
static bool awaits_broker(const struct ns *ns)
{
	return agent_status.broker_connected && !ns->rules_error[0] && !ns_rules_in_force(ns) &&
	       ns->policy && !ns->conflict[0] && !ns->orphaned;
}

static void say_rules(const struct ns *ns, char ret[NSGATE_TEXT_MAX])
{
	if (ns->rules_error[0])
		snprintf(ret, NSGATE_TEXT_MAX, "%s", ns->rules_error);
	else if (agent_status.broker_connected)
		snprintf(ret, NSGATE_TEXT_MAX,
			 "the kernel does not have the rules of policy %s yet: nsgate-broker has "
			 "been asked for them and has not answered",
			 ns->record.policy);
	else
		snprintf(ret, NSGATE_TEXT_MAX,
			 "the kernel does not have the rules of policy %s: nsgate-broker, which "
			 "installs them, is away; they follow when it is back",
			 ns->record.policy);
}

/* A queue whose socket has failed for good. Return: which; or queue_count. */
static unsigned int unserved_queue(const struct ns *ns)
{
	unsigned int i = 0;

	while (i < ns->record.queue_count &&
	       !__atomic_load_n(&ns->queues[i].broken, __ATOMIC_RELAXED))
		i++;
	return i;
}

static enum ns_state judge(const struct ns *ns, char ret_reason[NSGATE_TEXT_MAX])
{
	const unsigned int unserved = unserved_queue(ns);

	ret_reason[0] = '\0';
	if (ns->orphaned)
		return NS_STATE_ORPHANED;
	if (ns->conflict[0])
		memcpy(ret_reason, ns->conflict, NSGATE_TEXT_MAX);
	else if (!ns->policy)
		snprintf(ret_reason, NSGATE_TEXT_MAX,
			 "policy %s is missing: everything is %s until it appears",
			 ns->record.policy, agent_status.default_accept ? "accepted" : "dropped");
	else if (unserved < ns->record.queue_count)
		snprintf(ret_reason, NSGATE_TEXT_MAX,
			 "nobody serves queue %u, as its socket failed (%s): detach and attach "
			 "again",
			 ns->record.queue_first + unserved,
			 strerror(__atomic_load_n(&ns->queues[unserved].last_error,
						  __ATOMIC_RELAXED)));
	else if (silence_queue(ns) >= 0)
		snprintf(ret_reason, NSGATE_TEXT_MAX,
			 "packets wait in queue %d and none reaches nsgate-agent: something was "
			 "done to its socket, perhaps by an agent before this one: detach and "
			 "attach again",
			 silence_queue(ns));
	else if (!ns_rules_in_force(ns))
		say_rules(ns, ret_reason);
	else if (ns->broker_says[0])
		memcpy(ret_reason, ns->broker_says, NSGATE_TEXT_MAX);
	return ret_reason[0] ? NS_STATE_DEGRADED : NS_STATE_ATTACHED;
}

static void tell(struct ns *ns)
{
	static const char *const events[NS_STATE_MAX] = {
		[NS_STATE_ATTACHED] = "healed",
		[NS_STATE_ORPHANED] = "orphaned",
		[NS_STATE_DEGRADED] = "degraded",
	};
	const uint64_t reason = ns->reason[0] ? hash_bytes(ns->reason, strlen(ns->reason)) : 0;

	if (ns->state == ns->told.state && reason == ns->told.reason_hash)
		return;
	ns->told.state = ns->state;
	ns->told.reason_hash = reason;
	ns_log(ns->state == NS_STATE_ATTACHED ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
	       events[ns->state], ns, ns->reason);
}

static void tell_later(struct ns *ns)
{
	if (!ns->told.due_ms)
		ns->told.due_ms = loop_now_ms() + ANSWER_MS;
	if (!tell_at_ms || ns->told.due_ms < tell_at_ms)
		tell_at_ms = ns->told.due_ms;
}

void ns_state_update(struct ns *ns)
{
	ns->state = judge(ns, ns->reason);
	if (awaits_broker(ns)) {
		tell_later(ns);
		return;
	}
	ns->told.due_ms = 0;
	tell(ns);
}

void ns_state_update_all(void)
{
	for (struct ns *ns = ns_first(); ns; ns = ns->next)
		ns_state_update(ns);
}

int ns_state_timeout_ms(void)
{
	return tell_at_ms ? loop_left_ms(tell_at_ms) : -1;
}

void ns_state_tick(void)
{
	const int64_t now = loop_now_ms();

	if (!tell_at_ms || tell_at_ms > now)
		return;
	tell_at_ms = 0;
	for (struct ns *ns = ns_first(); ns; ns = ns->next) {
		if (ns->told.due_ms && ns->told.due_ms <= now)
			tell(ns); /* stays due, and is told once, until the answer comes */
		else if (ns->told.due_ms)
			tell_later(ns);
	}
}
