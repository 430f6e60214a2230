/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which addresses have which names. No allocation but for opening; the caller holds the lock.
 */
#ifndef NSGATE_NAMES_BINDINGS_H
#define NSGATE_NAMES_BINDINGS_H

#include "names/area.h"

/* One address has so many names at most; the least used goes first. */
#define NAMES_OF_ADDRESS_MAX 64

struct names_slot {
	uint32_t next; /* of the same place; NAMES_NO_SLOT ends it */
	bool is_used;
	uint64_t lists;	   /* of the policy `lists_of`: which of them have the name */
	uint64_t lists_of; /* 0: not looked up yet */
};
#define NAMES_NO_SLOT UINT32_MAX

struct names_bindings {
	struct names_area *area;
	struct names_slot *slots; /* `limit` of them */
	uint32_t *places;	  /* `place_mask` + 1 of them: by address */
	uint32_t place_mask;
	uint32_t limit;
	uint32_t free; /* the first unused slot, or behind it */
	uint32_t used;
	uint32_t hand;		   /* up to where was looked for what has expired */
	uint64_t expired, evicted; /* since opened */
};

/*
 * Make the table of an area, with what is in there. More than `limit` do not fit: of these the
 * least used go.
 * Return: 0 or -ENOMEM. names_bindings_close() takes a zeroed one.
 */
int names_bindings_open(struct names_bindings *bindings, struct names_area *area, uint32_t limit);
void names_bindings_close(struct names_bindings *bindings);

/*
 * Note that an address has a name until `expires_ns` (UINT64_MAX: for ever). What is known already
 * lasts for the longer time. A full table drops what has expired, then what was used longest ago.
 * Return: true where it is new; false where it was known, or there is no memory for it.
 */
bool names_bindings_add(struct names_bindings *bindings, uint8_t family,
			const struct pkt_addr *address, const struct domain *domain,
			uint64_t expires_ns, bool is_pinned, uint64_t now_ns);

/* Look up names: which lists of the policy have one. */
typedef uint64_t names_lists_fn(const void *policy, const struct domain *domain);

struct names_asking {
	names_lists_fn *lists;
	const void *policy;
	uint64_t policy_key; /* not 0; differs where lists do */
};

/*
 * The names of an address.
 * @expired_too: for a flow that began when it had the name
 * Return: has it any? Then *ret_lists are the lists that have one of its names.
 */
bool names_bindings_look_up(struct names_bindings *bindings, uint8_t family,
			    const struct pkt_addr *address, bool expired_too, uint64_t now_ns,
			    const struct names_asking *asking, uint64_t *ret_lists);

/* Remove what the caller picks. Return: how many. */
typedef bool names_pick_fn(const struct names_binding *binding, const void *arg);
uint32_t names_bindings_remove(struct names_bindings *bindings, names_pick_fn *pick,
			       const void *arg);

/* Return: how many have not expired. */
uint32_t names_bindings_count(const struct names_bindings *bindings, uint64_t now_ns);

/* The record of a slot below `limit`, or NULL where it is unused. */
const struct names_binding *names_bindings_at(const struct names_bindings *bindings, uint32_t slot);

#endif
