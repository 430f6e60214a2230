/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * settle_<hook> sees every packet that judge_<hook> or the agent let through, and labels its
 * conntrack entry: that it passed by this path, and that the policy in force accepted it. The chain
 * is there in the hooks in, out and forward whether they are judged or not, as replies are known by
 * the path that the first packets came by. It decides nothing, and leaves marks as they are.
 *
 * What reaches it was accepted, with three exceptions that may only pass: where nobody judges
 * (`opened`), and where a policy lets packets pass without a verdict or hands them to other
 * programs (`selective`). There a flow is accepted if the agent's mark "remember" says so, or if
 * the mark that the policy names for it does, which a consumer sets ("bypass_mark").
 *
 * Errors and replies label nothing. A first packet of TCP that is no SYN is of a connection that
 * was there before; which of its ends opened it is not known, and that is noted, too. So is it of
 * a flow that is established when its first packet comes here: conntrack begins to look some time
 * before the rules of a batch are in force, and takes whichever packet it sees first for the first.
 *
 * An answer that goes round the hook ends in judge_<hook>. Where that has been emptied, as before a
 * detach, the packet comes here, and is dropped.
 */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>

#include "broker/nft/rule.h"

#define STATE_NEW NF_CT_STATE_BIT(IP_CT_NEW)
#define STATE_ESTABLISHED NF_CT_STATE_BIT(IP_CT_ESTABLISHED)
#define STATE_RELATED NF_CT_STATE_BIT(IP_CT_RELATED)

/* ---- flows whose direction is a guess ---- */

static const struct rule unsure_rules[] = {{0, {{do_label_unsure}}}};

static const struct rule guessed_rules[] = {
	{0, {{on_state, STATE_NEW}, {on_tcp_without_syn}, {do_goto, ROLE_UNSURE}}},
	{0, {{on_state, STATE_ESTABLISHED}, {on_never_passed}, {do_goto, ROLE_UNSURE}}},
};

static const struct rule_chain unsure_chains[] = {
	{ROLE_UNSURE, 0, 0, RULES(unsure_rules)},
	{ROLE_GUESSED, 0, 0, RULES(guessed_rules)},
};

/*
 * An entry has room for a label if some rule sets labels when the entry is made, and the first
 * expression that asks for conntrack has it look at packets. So these chains come first in a batch:
 * entries that are made before the batch is in force can be labelled later.
 */
void rules_unsure(const struct rules_set *set)
{
	rule_chains_add(set, 0, unsure_chains, sizeof(unsure_chains) / sizeof(unsure_chains[0]));
}

/* ---- the chains of a hook ---- */

/* Packets with a mark. */
static const struct rule marked_rules[] = {
	{0, {{on_answer, NSGATE_ANSWER_REJECT}, {do_verdict, NF_DROP}}},
	{0, {{on_answer, NSGATE_ANSWER_DENY}, {do_verdict, NF_DROP}}},
	{IF_NAMES, {{on_answer, NSGATE_ANSWER_TURNED}, {do_verdict, NF_DROP}}},
	{IF_SELECTIVE,
	 {{on_answer, NSGATE_ANSWER_REMEMBER}, {do_clear_mark}, {do_goto, ROLE_NOTED}}},
	{NOT(IF_SELECTIVE), {{on_answer, NSGATE_ANSWER_REMEMBER}, {do_clear_mark}}},
	{EACH_BYPASS | IF_SELECTIVE, {{on_bypass}, {do_goto, ROLE_NOTED}}},
};

/* The flow is accepted. */
static const struct rule noted_rules[] = {
	{0, {{on_direction, IP_CT_DIR_REPLY}, {do_verdict, NF_ACCEPT}}},
	{0, {{on_state, STATE_RELATED}, {on_status_not, IPS_EXPECTED}, {do_verdict, NF_ACCEPT}}},
	{0, {{do_jump, ROLE_GUESSED}}},
	{EACH_PATH, {{on_path}, {do_label_accepted}}},
};

static const struct rule settle_rules[] = {
	{0, {{on_mark}, {do_jump, ROLE_MARKED}}},
	{IF_LABELLING, {{on_accepted_here}, {do_verdict, NF_ACCEPT}}},
	{IF_LABELLING, {{on_direction, IP_CT_DIR_REPLY}, {do_verdict, NF_ACCEPT}}},
	{IF_LABELLING,
	 {{on_state, STATE_RELATED}, {on_status_not, IPS_EXPECTED}, {do_verdict, NF_ACCEPT}}},
	{IF_LABELLING, {{do_jump, ROLE_GUESSED}}},
	{EACH_PATH | IF_LABELLING | IF_ACCEPTED, {{on_path}, {do_label_accepted}}},
	{EACH_PATH | IF_LABELLING | NOT(IF_ACCEPTED), {{on_path}, {do_label_passed}}},
};

static const struct rule_chain label_chains[] = {
	{ROLE_NOTED, 0, IF_SELECTIVE, RULES(noted_rules)},
	{ROLE_SETTLE, RULES_LABEL_PRIORITY, 0, RULES(settle_rules)},
	{ROLE_MARKED, 0, 0, RULES(marked_rules)},
};

void rules_label(const struct rules_set *set, uint32_t hook)
{
	rule_chains_add(set, hook, label_chains, sizeof(label_chains) / sizeof(label_chains[0]));
}
