/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rule set of one namespace as statements of a batch. Private to broker/rules*.c. */
#ifndef NSGATE_RULES_SET_H
#define NSGATE_RULES_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "nft_batch.h"
#include "nft_expr.h"
#include "nsgate/counter.h"
#include "nsgate/proto.h"

/* Priorities of the two base chains of each hook: after conntrack, NAT and everybody's filter. */
#define RULES_JUDGE_PRIORITY 10
#define RULES_CLEAR_PRIORITY 19 /* right before settling */
#define RULES_SETTLE_PRIORITY 20

/*
 * Of the chain against fragments. Behind the others: the kernel takes a packet that waited on at
 * the next place in the list of chains, so one put in front of the judging chain would have it
 * judged twice.
 */
#define RULES_GUARD_PRIORITY 21

struct rules_set {
	struct nft_batch *batch;
	uint32_t hooks; /* mask of NSGATE_HOOK_BIT() */
	uint32_t generation;
	bool offload;
	bool denied;		      /* the agent's answer "denied" is to be understood */
	bool sets;		      /* and the kernel has sets, to remember denied flows in */
	bool ct_state;		      /* the kernel has conntrack expressions */
	bool ct_mark;		      /* and connection marks */
	bool opened;		      /* nobody judges: let everything pass */
	bool may_pass;		      /* or may some of it pass without a verdict? */
	enum nsgate_counter unjudged; /* which counts that */
	bool strict;		      /* guard what leaves */
	struct nft_queue_range queue;
};

/* Longest chain name and its NUL, as in "notices_postrouting". */
#define RULES_CHAIN_NAME_MAX 32

/*
 * Chains and rules of one hook: those that queue its packets, and those that act on the answer.
 * The table must exist in the batch and must have been flushed before.
 */
void rules_judge(const struct rules_set *set, uint32_t hook);
void rules_settle(const struct rules_set *set, uint32_t hook);

/* Hooks where the flow memory can do without asking. */
bool rules_hook_offloads(uint32_t hook);

/* The sets of denied flows: one for each family of such a hook. */
enum rules_family { RULES_FAMILY_IPV4, RULES_FAMILY_IPV6, RULES_FAMILIES };
void rules_denied_set_name(char name[RULES_CHAIN_NAME_MAX], enum rules_family family,
			   uint32_t hook);

/* Is the answer "denied" understood in that hook? */
bool rules_denies(const struct rules_set *set, uint32_t hook);

/*
 * Make them, empty, in the place of those that are there (`exist`), or delete these. The table
 * must exist in the batch and must have been flushed before.
 */
void rules_denied_sets(const struct rules_set *set, uint32_t hook,
		       const bool exist[RULES_FAMILIES]);

/* Where rules_denies(): the chains that note a flow, and rules that drop the packets of such. */
void rules_denied_chains(const struct rules_set *set, uint32_t hook);
void rules_denied_drop(const struct rules_set *set, const char *chain, uint32_t hook);

/* The chain of `hook` whose name begins with `role`, as in "judge_in". */
void rules_chain_name(char name[RULES_CHAIN_NAME_MAX], const char *role, uint32_t hook);

/*
 * Which bit of the connection mark says that a flow was accepted in `hook`. Bits stand for the
 * hooks in, out and forward. Prerouting and postrouting borrow one that no named hook asks for,
 * so that being accepted there is not taken for being accepted by a hook that sees more.
 * Return: NSGATE_CTMARK_IN, _OUT or _FORWARD; 0 where all three hooks are named: then every flow
 * passes one of them, and that one remembers it.
 */
uint32_t rules_remember_bit(uint32_t hooks, uint32_t hook);

#endif
