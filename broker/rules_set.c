/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the judging and the settling chains share: names and bits. */
#include "rules_set.h"

#include <assert.h>
#include <stdio.h>

#include "nsgate/hook.h"
#include "nsgate/mark.h"

const char *const rules_counter_names[] = {
	[RULES_COUNTER_OFFLOADED_IN] = "offloaded_in",
	[RULES_COUNTER_OFFLOADED_OUT] = "offloaded_out",
	[RULES_COUNTER_OFFLOADED_FORWARD] = "offloaded_forward",
	[RULES_COUNTER_DENIED_IN] = "denied_in",
	[RULES_COUNTER_DENIED_OUT] = "denied_out",
	[RULES_COUNTER_DENIED_FORWARD] = "denied_forward",
	[RULES_COUNTER_DENIED_TCP] = "denied_tcp",
	[RULES_COUNTER_DENIED_UDP] = "denied_udp",
	[RULES_COUNTER_DENIED_OTHER] = "denied_other",
	[RULES_COUNTER_AGENT_DOWN] = "passed_agent_down",
	[RULES_COUNTER_OVERLOAD] = "passed_overload",
	[RULES_COUNTER_ASKED] = "asked",
};
static_assert(sizeof(rules_counter_names) / sizeof(rules_counter_names[0]) == RULES_COUNTERS,
	      "a name for each");

void rules_chain_name(char name[RULES_CHAIN_NAME_MAX], const char *role, uint32_t hook)
{
	snprintf(name, RULES_CHAIN_NAME_MAX, "%s_%s", role, nsgate_hook_names[hook]);
}

bool rules_hook_offloads(uint32_t hook)
{
	return hook == NSGATE_HOOK_IN || hook == NSGATE_HOOK_OUT || hook == NSGATE_HOOK_FORWARD;
}

uint32_t rules_remember_bit(uint32_t hooks, uint32_t hook)
{
	bool in = hooks & NSGATE_HOOK_BIT(NSGATE_HOOK_IN);
	bool out = hooks & NSGATE_HOOK_BIT(NSGATE_HOOK_OUT);
	bool forward = hooks & NSGATE_HOOK_BIT(NSGATE_HOOK_FORWARD);

	switch ((enum nsgate_hook)hook) {
	case NSGATE_HOOK_IN:
		return NSGATE_CTMARK_IN;
	case NSGATE_HOOK_OUT:
		return NSGATE_CTMARK_OUT;
	case NSGATE_HOOK_FORWARD:
		return NSGATE_CTMARK_FORWARD;
	case NSGATE_HOOK_PREROUTING:
		/* What comes this way goes on to in or forward. */
		if (!forward)
			return NSGATE_CTMARK_FORWARD;
		return in ? 0 : NSGATE_CTMARK_IN;
	case NSGATE_HOOK_POSTROUTING:
		/* What leaves this way came by out or forward. */
		if (!forward)
			return NSGATE_CTMARK_FORWARD;
		return out ? 0 : NSGATE_CTMARK_OUT;
	case NSGATE_HOOK_MAX:
		break;
	}
	return 0;
}
