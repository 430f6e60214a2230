/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Our table is called nsgate, in the families inet and netdev. While no broker runs and nothing
 * keeps its sockets, somebody inside may delete it and own one of that name, which nobody else can
 * change. Then ours is called nsgate-XXXXXXXX, of a random number that nobody can own beforehand.
 *
 * The kernel tells which one is ours, for each family by itself: the table whose owner is the
 * socket that asks. Where none is, as after a restart, it is the first of such a name that has no
 * owner. Others without one are left over, and deleted.
 *
 * Private to broker/nft.
 */
#ifndef NSGATE_NFT_TABLE_H
#define NSGATE_NFT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nsgate/table.h"

#define RULES_LEFTOVERS_MAX 8

struct rules_table {
	char name[NSGATE_TABLE_NAME_MAX];
	uint32_t number; /* of the name; 0: "nsgate" */
	bool exists;
	uint32_t leftovers[RULES_LEFTOVERS_MAX]; /* numbers of other ones without an owner */
	size_t leftover_count;
};

struct rules_tables {
	struct rules_table inet, netdev;
};

/*
 * Find ours, or names that are free.
 * Return: 0 or -errno; a kernel without the family netdev has no table of it.
 */
int rules_tables_find(int fd, struct rules_tables *ret);

/*
 * Where tables are not to be owned, ours has no other name: whoever wants could own that, too, at
 * any time.
 */
void rules_tables_keep_name(struct rules_tables *tables);

/* Delete what is left over, as far as the kernel lets us. */
void rules_tables_tidy(int fd, const struct rules_tables *tables);

#endif
