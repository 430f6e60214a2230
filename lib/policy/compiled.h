/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The compiled form: made by lib/policy/compile.c, read by lib/policy/decide.c, seen by nobody
 * else. */
#ifndef NSGATE_POLICY_COMPILED_H
#define NSGATE_POLICY_COMPILED_H

#include <pthread.h>
#include <stdatomic.h>

#include "policy/class.h"
#include "policy/doc.h"

#define POLICY_NO_LIMIT UINT32_MAX
#define POLICY_TOKEN UINT64_C(1000000000) /* one packet, in the unit of policy_bucket.tokens */

/* What the classifier left to be checked when the rule comes up. */
struct policy_check {
	uint8_t field; /* enum policy_field */
	bool negated;
	uint32_t first_value, value_count;
};

struct policy_limit {
	uint64_t rate, period_s; /* packets in so many seconds */
	uint64_t capacity;	 /* of the bucket, in its unit */
};

/*
 * The hold on a pool is a few instructions long, and only the workers of one namespace with several
 * queues ever meet there.
 */
struct policy_pool {
	atomic_uint references;
	pthread_mutex_t lock;
	struct policy_bucket buckets[];
};

struct policy_rule {
	uint8_t action; /* enum policy_action */
	bool log, audit, marks;
	uint16_t queue;
	int16_t set_ttl, set_dscp;
	uint32_t mark_set, mark_mask;
	uint32_t limit; /* of policy.limits, or POLICY_NO_LIMIT */
	uint32_t first_check, check_count;
};

/*
 * Bits of the rules that can do one thing with one packet of a flow and another with the next, or
 * that leave more than a count and a line in the log: by what they ask for, a limit, a mark.
 */
struct policy_fickle {
	uint64_t *rules; /* POLICY_CHUNK_WORDS for each chunk of rules */
	size_t first;	 /* the first of them; rule_count where there is none */
};

struct policy {
	atomic_uint references;
	struct policy_info info;
	char name[NSGATE_NAME_MAX];
	char *source;
	size_t source_length;

	struct policy_class class;
	struct policy_rule *rules;
	struct policy_check *checks;
	union policy_value *values; /* of the checks */
	struct policy_limit *limits;
	struct policy_fickle fickle;
	uint8_t defaults[PKT_DIRECTION_MAX]; /* enum policy_action */

	struct policy_names names;
	struct domain_set *name_set; /* NULL: there are no lists of names */

	struct policy_rule_info *rule_infos;
	char *rule_names; /* one after the other */
	char ifpatterns[NSGATE_IFPATTERNS_MAX][POLICY_IFPATTERN_MAX];
	const char *ifpattern_list[NSGATE_IFPATTERNS_MAX];
};

#endif
