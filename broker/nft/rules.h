/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nftables rules that bring packets to the queue and act on the agent's answer: one table
 * `inet nsgate`, and `netdev nsgate` where a policy is strict, by other names where somebody else
 * owns these (broker/nft/table.h). They are changed only in whole batches. Every
 * function takes a NETLINK_NETFILTER socket that was opened inside the namespace concerned, is
 * bound to a port id, and is used by nobody else; none of them opens, closes or keeps it.
 */
#ifndef NSGATE_RULES_H
#define NSGATE_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "nsgate/proto.h"

struct rules_features {
	enum nsgate_backend
		backend;   /* NSGATE_BACKEND_NONE: this kernel cannot queue from nftables */
	bool owned_tables; /* NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST is understood */
	bool counter;	   /* rules can count: without it none is installed */
	bool limit;	   /* rules can have a rate: as well */
	bool label;	   /* conntrack labels can be read and set */
	bool fib;	   /* whose an address is can be told, and by which link it is reached */
	bool guard;	   /* what leaves by a link can be guarded: a policy may be strict */
};

/*
 * Find out what this kernel offers by trying it, in a namespace that nobody uses (tables made for
 * the trial are removed again).
 * Return: 0 or -errno (-EPERM: no CAP_NET_ADMIN over the namespace).
 */
int rules_probe(int fd, struct rules_features *ret);

/* Links of a namespace as they were a moment ago: those that are gone do no harm. */
struct rules_links {
	const struct nsgate_link *list;
	unsigned int count;
};

#define RULES_GUARDED_LINKS_MAX 256

struct rules_queues {
	enum nsgate_backend backend;
	bool owned;	 /* make the tables owned, persistent ones */
	bool fib;	 /* the kernel can tell whose an address is */
	uint64_t cookie; /* of the namespace: its answers are made of it */
	uint16_t first;
	uint16_t count; /* that packets are spread over; each has NSGATE_FLOW_MAX numbers */
	struct rules_links links; /* to be guarded where the specification is strict */

	/*
	 * Not NULL: the rules are to be put upon what was looked at, and upon nothing that somebody
	 * did meanwhile. Gets the rule set's generation by that change; 0: somebody there changed
	 * rules all the time, so they were put upon whatever there was.
	 */
	uint32_t *ret_generation;
};

/*
 * Put `spec` in force in one atomic batch: create what is missing, replace every rule, keep the
 * base chains and the counters that are there already (deleting a base chain would drop every
 * packet that waits in any queue of the namespace). Hooks that are no longer named queue nothing.
 * An owned table left by a dead owner is adopted. Return: 0 or -errno: -EPERM no capability, or
 * somebody takes every name; -ENOENT the kernel lacks an expression; -E2BIG strict, and more links
 * than RULES_GUARDED_LINKS_MAX.
 */
int rules_install(int fd, const struct rules_queues *queues, const struct nsgate_rules_spec *spec);

/* As rules_install(), but queue nothing: let everything pass, and count it. */
int rules_open(int fd, const struct rules_queues *queues, const struct nsgate_rules_spec *spec);

/*
 * Strict rules are in force, and links came, went or have other names.
 * Return: 0 or -errno as rules_install().
 */
int rules_follow_links(int fd, const struct rules_links *links);

/* Queue nothing more. Packets that wait still get the answer that the agent gives them. */
int rules_pause(int fd);

/*
 * Has anybody changed rules in the namespace, whosever they are, since *generation was read? It is
 * brought up to date. Return: 1 yes, 0 no, -errno.
 */
int rules_changed(int fd, uint32_t *generation);

#define RULES_PRINT_NONE 0 /* there is no table of ours */

/*
 * What our tables hold, as a number that differs where rules, chains or tables do. Two that are
 * equal have been made by the same specification for the same links. Return: 0 or -errno.
 */
int rules_print(int fd, uint64_t *ret_print);

/* What our tables are called there (nsgate/table.h). 0: nsgate, or there is none. */
struct rules_table_numbers {
	uint32_t inet, netdev;
};
int rules_table_numbers(int fd, struct rules_table_numbers *ret);

/* Delete the tables. 0 also where there are none. Call rules_pause() and let the queue drain first.
 */
int rules_remove(int fd);

#endif
