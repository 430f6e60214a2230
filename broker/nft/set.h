/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rule set of one namespace as statements of a batch. Private to broker/nft. */
#ifndef NSGATE_RULES_SET_H
#define NSGATE_RULES_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/nft/batch.h"
#include "broker/nft/expr.h"
#include "nsgate/counter.h"
#include "nsgate/flow.h"
#include "nsgate/proto.h"

/* Priorities of the two base chains of each hook: after conntrack, NAT and everybody's filter. */
#define RULES_JUDGE_PRIORITY 10
#define RULES_LABEL_PRIORITY 20

/*
 * Of the chain against fragments. Behind the others: the kernel takes a packet that waited on at
 * the next place in the list of chains, so one put in front of the judging chain would have it
 * judged twice.
 */
#define RULES_GUARD_PRIORITY 21

/* The counter of what the guard drops, in both tables. */
#define GUARD_COUNTER "guard"

struct rules_set {
	struct nft_batch *batch;
	uint32_t hooks; /* mask of NSGATE_HOOK_BIT() */
	uint32_t generation;
	bool offload;
	bool denied;	/* the agent's answer "denied" is to be understood */
	bool sets;	/* and the kernel has sets, to remember denied flows in */
	bool ct_state;	/* the kernel has conntrack expressions */
	bool ct_label;	/* and labels */
	bool fib;	/* and can tell whose an address is */
	bool opened;	/* nobody judges: let everything pass */
	bool selective; /* not all that passes was accepted: the agent says what was */
	bool strict;	/* guard what leaves */
	bool names;	/* queries and their answers are queued, whatever is known of their flow */
	uint32_t answers[NSGATE_ANSWER_MAX];
	const struct nsgate_bypass_mark *bypass; /* by which consumers accept whole flows */
	uint32_t bypass_count;
	struct nft_queue_range queue; /* of NSGATE_FLOW_NEW */
};

/* Longest chain name and its NUL, as in "notices_postrouting". */
#define RULES_CHAIN_NAME_MAX 32

/*
 * Chains and rules of one hook: those that queue its packets, and those that label their flows.
 * The table must exist in the batch and must have been flushed before.
 */
void rules_judge(const struct rules_set *set, uint32_t hook);
void rules_label(const struct rules_set *set, uint32_t hook);

/* Where there are labels: before anything else of a batch that asks for conntrack. */
void rules_unsure(const struct rules_set *set);

bool rules_hook_incoming(uint32_t hook); /* in, prerouting */
bool rules_hook_outgoing(uint32_t hook); /* out, postrouting */

/* A hook that is not judged, but for what is sent to many. */
bool rules_judges_looped(const struct rules_set *set, uint32_t hook);

/* Hooks where the flow memory can do without asking. */
bool rules_hook_offloads(uint32_t hook);

/* The sets of denied flows: one for each family of such a hook. */
enum rules_family { RULES_FAMILY_IPV4, RULES_FAMILY_IPV6, RULES_FAMILIES };
void rules_denied_set_name(char name[RULES_CHAIN_NAME_MAX], enum rules_family family,
			   uint32_t hook);
uint32_t rules_flow_type(enum rules_family family); /* of its key, as nft has it */
uint32_t rules_flow_bytes(enum rules_family family);
void rules_load_flow(struct nft_batch *batch, enum rules_family family);

/* Is the answer "denied" understood in that hook? And can it be remembered? */
bool rules_denies(const struct rules_set *set, uint32_t hook);
bool rules_remembers(const struct rules_set *set, uint32_t hook);

/* The chain of `hook` whose name begins with `role`, as in "judge_in". */
void rules_chain_name(char name[RULES_CHAIN_NAME_MAX], const char *role, uint32_t hook);

#endif
