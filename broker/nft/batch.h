/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch of nftables changes to one table of family inet and one of family netdev: the
 * kernel makes all of them or none. Building it cannot fail visibly; the first error is kept and
 * nft_batch_commit() returns it.
 */
#ifndef NSGATE_NFT_BATCH_H
#define NSGATE_NFT_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "netlink.h"

/*
 * The table outlives the socket that owns it: NFT_TABLE_F_PERSIST of linux/netfilter/nf_tables.h in
 * Linux 6.9. By a name of our own: older headers lack it, and newer ones have an enumerator, which
 * #ifndef does not see and a macro would break.
 */
#define NFT_TABLE_PERSIST 0x4

struct nftnl_rule;

struct nft_batch {
	const char *table;	   /* of that family */
	const char *inet, *netdev; /* its names */
	uint8_t family;		   /* NFPROTO_INET, or NFPROTO_NETDEV */
	char *buffer;
	size_t used;		 /* bytes of `buffer` */
	uint32_t first;		 /* sequence number of the batch's begin */
	size_t last_message;	 /* offset in `buffer` */
	uint32_t sets;		 /* added so far: their numbers within the batch */
	struct nftnl_rule *rule; /* between nft_rule_begin() and nft_rule_end(), else NULL */
	int error;		 /* -errno of the first step that failed, or 0 */
};

/* `table` must outlive the batch. The family is inet. */
void nft_batch_begin(struct nft_batch *batch, const char *table);

/*
 * The same, for a rule set of that generation (nft_generation()): where it has another by then, the
 * kernel changes nothing and nft_batch_commit() returns -ERESTART. 0: of any.
 */
void nft_batch_begin_at(struct nft_batch *batch, const char *table, uint32_t generation);

/* Return: the generation of a rule set after one more change. */
uint32_t nft_generation_after(uint32_t generation);

/* The table of family netdev has another name. It must outlive the batch, too. */
void nft_batch_name_netdev(struct nft_batch *batch, const char *table);

/* What follows is about the table of that family. */
void nft_batch_turn(struct nft_batch *batch, uint8_t family);

/*
 * Send the batch through `fd` (NETLINK_NETFILTER) and await the outcome; frees the batch.
 * Return: 0 or -errno, the kernel's first complaint.
 */
int nft_batch_commit(struct nft_batch *batch, int fd);

/* Free the batch without sending it. */
void nft_batch_free(struct nft_batch *batch);

/* `flags`: NFT_TABLE_F_*. What exists already is kept, and adopted where it lacks its owner. */
void nft_add_table(struct nft_batch *batch, uint32_t flags);
void nft_delete_table(struct nft_batch *batch);

/*
 * A base chain with policy accept; `hook` is of enum nf_inet_hooks. `type`: "filter", or "route"
 * for the output hook, which routes packets anew whose mark the chain has changed.
 */
void nft_add_base_chain(struct nft_batch *batch, const char *name, const char *type, uint32_t hook,
			int32_t priority);
void nft_add_chain(struct nft_batch *batch, const char *name);

/*
 * For family netdev: a base chain of policy accept for what leaves by the link `device`. A chain
 * that is there already is bound to that link too.
 */
void nft_add_egress_chain(struct nft_batch *batch, const char *name, const char *device);

/* The chain must have no rules, and nothing may jump to it. */
void nft_delete_chain(struct nft_batch *batch, const char *name);

/* A named counter starting at zero; fails the batch with EEXIST where there is one. */
void nft_add_counter(struct nft_batch *batch, const char *name);

/*
 * A set of keys that rules fill: each is forgotten after `timeout_ms`, and no more than `size` are
 * held; those that have timed out are cleared away every `sweep_ms`.
 */
struct nft_set {
	const char *name;
	uint32_t key_type; /* nft's numbers of the types, 6 bits each */
	uint32_t key_bytes;
	uint32_t size, timeout_ms, sweep_ms;
};
void nft_add_set(struct nft_batch *batch, const struct nft_set *set);

/* No rule may refer to it. One of the same name can be added after it. */
void nft_delete_set(struct nft_batch *batch, const char *name);

/* Delete every rule of every chain of the table, or of one chain, which must exist. */
void nft_flush_table(struct nft_batch *batch);
void nft_flush_chain(struct nft_batch *batch, const char *chain);

/* Append a rule to `chain`; the broker/nft/expr.h functions between the two fill it. */
void nft_rule_begin(struct nft_batch *batch, const char *chain);
void nft_rule_end(struct nft_batch *batch);

/*
 * Have `handler` called with the kernel's message of the table of that name, or of every table of
 * the family in the order in which they were made. Return: 0, also where there is none, or -errno.
 */
int nft_get_table(int fd, uint8_t family, const char *table, netlink_handler handler, void *data);
int nft_each_table(int fd, uint8_t family, netlink_handler handler, void *data);

/* Return: 0 where the named counter, chain or set exists, -ENOENT, or another -errno. */
int nft_find_counter(int fd, uint8_t family, const char *table, const char *name);
int nft_find_chain(int fd, uint8_t family, const char *table, const char *name);
int nft_find_set(int fd, uint8_t family, const char *table, const char *name);

/*
 * Have `handler` called for the table itself, and for each of its chains and rules, with the
 * kernel's own message (NFT_MSG_NEWTABLE, ...). Return: 0, also where there is no such table, or
 * -errno.
 */
int nft_each(int fd, uint8_t family, const char *table, netlink_handler handler, void *data);

/*
 * The number of the namespace's whole rule set: it rises with every change by anybody.
 * Return: 0 or -errno.
 */
int nft_generation(int fd, uint32_t *ret_generation);

#endif
