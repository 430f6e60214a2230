/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nftables rules that bring packets to the queue and act on the agent's answer: one table
 * `inet nsgate`, changed only in whole batches. Every function takes a NETLINK_NETFILTER socket
 * that was opened inside the namespace concerned, is bound to a port id, and is used by nobody
 * else; none of them opens, closes or keeps it.
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
	bool connmark;	   /* ct mark can be read and set */
};

/*
 * Find out what this kernel offers by trying it, in a namespace that nobody uses (tables made for
 * the trial are removed again).
 * Return: 0 or -errno (-EPERM: no CAP_NET_ADMIN over the namespace).
 */
int rules_probe(int fd, struct rules_features *ret);

struct rules_queues {
	enum nsgate_backend backend;
	bool owned; /* make the table an owned, persistent one */
	uint16_t first;
	uint16_t count;
};

/*
 * Put `spec` in force in one atomic batch: create what is missing, replace every rule, keep the
 * base chains and the counters that are there already (deleting a base chain would drop every
 * packet that waits in any queue of the namespace). Hooks that are no longer named queue nothing.
 * An owned table left by a dead owner is adopted. Return: 0 or -errno: -EPERM no capability, or the
 * table is owned by somebody else who lives; -ENOENT the kernel lacks an expression.
 */
int rules_install(int fd, const struct rules_queues *queues, const struct nsgate_rules_spec *spec);

/* As rules_install(), but queue nothing: let everything pass, and count it. */
int rules_open(int fd, const struct rules_queues *queues, const struct nsgate_rules_spec *spec);

/* Queue nothing more. Packets that wait still get the answer that the agent gives them. */
int rules_pause(int fd);

/*
 * Has anybody changed rules in the namespace, whosever they are, since *generation was read? It is
 * brought up to date. Return: 1 yes, 0 no, -errno.
 */
int rules_changed(int fd, uint32_t *generation);

/* Delete the table. 0 also where there is none. Call rules_pause() and let the queue drain first.
 */
int rules_remove(int fd);

#endif
