/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * By which ways packets pass a hook, and what conntrack labels say of a flow's ways
 * (nsgate/flow.h). Private to broker/rules*.c.
 */
#ifndef NSGATE_RULES_WAY_H
#define NSGATE_RULES_WAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nsgate/flow.h"
#include "broker/nft/set.h"

enum rules_link_kind {
	RULES_LINK_IN,
	RULES_LOOP_IN,
	RULES_LINK_OUT,
	RULES_LINK_OUT_OURS, /* and not forwarded */
	RULES_LOOP_OUT,
	RULES_FORWARDED,
	RULES_ANY_LINK,
};

/* A way through a hook: which links, what it is called, and whose replies may come by it. */
struct rules_way {
	enum rules_link_kind links;
	enum nsgate_way own;
	uint32_t answers; /* mask of 1 << enum nsgate_way */
};

/* Every way that a flow may have begun. */
#define RULES_ANY_WAY ((1U << NSGATE_WAY_MAX) - 1)

struct rules_ways {
	const struct rules_way *list;
	size_t count;
};

/* The ways through a hook. Each packet goes one of them. */
struct rules_ways rules_ways(uint32_t hook);

/* Matches, each for the rule that is being made. `ways`: mask of 1 << enum nsgate_way. */
void rules_match_links(struct nft_batch *batch, enum rules_link_kind kind);
void rules_match_accepted(const struct rules_set *set, uint32_t ways);
void rules_match_passed(const struct rules_set *set, uint32_t ways, enum nft_cmp_ops op);
void rules_match_unsure(const struct rules_set *set);

/* Statements. */
void rules_note_unsure(const struct rules_set *set);
void rules_note(const struct rules_set *set, enum nsgate_way way, bool accepted);

#endif
