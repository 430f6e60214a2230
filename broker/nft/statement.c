/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The statements that rules end with (broker/nft/rule.h). */
#include <linux/netfilter.h>

#include "broker/nft/rule.h"
#include "nsgate/hook.h"

void do_verdict(const struct rule_context *context, uint32_t verdict)
{
	nft_verdict(context->set->batch, (int)verdict);
}

static void branch(const struct rule_context *context, int verdict, uint32_t role)
{
	char chain[RULES_CHAIN_NAME_MAX];

	rule_chain_name(chain, (enum rule_role)role, context->hook);
	nft_branch(context->set->batch, verdict, chain);
}

void do_jump(const struct rule_context *context, uint32_t role)
{
	branch(context, NFT_JUMP, role);
}

void do_goto(const struct rule_context *context, uint32_t role)
{
	branch(context, NFT_GOTO, role);
}

/* ---- counters ---- */

void do_count(const struct rule_context *context, uint32_t counter)
{
	nft_count(context->set->batch, nsgate_counter_names[counter]);
}

/* The counters of a kind stand in the order in, out, forward. */
static void count_direction(const struct rule_context *context, uint32_t of_in)
{
	if (context->hook == NSGATE_HOOK_FORWARD)
		do_count(context, of_in + 2);
	else
		do_count(context, of_in + rules_hook_outgoing(context->hook));
}

void do_count_denied(const struct rule_context *context, NO_VALUE)
{
	count_direction(context, NSGATE_COUNTER_DENIED_IN);
}

void do_count_guard(const struct rule_context *context, NO_VALUE)
{
	nft_count(context->set->batch, GUARD_COUNTER);
}

/* ---- ends ---- */

void do_accept_offloaded(const struct rule_context *context, NO_VALUE)
{
	count_direction(context, NSGATE_COUNTER_OFFLOADED_IN);
	do_verdict(context, NF_ACCEPT);
}

void do_accept_notice(const struct rule_context *context, NO_VALUE)
{
	do_count(context, NSGATE_COUNTER_NOTICES);
	do_verdict(context, NF_ACCEPT);
}

/* The kernel counts nowhere what it drops because nobody has bound the queue. So it is counted. */
void do_queue(const struct rule_context *context, uint32_t flow)
{
	struct nft_queue_range range = context->set->queue;

	if (context->set->opened) {
		do_count(context, NSGATE_COUNTER_AGENT_DOWN);
		do_verdict(context, NF_ACCEPT);
		return;
	}
	range.first =
		(uint16_t)(range.first + nsgate_flow_offset((enum nsgate_flow)flow, range.count));
	do_count(context, NSGATE_COUNTER_ASKED);
	nft_queue(context->set->batch, &range);
}

void do_reject_reset(const struct rule_context *context, NO_VALUE)
{
	nft_reject_tcp_reset(context->set->batch);
}

void do_reject_port(const struct rule_context *context, NO_VALUE)
{
	nft_reject_port_unreachable(context->set->batch);
}

/* ---- the rest ---- */

void do_limit(const struct rule_context *context, uint32_t packets)
{
	nft_limit(context->set->batch, packets, 4 * packets);
}

void do_note_denied(const struct rule_context *context, uint32_t family)
{
	char name[RULES_CHAIN_NAME_MAX];

	rules_denied_set_name(name, (enum rules_family)family, context->hook);
	rules_load_flow(context->set->batch, (enum rules_family)family);
	nft_add_element(context->set->batch, name);
}

void do_clear_mark(const struct rule_context *context, NO_VALUE)
{
	nft_clear_meta_mark(context->set->batch);
}

void do_label_unsure(const struct rule_context *context, NO_VALUE)
{
	rules_label_unsure(context->set);
}

void do_label_passed(const struct rule_context *context, NO_VALUE)
{
	rules_label_path(context->set, context->path->own, false);
}

void do_label_accepted(const struct rule_context *context, NO_VALUE)
{
	rules_label_path(context->set, context->path->own, true);
}
