/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Which rules can match a packet, without asking each of them. Every field that rules ask for is
 * a dimension. Its possible values fall into intervals within which the same rules match; each
 * interval has the set of these rules (lib/policy/set.h). A packet's value finds its interval,
 * hence a set, in each dimension, and the rules that can match are those in all of the sets. So the
 * cost grows with the logarithm of the number of different values, and with the number of rules
 * only where many match in every single field: by a 512th of the cost of looking at one.
 *
 * Fields whose values form no intervals (marks under odd masks, links' names), and fields that are
 * hardly asked for, stay with the rule, to be checked when the rule comes up.
 */
#ifndef NSGATE_POLICY_CLASS_H
#define NSGATE_POLICY_CLASS_H

#include "policy/doc.h"
#include "policy/set.h"

/* From a number to a set. */
struct policy_map {
	/* Numbers up to 65535: a table in pages of 256, equal pages stored once. */
	uint16_t *page_of;	      /* by the number's high byte */
	struct policy_interner pages; /* of uint32_t[256] */

	/* Larger ones: where each interval starts, ascending, the first at 0. */
	uint32_t *starts32;
	unsigned __int128 *starts128;
	uint32_t *sets; /* of each interval */
	uint32_t count;
};

struct policy_dimension {
	enum policy_field field;
	struct policy_map maps[2]; /* of addresses: IPv4, IPv6; else only the first is used */
	uint32_t absent;	   /* the set for a packet that does not have the field */
	uint32_t unknown;	   /* the set for pkt.unknown */
};

struct policy_class {
	struct policy_sets sets;
	struct policy_dimension dimensions[POLICY_FIELD_MAX];
	size_t dimension_count;
	size_t flow_dimension_count; /* the first of them: of fields that are a flow's */
	uint64_t fields;	     /* bits of the dimensions' fields */
	uint32_t all_chunks;	     /* the mask of a set that has rules in every chunk */
};

/* Return: 0 or -ENOMEM. The caller policy_class_free()s it either way. */
int policy_class_build(struct policy_class *class, const struct policy_doc *doc);
void policy_class_free(struct policy_class *class);

/* Does the classifier settle this match, so that the rule need not check it? */
bool policy_class_settles(const struct policy_class *class, const struct policy_doc *doc,
			  const struct policy_doc_match *match);

/* The set of one dimension for a packet: chunk numbers, class->sets.chunks_per_set of them. */
const uint32_t *policy_class_lookup(const struct policy_class *class,
				    const struct policy_dimension *dimension,
				    const struct pkt *pkt);

/* Does this action keep a packet from where it wants to go? */
static inline bool policy_action_forbids(enum policy_action action)
{
	return action == POLICY_ACTION_DROP || action == POLICY_ACTION_REJECT;
}

#endif
