/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * The rules are tables: a chain is a list of rows, a row is a rule. It says when the rule is there,
 * what the packet must match, and what becomes of it, in the order of nft's own syntax:
 *
 *     {IF_CT, {{on_state, STATE_NEW}, {do_queue, NSGATE_FLOW_NEW}}}
 *
 * is `ct state new counter name asked queue ...`, where the kernel has conntrack expressions. Names
 * that begin with on_ are matches, those with do_ are statements; each adds its expressions to the
 * rule (broker/nft/expr.h).
 *
 * Rows that say EACH_PATH are made once for each path through the hook, and several of them in a
 * row together: all for the first path, then all for the second. So do those that say EACH_BYPASS
 * for each mark of a consumer.
 *
 * What tables make of each set of hooks and mode is in tests/unit/rules.
 *
 * Private to broker/nft.
 */
#ifndef NSGATE_NFT_RULE_H
#define NSGATE_NFT_RULE_H

#include <stddef.h>
#include <stdint.h>

#include "broker/nft/path.h"
#include "broker/nft/set.h"

/* What holds for a rule set and a hook. A row is there if all that it names does. */
enum rule_when {
	IF_PREROUTING = 1 << 0,
	IF_FORWARD = 1 << 1,
	IF_OUT = 1 << 2,
	IF_POSTROUTING = 1 << 3,
	IF_INCOMING = 1 << 4, /* in or prerouting */
	IF_OUTGOING = 1 << 5, /* out or postrouting */
	IF_CT = 1 << 6,	      /* the kernel has conntrack expressions */
	IF_LABELS = 1 << 7,   /* and labels */
	IF_FIB = 1 << 8,      /* and can tell whose an address is */
	IF_STRICT = 1 << 9,
	IF_OFFLOADS = 1 << 10,	/* known flows are accepted here without asking */
	IF_DENIES = 1 << 11,	/* the agent may answer that a flow is denied */
	IF_REMEMBERS = 1 << 12, /* and there are sets to remember it in */
	IF_LOOPED = 1 << 13,	/* the hook is judged for what is sent to many alone */
	IF_LABELLING = 1 << 14, /* flows are labelled here */
	IF_ACCEPTED = 1 << 15,	/* and what comes here has been accepted */
	IF_SELECTIVE = 1 << 16, /* it may not have been: a mark tells */
	IF_NAMES = 1 << 18,	/* all that belongs to queries of the DNS is asked about */
	IF_OF_KERNEL = 1 << 17, /* an error by this path is the kernel's own; else asked about */

	EACH_PATH = 1 << 30,
	EACH_BYPASS = 1 << 29,
};
#define NOT(when) ((uint64_t)(when) << 32)

struct rule_context {
	const struct rules_set *set;
	uint32_t hook;
	const struct rules_path *path;		 /* in a row of EACH_PATH */
	const struct nsgate_bypass_mark *bypass; /* in a row of EACH_BYPASS */
};

/* Rows name no value for a part that takes none, and end with their last part. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define RULE_PARTS_MAX 6

typedef void rule_part_add(const struct rule_context *context, uint32_t value);

/* For parts that take none. */
#define NO_VALUE uint32_t value __attribute__((unused))

struct rule {
	uint64_t when; /* enum rule_when, and NOT() of it */
	struct rule_part {
		rule_part_add *add;
		uint32_t value;
	} parts[RULE_PARTS_MAX]; /* up to the first without a function */
};

/* Chains of which each hook has its own, judge_in, judge_out, ...; then those that are one. */
enum rule_role {
	ROLE_JUDGE,
	ROLE_ANSWERS,
	ROLE_REJECT,
	ROLE_DENIED,
	ROLE_DROPPED,
	ROLE_REPLIES,
	ROLE_ODD,
	ROLE_ERRORS,
	ROLE_NOTICES,
	ROLE_UPKEEP,
	ROLE_SETTLE,
	ROLE_MARKED,
	ROLE_NOTED,
	ROLE_FRAGMENTS,
	ROLE_COMMON,
	ROLE_UNSURE = ROLE_COMMON,
	ROLE_GUESSED,
	ROLE_GUARD,
	ROLE_MAX
};

void rule_chain_name(char name[RULES_CHAIN_NAME_MAX], enum rule_role role, uint32_t hook);

struct rule_chain {
	enum rule_role role;
	int32_t priority; /* of a base chain of that hook; 0: of none */
	uint64_t when;	  /* the chain is there, as in struct rule */
	const struct rule *rules;
	size_t count;
};

/* The rows of a table, as the last two members. */
#define RULES(table) (table), sizeof(table) / sizeof((table)[0])

/*
 * Add the chains, then their rules. Those that rules jump to must be among them or have been added
 * before. The table must exist in the batch and must have been flushed before.
 */
void rule_chains_add(const struct rules_set *set, uint32_t hook, const struct rule_chain *chains,
		     size_t count);

/* ---- matches: broker/nft/match.c ---- */

rule_part_add on_mark;	     /* meta mark != 0 */
rule_part_add on_answer;     /* meta mark enum nsgate_answer */
rule_part_add on_bypass;     /* EACH_BYPASS: meta mark & mask == value */
rule_part_add on_nfproto;    /* meta nfproto NFPROTO_* */
rule_part_add on_l4proto;    /* meta l4proto IPPROTO_* */
rule_part_add on_ethertype;  /* meta protocol ETH_P_* */
rule_part_add on_length_max; /* meta length <= bytes */
rule_part_add on_owner;	     /* meta skuid: a socket owns it, so a program made it */
rule_part_add on_route;	     /* it has been routed */
rule_part_add on_fragment;   /* of NFPROTO_* */
rule_part_add on_tcp_without_syn;
rule_part_add on_icmpv6;	   /* ICMPV6(hop limit, first type, last type) */
rule_part_add on_link_kind;	   /* enum rules_link_kind */
rule_part_add on_foreign_source;   /* fib saddr type != local */
rule_part_add on_source_elsewhere; /* fib saddr . iif oif missing */
rule_part_add on_destination;	   /* fib daddr type RTN_* */
rule_part_add on_destination_not;
rule_part_add on_state;	 /* ct state: any of the bits */
rule_part_add on_status; /* ct status: any of IPS_* */
rule_part_add on_status_not;
rule_part_add on_no_query;  /* ct original proto-dst != 53, and by no loopback */
rule_part_add on_direction; /* ct direction IP_CT_DIR_* */
rule_part_add on_denied;    /* the flow is in the set of denied ones of NFPROTO_* */

/* By the conntrack label. Of the path: in rows of EACH_PATH. `value`: further paths, a mask. */
rule_part_add on_path;		 /* the links */
rule_part_add on_accepted;	 /* the flow was accepted by this path, or one of those */
rule_part_add on_accepted_reply; /* by one that this path answers */
rule_part_add on_passed;	 /* or let pass, under whichever policy */
rule_part_add on_passed_reply;
rule_part_add on_accepted_here; /* accepted by any path of the hook, or one that answers it */
rule_part_add on_never_passed;	/* let pass by no path at all */
rule_part_add on_unsure;	/* its direction is a guess */

#define ICMPV6(hop_limit, first, last) ((hop_limit) << 16 | (first) << 8 | (last))

/* ---- statements: broker/nft/statement.c ---- */

rule_part_add do_verdict; /* NF_ACCEPT, NF_DROP, NFT_RETURN */
rule_part_add do_jump;	  /* enum rule_role */
rule_part_add do_goto;
rule_part_add do_queue;	       /* by the number of enum nsgate_flow, or accept if nobody judges */
rule_part_add do_reject_reset; /* reject with tcp reset */
rule_part_add do_reject_port;  /* reject with icmpx port-unreachable */
rule_part_add do_count;	       /* enum nsgate_counter */
rule_part_add do_count_denied; /* by direction */
rule_part_add do_count_guard;
rule_part_add do_accept_offloaded; /* counted by direction */
rule_part_add do_accept_notice;	   /* counted */
rule_part_add do_limit;		   /* packets a second */
rule_part_add do_note_denied;	   /* add the flow to the set of NFPROTO_* */
rule_part_add do_clear_mark;
rule_part_add do_label_unsure;
rule_part_add do_label_passed;	 /* by the row's path */
rule_part_add do_label_accepted; /* by the row's path, under the policy in force */

#endif
