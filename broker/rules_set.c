/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the judging and the settling chains share: names and bits. */
#include "rules_set.h"

#include <stdio.h>

#include "nsgate/hook.h"
#include "nsgate/mark.h"

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
