/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of matches: all that is to be known of a match in one row. What the kernel is asked
 * for, which denials hold for a flow, the classifier and the not_ form follow from it. A new one
 * needs its enum policy_field (policy.h), its field in struct pkt (pkt.h) and its row
 * (lib/policy/match.c): doc/HACKING.md.
 */
#ifndef NSGATE_POLICY_MATCH_H
#define NSGATE_POLICY_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pkt.h"
#include "policy/policy.h"

union policy_value;
struct json_object;
struct policy_reader;

#define POLICY_FIELD_BIT(field) (UINT64_C(1) << (field))

/* How a packet's field is held against a rule's value. */
enum policy_compare {
	POLICY_COMPARE_RANGE,	/* a number within low..high */
	POLICY_COMPARE_MASKED,	/* a number of which the bits in the mask equal the value's */
	POLICY_COMPARE_ADDRESS, /* an address of the same family within low..high */
	POLICY_COMPARE_BITS,	/* one of the patterns, or lists, is among those that match */
	POLICY_COMPARE_QUERY,	/* a query of the DNS that is asked for */
	POLICY_COMPARE_MAX
};

struct policy_match {
	const char *name; /* the key in a rule; with "not_" before it, the list is negated */
	enum policy_compare compare;
	bool reversible; /* pkt_reverse() can know it, at least of some packets */
	bool of_flow;	/* the same in all packets of a flow (with ports) that pass the same hook */
	uint32_t needs; /* enum policy_need: without that the field is another, or is not there */
	uint64_t max;	/* the highest number that fetch() gives: RANGE and MASKED */

	/*
	 * Read one value, and policy_doc_add_value() what it stands for (or policy_complain()).
	 * Where `is_whole`, a list is one value.
	 */
	void (*parse)(struct policy_reader *reader, struct json_object *value);

	/* The packet's number; false where the packet has none, and then no rule matches on it. */
	bool (*fetch)(const struct pkt *pkt, uint64_t *ret);

	/* POLICY_COMPARE_ADDRESS has this one instead; POLICY_COMPARE_QUERY has neither. */
	const struct pkt_addr *(*address)(const struct pkt *pkt);

	bool is_whole;
};

extern const struct policy_match policy_matches[POLICY_FIELD_MAX];

/*
 * Does a packet match a list of values? Whether the field is known at all (pkt.unknown) is for
 * the caller to look at.
 */
bool policy_match_holds(enum policy_field field, bool negated, const union policy_value *values,
			size_t count, const struct pkt *pkt);

/* "key" or "not_key" of a rule: a value or a list of them. Return: is it a match's key at all? */
bool policy_match_read(struct policy_reader *reader, const char *key, struct json_object *value);

#endif
