/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * judge_<hook> ends with the packet accepted by what the kernel knows of its flow, or queued under
 * the number that says what that is (nsgate/flow.h). It reads marks only to tell the agent's
 * answers, and writes none. Accepting only leaves this chain: a later base chain, settle_<hook>
 * too, still sees the packet.
 *
 * Where nobody judges and all may pass, just the queue is left out.
 *
 * The order follows the number of packets: one test of the conntrack state sends the rare kinds to
 * odd_<hook> (broker/nft/related.c), then flows that need no asking leave. Denied flows
 * (broker/nft/denied.c) come last: only what would be queued as a packet of the original direction
 * is looked up.
 */
#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/rtnetlink.h>

#include "broker/nft/denied.h"
#include "broker/nft/related.h"
#include "broker/nft/rule.h"

#define STATE_NEW NF_CT_STATE_BIT(IP_CT_NEW)
#define STATE_RELATED NF_CT_STATE_BIT(IP_CT_RELATED)
#define STATE_RARE (NF_CT_STATE_INVALID_BIT | NF_CT_STATE_UNTRACKED_BIT | STATE_RELATED)

/*
 * What is sent to many is copied for whoever listens here, in postrouting, and both share an entry
 * that is in no table yet: the copy would be dropped where it is queued. So where postrouting is
 * judged, such packets are judged in the hook out, before there are two.
 */
static const struct rule judge_rules[] = {
	{IF_STRICT | IF_OUT,
	 {{on_fragment, NFPROTO_IPV4}, {do_count_guard}, {do_verdict, NF_DROP}}},
	{IF_STRICT | IF_OUT,
	 {{on_fragment, NFPROTO_IPV6}, {do_count_guard}, {do_verdict, NF_DROP}}},

	{IF_LOOPED | IF_FIB,
	 {{on_destination_not, RTN_MULTICAST},
	  {on_destination_not, RTN_BROADCAST},
	  {do_verdict, NF_ACCEPT}}},
	{IF_LOOPED | NOT(IF_FIB), {{do_verdict, NF_ACCEPT}}},

	{0, {{on_mark}, {do_jump, ROLE_ANSWERS}}},

	{IF_POSTROUTING | IF_FIB | IF_CT,
	 {{on_link_kind, RULES_NO_LINK_IN},
	  {on_status_not, IPS_CONFIRMED},
	  {on_destination, RTN_MULTICAST},
	  {do_verdict, NF_ACCEPT}}},
	{IF_POSTROUTING | IF_FIB | IF_CT,
	 {{on_link_kind, RULES_NO_LINK_IN},
	  {on_status_not, IPS_CONFIRMED},
	  {on_destination, RTN_BROADCAST},
	  {do_verdict, NF_ACCEPT}}},

	{IF_CT, {{on_state, STATE_RARE}, {do_jump, ROLE_ODD}}},
	{NOT(IF_CT), {{do_jump, ROLE_ODD}}},

	{EACH_PATH | IF_OFFLOADS | NOT(IF_NAMES),
	 {{on_path}, {on_direction, IP_CT_DIR_ORIGINAL}, {on_accepted}, {do_accept_offloaded}}},
	{EACH_PATH | IF_OFFLOADS | NOT(IF_NAMES),
	 {{on_path}, {on_direction, IP_CT_DIR_REPLY}, {on_accepted_reply}, {do_accept_offloaded}}},
	/* Each query is judged, and each answer; resolvers here are asked by whatever port. */
	{EACH_PATH | IF_OFFLOADS | IF_NAMES,
	 {{on_path},
	  {on_no_query},
	  {on_direction, IP_CT_DIR_ORIGINAL},
	  {on_accepted},
	  {do_accept_offloaded}}},
	{EACH_PATH | IF_OFFLOADS | IF_NAMES,
	 {{on_path},
	  {on_no_query},
	  {on_direction, IP_CT_DIR_REPLY},
	  {on_accepted_reply},
	  {do_accept_offloaded}}},

	{IF_CT, {{on_direction, IP_CT_DIR_REPLY}, {do_goto, ROLE_REPLIES}}},

	/* The original direction. */
	{IF_REMEMBERS, {{on_denied, RULES_FAMILY_IPV4}, {do_goto, ROLE_DROPPED}}},
	{IF_REMEMBERS, {{on_denied, RULES_FAMILY_IPV6}, {do_goto, ROLE_DROPPED}}},
	{IF_CT, {{on_state, STATE_NEW}, {do_queue, NSGATE_FLOW_NEW}}},
	{IF_LABELS, {{on_unsure}, {do_queue, NSGATE_FLOW_UNSURE}}},
	{EACH_PATH | IF_LABELS | NOT(IF_OFFLOADS),
	 {{on_path}, {on_accepted}, {do_queue, NSGATE_FLOW_KNOWN}}},
	{EACH_PATH | IF_LABELS | IF_OFFLOADS | IF_NAMES,
	 {{on_path}, {on_accepted}, {do_queue, NSGATE_FLOW_KNOWN}}},
	{IF_CT, {{on_state, STATE_RELATED}, {do_queue, NSGATE_FLOW_EXPECTED}}},
	{IF_LABELS, {{on_never_passed}, {do_queue, NSGATE_FLOW_UNSURE}}}, /* older than the rules */
	{IF_CT, {{do_queue, NSGATE_FLOW_ORIGINAL}}},
};

/* The reply direction. Without labels nobody knows how a flow began: the policy is asked. */
static const struct rule replies_rules[] = {
	{EACH_PATH | IF_LABELS,
	 {{on_path}, {on_accepted_reply}, {do_queue, NSGATE_FLOW_REPLY_KNOWN}}},
	{EACH_PATH | IF_LABELS,
	 {{on_path}, {on_passed_reply}, {on_unsure}, {do_queue, NSGATE_FLOW_REPLY_UNSURE}}},
	{EACH_PATH | IF_LABELS,
	 {{on_path}, {on_passed_reply}, {do_queue, NSGATE_FLOW_REPLY_STALE}}},
	{IF_LABELS, {{on_never_passed}, {do_queue, NSGATE_FLOW_REPLY_UNSURE}}},
	{IF_LABELS, {{do_queue, NSGATE_FLOW_REPLY}}},
	{NOT(IF_LABELS), {{do_queue, NSGATE_FLOW_REPLY_STALE}}},
};

/*
 * A packet with a mark: the agent's answer to one that it sent round, or anybody's. REMEMBER is no
 * answer to a packet that goes round: somebody made it up. TURNED is a refused query as its own
 * answer: it goes back to who asked and nowhere else, and is asked about once more, as anybody can
 * set a mark.
 */
static const struct rule answers_rules[] = {
	{0, {{on_answer, NSGATE_ANSWER_REJECT}, {do_goto, ROLE_REJECT}}},
	{IF_DENIES, {{on_answer, NSGATE_ANSWER_DENY}, {do_goto, ROLE_DENIED}}},
	{NOT(IF_DENIES), {{on_answer, NSGATE_ANSWER_DENY}, {do_verdict, NF_DROP}}},
	{0, {{on_answer, NSGATE_ANSWER_REMEMBER}, {do_verdict, NF_DROP}}},
	{IF_NAMES | IF_OUT | IF_FIB,
	 {{on_answer, NSGATE_ANSWER_TURNED},
	  {on_destination_not, RTN_LOCAL},
	  {do_verdict, NF_DROP}}},
	{IF_NAMES | IF_OUT | NOT(IF_FIB),
	 {{on_answer, NSGATE_ANSWER_TURNED}, {do_verdict, NF_DROP}}},
};

/*
 * The answer goes to the packet's source, which the sender chose: it is sent only if it comes back
 * here, or to the link that the packet came by. The kernel takes `reject` in every hook but
 * postrouting: there, just drop.
 */
static const struct rule reject_rules[] = {
	{IF_POSTROUTING, {{do_verdict, NF_DROP}}},
	{IF_INCOMING | IF_FIB,
	 {{on_link_kind, RULES_LOOP_IN}, {on_foreign_source}, {do_verdict, NF_DROP}}},
	{IF_INCOMING | NOT(IF_FIB), {{on_link_kind, RULES_LOOP_IN}, {do_verdict, NF_DROP}}},
	{IF_OUT | IF_FIB, {{on_foreign_source}, {do_verdict, NF_DROP}}},
	{IF_OUT | NOT(IF_FIB), {{do_verdict, NF_DROP}}},
	{IF_FIB | NOT(IF_OUTGOING),
	 {{on_link_kind, RULES_LINK_IN}, {on_source_elsewhere}, {do_verdict, NF_DROP}}},
	{NOT(IF_POSTROUTING), {{on_l4proto, IPPROTO_TCP}, {do_reject_reset}}},
	{NOT(IF_POSTROUTING), {{do_reject_port}}},
};

static const struct rule_chain judge_chains[] = {
	{ROLE_JUDGE, RULES_JUDGE_PRIORITY, 0, RULES(judge_rules)},
	{ROLE_ANSWERS, 0, 0, RULES(answers_rules)},
	{ROLE_REJECT, 0, 0, RULES(reject_rules)},
	{ROLE_REPLIES, 0, IF_CT, RULES(replies_rules)},
};

void rules_judge(const struct rules_set *set, uint32_t hook)
{
	denied_chains_add(set, hook);
	related_chains_add(set, hook);
	rule_chains_add(set, hook, judge_chains, sizeof(judge_chains) / sizeof(judge_chains[0]));
}
