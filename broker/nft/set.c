/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the judging and the settling chains share: names. */
#include "broker/nft/set.h"

#include <stdio.h>

#include "nsgate/hook.h"

void rules_chain_name(char name[RULES_CHAIN_NAME_MAX], const char *role, uint32_t hook)
{
	snprintf(name, RULES_CHAIN_NAME_MAX, "%s_%s", role, nsgate_hook_names[hook]);
}

bool rules_hook_incoming(uint32_t hook)
{
	return hook == NSGATE_HOOK_IN || hook == NSGATE_HOOK_PREROUTING;
}

bool rules_hook_outgoing(uint32_t hook)
{
	return hook == NSGATE_HOOK_OUT || hook == NSGATE_HOOK_POSTROUTING;
}

bool rules_hook_offloads(uint32_t hook)
{
	return hook == NSGATE_HOOK_IN || hook == NSGATE_HOOK_OUT || hook == NSGATE_HOOK_FORWARD;
}
