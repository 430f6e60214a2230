/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guard of a strict policy as statements of a batch. Private to broker/nft. */
#ifndef NSGATE_RULES_GUARD_H
#define NSGATE_RULES_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/nft/batch.h"
#include "broker/nft/rules.h"
#include "broker/nft/table.h"

/* What there is of a guard before a change. */
struct guard_inventory {
	bool fragment_counter; /* in the table inet */
	bool table;	       /* the table of family netdev */
	bool counter;	       /* its counter */
	uint32_t *links;       /* ifindexes of the links that have their chain; to be freed */
	unsigned int link_count;
};

/* Return: 0 or -errno. Free with guard_inventory_free() in any case. */
int guard_take_inventory(int fd, const struct rules_tables *tables, struct guard_inventory *ret);
void guard_inventory_free(struct guard_inventory *inventory); /* takes what was never filled */

/* Of the table inet: the counter of fragments. Before any rule that counts there. */
void guard_counter(struct nft_batch *batch, bool strict, const struct guard_inventory *before);

/*
 * Of the table inet: the chain against fragments, full where `strict`, else empty if it is there.
 * The table must exist in the batch and must have been flushed before.
 */
void guard_fragments(struct nft_batch *batch, bool strict);

/*
 * The table netdev, made or replaced: where `strict`, every link has a chain and the chains have
 * rules; else all that is there is emptied. Leaves the batch at family inet.
 * `owned`: as rules_install().
 */
void guard_links(struct nft_batch *batch, bool strict, bool owned, const struct rules_links *links,
		 const struct guard_inventory *before);

/* Bind further links, unbind those that are gone; the rules are there. */
void guard_follow_links(struct nft_batch *batch, const struct rules_links *links,
			const struct guard_inventory *before);

/* Something of everything, to see whether this kernel takes it. */
void guard_try(struct nft_batch *batch);

#endif
