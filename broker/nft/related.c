/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * odd_<hook> sees what conntrack calls related, invalid or untracked.
 *
 * **Related** is a packet that speaks of another one's flow: an ICMP error, or a reset that the
 * kernel sends instead of one; and the first packet of a connection that a helper expects, which
 * goes back to be treated as any first packet.
 *
 * A packet that shares a conntrack entry which is in no table yet is dropped where it is queued by
 * kernels with commit 7d8dc1c7be8d (Linux 6.11) as it was at first; those tried last queue an error
 * (test_unconfirmed). Errors and resets about a flow's first packet share it. Nobody but the kernel
 * can make one, as the entry is found by no packet that comes from elsewhere; so they pass.
 *
 * Errors belong to the flow that they speak of, and have a direction in it. About packets of the
 * original direction they come by the path of its replies; about replies by that of originals. So
 * they are known where any packet of that path and direction is. With two limits, as an error
 * quotes some of the packet that it is about, and anybody with a raw socket can make one:
 *
 *   - They are no longer than what is honest: headers alone for a reset; RFC 1812 4.3.2.3 for
 *     IPv4, RFC 4443 2.4 (c) for IPv6.
 *   - What leaves is the kernel's own, which no socket owns. Such a notice passes if the flow was
 *     ever let pass by that path, under whichever policy, or if nothing is known of it: it tells
 * the other side that its packet was rejected, or found no port. A flow that came over the loopback
 *     is no licence to answer somebody outside who never asked.
 *
 * All else is queued: the policy decides.
 */
#include "broker/nft/related.h"

#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>

#include "nsgate/hook.h"
#include "broker/nft/ndisc.h"
#include "broker/nft/rule.h"

#define STATE_RELATED NF_CT_STATE_BIT(IP_CT_RELATED)

#define RESET_BYTES_MAX 60
#define ICMP_BYTES_MAX 576
#define ICMPV6_BYTES_MAX 1280

static const struct rule odd_rules[] = {
	{NOT(IF_FORWARD), {{on_l4proto, IPPROTO_ICMPV6}, {do_jump, ROLE_UPKEEP}}},
	{IF_CT,
	 {{on_state, STATE_RELATED},
	  {on_status, IPS_EXPECTED},
	  {do_verdict, (uint32_t)NFT_RETURN}}},
	{IF_CT, {{on_state, STATE_RELATED}, {on_status_not, IPS_CONFIRMED}, {do_accept_notice}}},
	{IF_CT, {{on_state, STATE_RELATED}, {do_goto, ROLE_ERRORS}}},
	{IF_CT, {{on_state, NF_CT_STATE_INVALID_BIT}, {do_queue, NSGATE_FLOW_INVALID}}},
	{0, {{do_queue, NSGATE_FLOW_UNTRACKED}}},
};

/* An error that a socket owns was made by a program. */
static const struct rule errors_rules[] = {
	{IF_OUTGOING, {{on_owner}, {do_queue, NSGATE_FLOW_ERROR}}},
	{0, {{on_l4proto, IPPROTO_TCP}, {on_length_max, RESET_BYTES_MAX}, {do_goto, ROLE_NOTICES}}},
	{0,
	 {{on_nfproto, NFPROTO_IPV4},
	  {on_l4proto, IPPROTO_ICMP},
	  {on_length_max, ICMP_BYTES_MAX},
	  {do_goto, ROLE_NOTICES}}},
	{0,
	 {{on_nfproto, NFPROTO_IPV6},
	  {on_l4proto, IPPROTO_ICMPV6},
	  {on_length_max, ICMPV6_BYTES_MAX},
	  {do_goto, ROLE_NOTICES}}},
	{0, {{do_queue, NSGATE_FLOW_ERROR}}},
};

/* A router's own errors are about what it forwards. */
static uint32_t paths_of_errors(const struct rule_context *context)
{
	const uint32_t forwarded =
		rules_hook_outgoing(context->hook) ? 1U << NSGATE_PATH_FORWARD : 0;

	/* What is rejected when it comes by the loopback has only left by it. */
	return context->path->links == RULES_LOOP_OUT ? forwarded | RULES_LOOP_PATHS : forwarded;
}

static void on_passed_error(const struct rule_context *context, NO_VALUE)
{
	on_passed(context, paths_of_errors(context));
}

static void on_passed_error_reply(const struct rule_context *context, NO_VALUE)
{
	on_passed_reply(context, paths_of_errors(context));
}

/* Errors and resets of honest length. The kernel's own: by a path of the flow, whoever let it. */
static const struct rule notices_rules[] = {
	{EACH_PATH | IF_LABELS | IF_OF_KERNEL,
	 {{on_path}, {on_direction, IP_CT_DIR_ORIGINAL}, {on_passed_error}, {do_accept_notice}}},
	{EACH_PATH | IF_LABELS | IF_OF_KERNEL,
	 {{on_path}, {on_direction, IP_CT_DIR_REPLY}, {on_passed_error_reply}, {do_accept_notice}}},
	{EACH_PATH | IF_OFFLOADS | NOT(IF_OF_KERNEL),
	 {{on_path}, {on_direction, IP_CT_DIR_ORIGINAL}, {on_accepted}, {do_accept_offloaded}}},
	{EACH_PATH | IF_OFFLOADS | NOT(IF_OF_KERNEL),
	 {{on_path}, {on_direction, IP_CT_DIR_REPLY}, {on_accepted_reply}, {do_accept_offloaded}}},
	{EACH_PATH | IF_LABELS | NOT(IF_OFFLOADS) | NOT(IF_OF_KERNEL),
	 {{on_path},
	  {on_direction, IP_CT_DIR_ORIGINAL},
	  {on_accepted},
	  {do_queue, NSGATE_FLOW_ERROR_KNOWN}}},
	{EACH_PATH | IF_LABELS | NOT(IF_OFFLOADS) | NOT(IF_OF_KERNEL),
	 {{on_path},
	  {on_direction, IP_CT_DIR_REPLY},
	  {on_accepted_reply},
	  {do_queue, NSGATE_FLOW_ERROR_KNOWN}}},
	/* A flow that was there before the rules, or a kernel without labels. */
	{IF_LABELS | IF_OUTGOING, {{on_never_passed}, {do_accept_notice}}},
	{NOT(IF_LABELS), {{do_accept_notice}}},
	{0, {{do_queue, NSGATE_FLOW_ERROR}}},
};

static const struct rule_chain related_chains[] = {
	{ROLE_ODD, 0, 0, RULES(odd_rules)},
	{ROLE_ERRORS, 0, IF_CT, RULES(errors_rules)},
	{ROLE_NOTICES, 0, IF_CT, RULES(notices_rules)},
};

void related_chains_add(const struct rules_set *set, uint32_t hook)
{
	ndisc_chain_add(set, hook);
	rule_chains_add(set, hook, related_chains,
			sizeof(related_chains) / sizeof(related_chains[0]));
}
