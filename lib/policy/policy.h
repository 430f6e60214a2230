/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A policy: JSON document -> compiled, immutable form -> decision for one packet.
 * The decision does no I/O, no logging and no allocation.
 */
#ifndef NSGATE_POLICY_H
#define NSGATE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pkt.h"

struct json_object;
struct shm_rule;

/* ---- problems: everything wrong with a document, each with its JSON pointer (RFC 6901) ---- */

#define POLICY_PROBLEMS_MAX 100 /* more are counted, not kept */

struct policy_problem {
	char *pointer; /* "/rules/3/dport/0"; "" is the whole document */
	char *message; /* one line: what is wrong and what would be right */
};

struct policy_problems {
	struct policy_problem list[POLICY_PROBLEMS_MAX];
	size_t count; /* in `list` */
	size_t total; /* found */
};

void policy_problems_free(struct policy_problems *problems); /* frees what it holds, not itself */

/* ---- the compiled policy ---- */

enum policy_action {
	POLICY_ACTION_ACCEPT,
	POLICY_ACTION_DROP,
	POLICY_ACTION_REJECT,
	POLICY_ACTION_QUEUE,
	POLICY_ACTION_REPEAT,
	POLICY_ACTION_CONTINUE,
	POLICY_ACTION_MAX
};

extern const char *const policy_action_names[POLICY_ACTION_MAX];

/* The fields that a rule can ask for: bits of pkt.unknown, and indexes of the table of matches. */
enum policy_field {
	POLICY_FIELD_DIRECTION,
	POLICY_FIELD_FAMILY,
	POLICY_FIELD_PROTOCOL,
	POLICY_FIELD_SRC,
	POLICY_FIELD_DST,
	POLICY_FIELD_SPORT,
	POLICY_FIELD_DPORT,
	POLICY_FIELD_ICMP_TYPE,
	POLICY_FIELD_ICMP_CODE,
	POLICY_FIELD_TCP_FLAGS,
	POLICY_FIELD_IIF,
	POLICY_FIELD_OIF,
	POLICY_FIELD_SRC_MAC,
	POLICY_FIELD_MARK,
	POLICY_FIELD_UID,
	POLICY_FIELD_GID,
	POLICY_FIELD_LENGTH,
	POLICY_FIELD_DSCP,
	POLICY_FIELD_TTL,
	POLICY_FIELD_FRAGMENT,
	POLICY_FIELD_CT,
	POLICY_FIELD_DOMAIN,
	POLICY_FIELD_DNS,
	POLICY_FIELD_MAX
};

/* What is asked of the kernel for a policy, beside the first bytes of each packet: a mask. */
enum policy_need {
	POLICY_NEED_OWNER = 1 << 0,    /* the uid and gid of who sent it: NFQA_CFG_F_UID_GID */
	POLICY_NEED_SEGMENTS = 1 << 1, /* packets as on the wire, none larger: no NFQA_CFG_F_GSO */
	POLICY_NEED_WHOLE = 1 << 2,    /* all bytes that it can copy */
	POLICY_NEED_MESSAGE =
		1 << 3, /* a message of the DNS, of POLICY_MESSAGE_MAX bytes at most */
};

#define POLICY_MESSAGE_MAX 4096 /* bytes of a message of the DNS that is read */

/* What becomes of a query that is rejected. */
enum policy_refuse { POLICY_REFUSE_NXDOMAIN, POLICY_REFUSE_REFUSED, POLICY_REFUSE_DROP };

#define POLICY_RESOLVERS_MAX 16
#define POLICY_NAMES_ENTRIES_MAX 65536

/* What a policy says of names; all of it has its default where the policy has no "names". */
struct policy_names {
	struct policy_resolver {
		struct pkt_addr address;
		uint8_t family;
	} resolvers[POLICY_RESOLVERS_MAX]; /* whose answers are believed */
	uint32_t resolver_count;
	uint32_t ttl_min_s, ttl_max_s, grace_s;
	uint32_t entries;	/* addresses with a name, at most */
	uint64_t private_lists; /* bit of the list of names that private addresses may have, or 0 */
	enum policy_refuse refuse;
};

struct domain;

struct policy; /* immutable once made; see policy_info() for what others need of it */

struct policy_rule_info {
	const char *name;
	uint64_t name_hash; /* FNV-1a, never 0: the key of its counters in shared memory */
	enum policy_action action;
	bool log;

	/*
	 * POLICY_ACTION_QUEUE only: whose queue it is; whether a packet that finds nobody there
	 * goes on (NF_VERDICT_FLAG_QUEUE_BYPASS) or is dropped; and the mark by which the consumer
	 * says that a packet it accepts stands for its flow: mark & bypass_mask == bypass_value.
	 * That has a bit set, which the rule's own mark does not set; a mask of 0 is no such mark.
	 * A verdict to queue always has a rule: rules[policy_decision.rule].
	 */
	uint16_t queue;
	bool queue_open;
	uint32_t bypass_value, bypass_mask;
};

/* What the rest of the agent needs to know of a compiled policy. All memory is the policy's. */
struct policy_info {
	const char *name; /* the document's "name", or "" */
	bool audit;	  /* mode is audit, not enforce */
	bool offload;
	bool strict; /* what leaves past the hooks is dropped */
	bool open_on_agent_down;
	bool open_on_overload;
	bool rejects;		       /* some rule or default does */
	uint32_t hooks;		       /* mask of NSGATE_HOOK_BIT() */
	uint32_t needs;		       /* enum policy_need: of its matches, and of rewriting */
	uint32_t copy_length;	       /* bytes of a packet that are to be copied, by these */
	const char *const *ifpatterns; /* distinct patterns of iif and oif; bit i of pkt.iif_bits */
	size_t ifpattern_count;
	size_t rule_count;
	const struct policy_rule_info *rules;
	uint32_t limit_count;		  /* token buckets that a policy_state needs */
	const struct policy_names *names; /* NULL: the policy asks for no names */
	uint64_t source_hash;		  /* FNV-1a of the document as it was read */
};

/*
 * Parse, validate and compile a document.
 * @json, @length: the document; need not end in NUL
 * @ret_policy: the compiled policy, the caller's to policy_unref(); untouched on failure
 * @problems: zeroed by the caller; what is wrong is added; the caller frees
 * Return: 0; -EINVAL with at least one problem; -ENOMEM.
 * Size and depth limits: NSGATE_POLICY_BYTES_MAX, NSGATE_POLICY_DEPTH_MAX.
 */
int policy_compile(const char *json, size_t length, struct policy **ret_policy,
		   struct policy_problems *problems);

/* Reference counting is atomic: a policy is shared between namespaces and threads. */
struct policy *policy_ref(struct policy *policy);
void policy_unref(struct policy *policy); /* takes NULL */

const struct policy_info *policy_info(const struct policy *policy);

/* The document as it was read (exact bytes, NUL-terminated; length in *ret_length). */
const char *policy_source(const struct policy *policy, size_t *ret_length);

/*
 * Which of the policy's lists of names have a pattern that matches? Bits of pkt.domains and
 * pkt.query_lists. Only where policy_info.names is not NULL.
 */
uint64_t policy_name_lists(const struct policy *policy, const struct domain *domain);

/* Does a link's name match an iif/oif pattern ("eth0", "eth*")? */
bool policy_ifpattern_match(const char *pattern, const char *name);

/* ---- deciding ---- */

struct policy_bucket {
	uint64_t tokens; /* in billionths of a packet */
	uint64_t filled_at_ns;
};

struct policy_pool; /* the memory of buckets, which queues may have in common */

/*
 * What a policy remembers between packets: one per queue, used by one thread. The queues of a
 * namespace have their buckets in common: a rate is the namespace's.
 */
struct policy_state {
	struct policy_bucket *buckets; /* policy_info.limit_count of them, or NULL where 0 */
	struct policy_pool *pool;      /* whose they are */
	bool pooled;		       /* other states use them, too: take the pool's lock */
	struct shm_rule *counters; /* rule_count of them: hits are counted here as they happen */
	uint64_t *touched;	   /* of those counters, see shm.h; NULL where nobody asks */
	uint64_t uncounted;	   /* hits of rules for whose counters there was no memory */
	uint64_t full_until_ns;	   /* before that it is not asked for again */
	uint64_t now_ns;	   /* CLOCK_MONOTONIC, set by the caller once per turn */
};

/* Make the buckets of a policy, all full. Return: 0 or -ENOMEM. policy_state_free() takes NULL
 * members. */
int policy_state_init(struct policy_state *state, const struct policy *policy,
		      struct shm_rule *counters);
/* Make a state of the same policy that takes from the buckets of `other`. Neither is in use yet. */
void policy_state_join(struct policy_state *state, struct policy_state *other);
void policy_state_free(struct policy_state *state);

enum policy_verdict {
	POLICY_VERDICT_ACCEPT,
	POLICY_VERDICT_DROP,
	POLICY_VERDICT_REJECT,
	POLICY_VERDICT_QUEUE,
	POLICY_VERDICT_MAX
};

#define POLICY_RULE_DEFAULT (-1)
#define POLICY_LOGS_MAX 16

struct policy_decision {
	enum policy_verdict verdict; /* after audit: what is to be done */
	int32_t rule;		     /* index, or POLICY_RULE_DEFAULT */
	uint16_t queue;
	bool would_drop;  /* audit: the verdict would have been drop or reject */
	bool repeated;	  /* a repeat rule sent it round once */
	uint32_t mark;	  /* of the packet after all marks were set (32 bits) */
	int16_t set_ttl;  /* -1: leave */
	int16_t set_dscp; /* -1: leave */
	/*
	 * Who wants it logged, in order: rules with `log` that matched, and last the one that would
	 * have dropped it. The list holds the first POLICY_LOGS_MAX of `log_count`.
	 */
	uint32_t log_count;
	int32_t log_rules[POLICY_LOGS_MAX]; /* indexes, or POLICY_RULE_DEFAULT */
};

/*
 * Decide one packet. Rules in order, the first match decides, then the default. A rule's hit is
 * counted in state->counters (relaxed 64-bit stores; this thread is the only writer), except for a
 * reversed packet (pkt_reverse()), which is only a question.
 *
 * A `repeat` rule sets its mark and the packet is judged once more from the first rule with that
 * mark; on the second round repeat rules do not match. This gives what NF_REPEAT would (the packet
 * would re-enter the very chain that queued it) without the trip through the kernel.
 */
void policy_decide(const struct policy *policy, struct policy_state *state, const struct pkt *pkt,
		   struct policy_decision *ret);

/*
 * Is that the decision of every packet of the flow, however they differ, that goes the same way by
 * the same hook? A flow is two addresses, a protocol, and two ports; others are never asked about
 * here, nor are packets without them or fragments. Not for a reversed packet. It costs about as
 * much as a decision where rules that ask for more than the flow come before `decision->rule`, and
 * nothing where none does.
 */
bool policy_decides_flow(const struct policy *policy, const struct pkt *pkt,
			 const struct policy_decision *decision);

#endif
