/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the chains share: names, and what goes for which hook. */
#include "broker/nft/set.h"

#include <linux/netfilter.h>
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

bool rules_judges_looped(const struct rules_set *set, uint32_t hook)
{
	return hook == NSGATE_HOOK_OUT && !(set->hooks & NSGATE_HOOK_BIT(NSGATE_HOOK_OUT)) &&
	       set->hooks & NSGATE_HOOK_BIT(NSGATE_HOOK_POSTROUTING);
}

bool rules_hook_offloads(uint32_t hook)
{
	return hook == NSGATE_HOOK_IN || hook == NSGATE_HOOK_OUT || hook == NSGATE_HOOK_FORWARD;
}

/* ---- sets of denied flows ---- */

static const uint8_t protocols[RULES_FAMILIES] = {
	[RULES_FAMILY_IPV4] = NFPROTO_IPV4,
	[RULES_FAMILY_IPV6] = NFPROTO_IPV6,
};

uint32_t rules_flow_type(enum rules_family family)
{
	return nft_flow_type(protocols[family]);
}

uint32_t rules_flow_bytes(enum rules_family family)
{
	return nft_flow_bytes(protocols[family]);
}

void rules_load_flow(struct nft_batch *batch, enum rules_family family)
{
	nft_load_flow(batch, protocols[family]);
}

void rules_denied_set_name(char name[RULES_CHAIN_NAME_MAX], enum rules_family family, uint32_t hook)
{
	rules_chain_name(name, family == RULES_FAMILY_IPV4 ? "denied4" : "denied6", hook);
}

bool rules_denies(const struct rules_set *set, uint32_t hook)
{
	return set->denied && set->hooks & NSGATE_HOOK_BIT(hook) && rules_hook_offloads(hook);
}

bool rules_remembers(const struct rules_set *set, uint32_t hook)
{
	return rules_denies(set, hook) && set->sets;
}
