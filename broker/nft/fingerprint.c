// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * The kernel writes out a table, its chains and its rules. Each message is hashed by itself, and
 * the hashes are added up, so that the order does not matter. Left out is what differs from one
 * installation to the next: numbers of order (handles, positions), how often a thing is used, and
 * who owns the table. A base chain that went to sleep, or that was made again as an ordinary one,
 * counts as different.
 */
#include "broker/nft/rules.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>

#include "hash.h"
#include "broker/nft/batch.h"
#include "broker/nft/table.h"

/* Is that attribute part of what the thing is? */
static bool counts(uint16_t message, uint16_t attribute)
{
	switch (message) {
	case NFT_MSG_NEWTABLE:
		return attribute == NFTA_TABLE_FLAGS;
	case NFT_MSG_NEWCHAIN:
		return attribute == NFTA_CHAIN_NAME || attribute == NFTA_CHAIN_TYPE ||
		       attribute == NFTA_CHAIN_POLICY;
	case NFT_MSG_NEWRULE:
		return attribute == NFTA_RULE_CHAIN || attribute == NFTA_RULE_EXPRESSIONS;
	default:
		return false;
	}
}

static uint64_t hash_attribute(uint16_t message, const struct nlattr *attr)
{
	uint32_t flags;

	if (message != NFT_MSG_NEWTABLE || mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
		return hash_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));
	flags = ntohl(mnl_attr_get_u32(attr)) & NFT_TABLE_F_DORMANT;
	return hash_bytes((const char *)&flags, sizeof(flags));
}

static void add(const struct nlmsghdr *nlh, void *data)
{
	const uint16_t message = nlh->nlmsg_type & 0xff;
	uint64_t *print = data, parts[NFTA_RULE_MAX + 1] = {message};
	const struct nlattr *attr;

	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg)) {
		const uint16_t type = mnl_attr_get_type(attr);

		if (type > 0 && type <= NFTA_RULE_MAX && counts(message, type))
			parts[type] = hash_attribute(message, attr);
	}
	*print += hash_bytes((const char *)parts, sizeof(parts));
}

int rules_print(int fd, uint64_t *ret_print)
{
	struct rules_tables tables;
	uint64_t print = 0;
	int r = rules_tables_find(fd, &tables);

	if (r == 0)
		r = nft_each(fd, NFPROTO_INET, tables.inet.name, add, &print);
	if (r == 0 && tables.netdev.exists)
		r = nft_each(fd, NFPROTO_NETDEV, tables.netdev.name, add, &print);
	if (r == 0)
		*ret_print = print;
	return r;
}
