/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is to become of one packet. In go its bytes, what the kernel knows of its flow, and the
 * policy in force; out come a verdict and what goes with it. No I/O, no clock, no queue, no
 * allocation.
 */
#ifndef NSGATE_JUDGE_H
#define NSGATE_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "nsgate/flow.h"
#include "pkt.h"
#include "policy/policy.h"

struct names;

/* What is in force where the packet is. */
struct judge_policy {
	struct policy *policy;	   /* NULL: missing, `accept_without_policy` decides */
	struct policy_state state; /* of that policy; its now_ns is the packet's time */
	bool accept_without_policy;
	bool selective;	   /* the rules note an accepted flow only if they are told to */
	bool notes_denied; /* the rules note denied flows, and are this policy's */
	/* What is known of names there; NULL where the policy asks for none (policy_info.names). */
	struct names *names;
	bool turns; /* the rules know a query that was turned into its answer */
};

struct judge_packet {
	enum nsgate_flow flow;
	bool to_loopback;    /* it leaves by the loopback link */
	bool from_loopback;  /* it came by it */
	bool is_transports;  /* the kernel's transport made it: no raw socket can have */
	bool is_gso;	     /* more than one packet on the wire */
	uint32_t iif, oif;   /* links, 0: none */
	const uint8_t *data; /* from the IP header on; NULL where nothing was copied */
	uint32_t caplen;     /* bytes of it; pkt.length are on the wire */
	/*
	 * The caller sets what comes from the queue (pkt.h), but for `direction` and `ct`. These
	 * and what the headers say are filled in; `direction` also where the headers are bad.
	 */
	struct pkt pkt;
};

enum judge_verdict {
	JUDGE_VERDICT_ACCEPT,
	JUDGE_VERDICT_DROP,
	JUDGE_VERDICT_DENY,   /* drop, and the rules note the flow as denied */
	JUDGE_VERDICT_REJECT, /* drop, and the rules send a reset or an unreachable */
	JUDGE_VERDICT_TURN,   /* a query: gate_turn() makes its refusal of it */
	JUDGE_VERDICT_QUEUE,  /* hand it to decision.queue */
	JUDGE_VERDICT_MAX
};

enum judge_reason {
	JUDGE_REASON_POLICY,	/* `decision` is set: a rule, or the default */
	JUDGE_REASON_REPLY,	/* it answers a flow that is accepted, or may be such an answer */
	JUDGE_REASON_NO_POLICY, /* there is none */
	JUDGE_REASON_LOOPBACK,	/* the loopback's address on another link */
	JUDGE_REASON_MALFORMED, /* it cannot be read; only pkt.direction is filled in */
	JUDGE_REASON_NAMES,	/* it belongs to a query that was decided, or to none */
	JUDGE_REASON_MAX
};

struct judge_result {
	enum judge_verdict verdict;
	enum judge_reason reason;
	bool remember;	/* ACCEPT: the rules have to be told to note the flow */
	bool is_midway; /* REJECT: of a connection at work, whose other end is to be told as well */
	uint32_t mark;	/* ACCEPT, QUEUE: the whole mark that the packet is to have */
	/* Who decided, how to rewrite it, who wants it logged. */
	struct policy_decision decision;
};

/*
 * Judge one packet. Hits of rules are counted in judge->state and limits taken from it, as
 * policy_decide() does; where there are names, queries and answers are noted in judge->names.
 * Nothing else changes.
 */
void judge_packet(struct judge_policy *judge, struct judge_packet *packet,
		  struct judge_result *ret);

#endif
