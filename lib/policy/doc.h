/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A policy document, checked and turned into plain structures: what lib/policy/compile.c works
 * from. */
#ifndef NSGATE_POLICY_DOC_H
#define NSGATE_POLICY_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nsgate/limits.h"
#include "pkt.h"
#include "policy/policy.h"
#include "policy/problems.h"
#include "proto/domain_set.h"

#define POLICY_IFPATTERN_MAX 17 /* a link's name of 15 bytes, an asterisk, the NUL */

/* One member of a match's list; which of the forms it is, the match's compare kind says. */
union policy_value {
	struct {
		uint64_t low, high; /* inclusive */
	} range;
	struct {
		uint64_t value, mask;
	} masked;
	struct {
		struct pkt_addr low, high; /* inclusive */
		uint8_t family;
	} address;
	uint64_t bits; /* of interface patterns, or of lists of names */
	/* "dns": its match has this one first, and then ranges of types, or none for all. */
	struct {
		uint64_t names, not_names; /* bits of lists; 0: not asked */
		bool forbids;		   /* the rule's action: set when it is compiled */
	} query;
};

struct policy_json_list;

struct policy_doc_match {
	enum policy_field field;
	bool negated;
	uint32_t first, count; /* in policy_doc.values */
};

struct policy_doc_limit {
	uint64_t rate;	   /* packets ... */
	uint64_t period_s; /* ... in so many seconds */
	uint64_t burst;	   /* packets */
};

struct policy_doc_rule {
	char name[NSGATE_NAME_MAX];
	enum policy_action action;
	uint16_t queue;
	bool queue_open;
	uint32_t bypass_value, bypass_mask; /* mask 0: none */
	bool log, audit;
	bool limited, marks;
	struct policy_doc_limit limit;
	uint32_t mark_set, mark_mask; /* where `marks`: mark = mark & ~mask | set */
	int16_t set_ttl, set_dscp;    /* -1: leave */
	uint32_t first_match, match_count;
};

/* "names", and the lists of all rules. */
struct policy_doc_names {
	struct policy_names said;
	bool is_used; /* there is "names", or a rule asks for one */
	struct domain_set *set;
	char *lists[DOMAIN_SET_LISTS_MAX]; /* each as it was written */
	uint32_t list_count;
};

struct policy_doc {
	char name[NSGATE_NAME_MAX];
	bool audit, offload, strict, open_on_agent_down, open_on_overload;
	uint32_t hooks;
	enum policy_action defaults[PKT_DIRECTION_MAX];
	struct policy_doc_rule *rules;
	size_t rule_count;
	struct policy_doc_match *matches;
	size_t match_count, match_room;
	union policy_value *values;
	size_t value_count, value_room;
	char ifpatterns[NSGATE_IFPATTERNS_MAX][POLICY_IFPATTERN_MAX];
	size_t ifpattern_count;
	struct policy_doc_names names;
};

/* The walk through a document: where it is, what it found, what it makes. */
struct policy_reader {
	struct policy_problems *problems;
	struct policy_path path;
	struct policy_doc *doc;
	struct policy_json_list *rules; /* of the document, where "rules" is a list */
	bool no_memory;
};

void policy_doc_free(struct policy_doc *doc);

/* ---- for the readers of values (lib/policy/value.c, lib/policy/match.c) ---- */

/* Note a problem where the reader is. */
#define policy_complain(reader, ...)                                                               \
	policy_problem((reader)->problems, &(reader)->path, __VA_ARGS__)

/* Begin another match of the rule being read; and append a value to it. */
void policy_doc_begin_match(struct policy_reader *reader, enum policy_field field, bool negated);
void policy_doc_add_value(struct policy_reader *reader, const union policy_value *value);

#endif
