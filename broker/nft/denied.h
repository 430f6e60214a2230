/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sets of denied flows, and the chains about them. Private to broker/nft. */
#ifndef NSGATE_NFT_DENIED_H
#define NSGATE_NFT_DENIED_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/nft/set.h"

/*
 * Make the sets of a hook, empty, in the place of those that are there (`exist`), or delete these.
 * The table must exist in the batch and must have been flushed before.
 */
void denied_sets_add(const struct rules_set *set, uint32_t hook, const bool exist[RULES_FAMILIES]);

/* The chains that note a flow and that drop the packets of noted ones, where the answer is known.
 */
void denied_chains_add(const struct rules_set *set, uint32_t hook);

#endif
