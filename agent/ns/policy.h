/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Putting policies in force in namespaces. Private to ns*.c; what the API may call is in ns.h. */
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

/* Are the rules in force those that are wanted? */
bool ns_rules_settled(const struct ns *ns);

/* Ask again for rules that could not be put in force. Milliseconds until then; -1: none. */
int ns_policy_timeout_ms(void);
void ns_policy_tick(void);

/* Whoever waits for this namespace's change waits no more (ns.c, agent/ns/policy.c). */
void ns_change_end(struct ns *ns, uint32_t status, const char *text);

/* A log line and an event about a namespace (ns.c). */
void ns_log(enum log_level level, const char *event, const struct ns *ns, const char *detail);

#endif
