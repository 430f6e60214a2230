/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * By which paths packets go through a hook, and what conntrack labels say of a flow's paths
 * (nsgate/flow.h). Private to broker/nft.
 */
#ifndef NSGATE_NFT_PATH_H
#define NSGATE_NFT_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/nft/set.h"
#include "nsgate/flow.h"

enum rules_link_kind {
	RULES_ANY_LINK,
	RULES_NO_LINK_IN, /* it was made here */
	RULES_LINK_IN,
	RULES_LOOP_IN,
	RULES_LINK_OUT,
	RULES_LINK_OUT_OURS, /* and not forwarded */
	RULES_LOOP_OUT,
	RULES_FORWARDED,
	RULES_LINK_KINDS
};

/* Which links, what the path is called, and whose replies may come by it. */
struct rules_path {
	enum rules_link_kind links;
	enum nsgate_path own;
	uint32_t answers; /* mask of 1 << enum nsgate_path */
};

/* Every path that a flow may have begun by. */
#define RULES_ANY_PATH ((1U << NSGATE_PATH_MAX) - 1)
#define RULES_LOOP_PATHS (1U << NSGATE_PATH_IN_LOOP | 1U << NSGATE_PATH_OUT_LOOP)

struct rules_paths {
	const struct rules_path *list;
	size_t count;
};

/* The paths through a hook. Each packet goes by one of them. */
struct rules_paths rules_paths(uint32_t hook);

/* Matches, each for the rule that is being made. `paths`: mask of 1 << enum nsgate_path. */
void rules_match_links(struct nft_batch *batch, enum rules_link_kind kind);
void rules_match_accepted(const struct rules_set *set, uint32_t paths);
void rules_match_passed(const struct rules_set *set, uint32_t paths, enum nft_cmp_ops op);
void rules_match_unsure(const struct rules_set *set);

/* Statements. */
void rules_label_unsure(const struct rules_set *set);
void rules_label_path(const struct rules_set *set, enum nsgate_path path, bool accepted);

#endif
