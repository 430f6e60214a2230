/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Putting policies in force in namespaces. Control thread only. */
#ifndef NSGATE_NS_POLICY_H
#define NSGATE_NS_POLICY_H

#include "agent/ns/ns.h"

/*
 * Bind the first policy (NULL: missing) of a namespace that no worker serves yet, and work out
 * the rules it wants. Return: 0 or -errno.
 */
int ns_policy_start(struct ns *ns, struct policy *policy);

/* Match the policy's interface patterns against the namespace's links of now. 0 or -errno. */
int ns_policy_refresh(struct ns *ns);

/* Does a rule hand packets to the queue that they come from? Then ret_text says which. */
bool ns_policy_conflicts(const struct ns *ns, const struct policy *policy,
			 char ret_text[NSGATE_TEXT_MAX]);

/* Ask again for rules that could not be put in force. Milliseconds until then; -1: none. */
int ns_policy_timeout_ms(void);
void ns_policy_tick(void);

/* Whoever waits for this namespace's change waits no more (agent/ns/serve.c, agent/ns/policy.c). */
void ns_change_end(struct ns *ns, uint32_t status, const char *text);

/* The broker's answer to NS_RULES. */
void ns_rules_answer(const struct nsgate_msg_reply *reply);

/*
 * A policy appeared, changed or went (NULL): put it in force in every namespace bound to its
 * name. `change` may be NULL where nobody waits; else its `done` is called, perhaps before this
 * returns. The policy is referenced as needed.
 */
void ns_policy_changed(const char *name, struct policy *policy, struct ns_change *change);

/* Bind a namespace to another policy (must exist). The same rules for `change`. */
void ns_rebind(struct ns *ns, const char *policy_name, struct policy *policy,
	       struct ns_change *change);

#endif
