/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * What the queue's number says of the flow (nsgate/flow.h), what the headers say of the packet,
 * what the policy says of both.
 *
 * A packet is judged in the direction that it goes. Two kinds are asked about the other way, too:
 *
 *   - A reply, of a flow that came the way that this answers: it passes if the packet that it
 *     answers would be accepted now.
 *   - Where the direction is not known: a connection that was there before the rules or that
 *     conntrack forgot, or what conntrack does not track. It passes if the packet may go either
 *     way, and is rejected only if it may go neither. The port of who would be the server must
 *     look like one.
 *
 * With a raw socket anybody can make packets that look like a server's answers; a strict policy,
 * which is against such, takes those of unknown direction that leave as they are, and rejects none
 * that it would accept the other way.
 *
 * A rejection in the middle of a connection is for both of its ends, where there is one for
 * certain: conntrack has seen both speak, or the packet is a local socket's, or for one. Of what is
 * forwarded, and of what a raw socket may have made, nobody knows that.
 *
 * Where the policy asks for names, queries and answers of the DNS go by lib/names/gate.h, and other
 * packets have the names of their remote address looked up first.
 */
#include "judge.h"

#include <string.h>
#include <sys/socket.h>

#include "names/gate.h"
#include "nsgate/hook.h"

#define IPV6_HEADER_BYTES 40 /* RFC 8200 3 */
#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_RST 0x04

/* Where local ports of connections begin: net.ipv4.ip_local_port_range, as the kernel has it. */
#define EPHEMERAL_FIRST 32768

/* What the number says to the policy, and to us. */
static const struct flow_meaning {
	uint8_t ct;	   /* enum pkt_ct */
	bool is_original;  /* a packet that may note its flow as accepted, or as denied */
	bool is_known;	   /* accepted already: no rule is asked */
	bool is_reply;	   /* pass if what it answers would be accepted now */
	bool is_unsure;	   /* its direction is not known */
	bool never_reject; /* it may belong to a connection that is alive and allowed */
	bool both_spoke;   /* conntrack has seen packets both ways, and let the flow pass */
} meanings[NSGATE_FLOW_MAX] = {
	[NSGATE_FLOW_NEW] = {.ct = PKT_CT_NEW, .is_original = true},
	[NSGATE_FLOW_ORIGINAL] = {.ct = PKT_CT_ESTABLISHED,
				  .is_original = true,
				  .both_spoke = true},
	[NSGATE_FLOW_KNOWN] = {.ct = PKT_CT_ESTABLISHED, .both_spoke = true},
	[NSGATE_FLOW_UNSURE] = {.ct = PKT_CT_ESTABLISHED,
				.is_original = true,
				.is_unsure = true,
				.both_spoke = true},
	[NSGATE_FLOW_REPLY] = {.ct = PKT_CT_ESTABLISHED | PKT_CT_REPLY},
	[NSGATE_FLOW_REPLY_KNOWN] = {.ct = PKT_CT_ESTABLISHED | PKT_CT_REPLY, .is_known = true},
	[NSGATE_FLOW_REPLY_STALE] = {.ct = PKT_CT_ESTABLISHED | PKT_CT_REPLY,
				     .is_reply = true,
				     .both_spoke = true},
	[NSGATE_FLOW_REPLY_UNSURE] = {.ct = PKT_CT_ESTABLISHED | PKT_CT_REPLY,
				      .is_unsure = true,
				      .both_spoke = true},
	[NSGATE_FLOW_EXPECTED] = {.ct = PKT_CT_RELATED, .is_original = true},
	[NSGATE_FLOW_ERROR] = {.ct = PKT_CT_RELATED},
	[NSGATE_FLOW_ERROR_KNOWN] = {.ct = PKT_CT_RELATED, .is_known = true},
	[NSGATE_FLOW_INVALID] = {.ct = PKT_CT_INVALID, .never_reject = true},
	[NSGATE_FLOW_UNTRACKED] = {.ct = PKT_CT_UNTRACKED, .is_unsure = true},
};

static const uint8_t hook_direction[NSGATE_HOOK_MAX] = {
	[NSGATE_HOOK_PREROUTING] = PKT_DIRECTION_IN,   [NSGATE_HOOK_IN] = PKT_DIRECTION_IN,
	[NSGATE_HOOK_FORWARD] = PKT_DIRECTION_FORWARD, [NSGATE_HOOK_OUT] = PKT_DIRECTION_OUT,
	[NSGATE_HOOK_POSTROUTING] = PKT_DIRECTION_OUT,
};

/* ---- the packet ---- */

/* Return: is it something that a policy can judge? */
static bool read_packet(struct judge_packet *packet)
{
	struct pkt *pkt = &packet->pkt;

	if (pkt->hook >= NSGATE_HOOK_MAX)
		return false;
	pkt->direction = hook_direction[pkt->hook];
	pkt->ct = meanings[packet->flow].ct;
	return packet->data && pkt_parse(pkt, packet->data, packet->caplen, pkt->length) == 0;
}

/*
 * Addresses of the loopback leave by no other link, whatever the policy says of them: a socket that
 * is bound to a link takes them there.
 */
static bool is_stray_loopback(const struct judge_packet *packet)
{
	const struct pkt *pkt = &packet->pkt;

	return pkt->direction == PKT_DIRECTION_OUT && !packet->to_loopback &&
	       pkt_addr_is_loopback(pkt->family, &pkt->dst);
}

/*
 * A reset for a socket here, whose segment was rejected as it left: it comes over the loopback.
 * Conntrack calls no segment of TCP related but one that the kernel made about another.
 */
static bool is_rejection(const struct judge_packet *packet)
{
	return packet->flow == NSGATE_FLOW_ERROR &&
	       (packet->to_loopback || packet->from_loopback) &&
	       packet->pkt.have & PKT_HAVE_TCP_FLAGS && packet->pkt.tcp_flags & TCP_FLAG_RST;
}

/* ---- verdicts ---- */

static void drop(struct judge_result *ret, enum judge_reason reason)
{
	ret->verdict = JUDGE_VERDICT_DROP;
	ret->reason = reason;
}

static void accept_as_is(const struct judge_packet *packet, struct judge_result *ret,
			 enum judge_reason reason)
{
	ret->verdict = JUDGE_VERDICT_ACCEPT;
	ret->reason = reason;
	ret->mark = packet->pkt.mark;
}

/*
 * Accept a packet whose flow may be noted. The rules note what they see go by; where they do not,
 * they have to be told, by a mark in the place of none.
 */
static void accept_flow(const struct judge_policy *judge, const struct judge_packet *packet,
			uint32_t mark, struct judge_result *ret)
{
	ret->verdict = JUDGE_VERDICT_ACCEPT;
	ret->mark = mark;
	ret->remember = judge->selective && meanings[packet->flow].is_original && mark == 0;
}

/*
 * May the kernel drop the rest of the flow without asking? It finds a flow by the addresses,
 * protocol and ports that the policy saw; so there must be some, and no header in between that one
 * might read in another way.
 */
static bool may_note_denied(const struct judge_policy *judge, const struct judge_packet *packet,
			    const struct policy_decision *decision)
{
	const uint16_t ports = PKT_HAVE_PORTS | PKT_HAVE_FRAGMENT;
	const uint32_t hooks = NSGATE_HOOK_BIT(NSGATE_HOOK_IN) | NSGATE_HOOK_BIT(NSGATE_HOOK_OUT) |
			       NSGATE_HOOK_BIT(NSGATE_HOOK_FORWARD);
	const struct pkt *pkt = &packet->pkt;

	return judge->notes_denied && NSGATE_HOOK_BIT(pkt->hook) & hooks &&
	       (pkt->have & ports) == PKT_HAVE_PORTS &&
	       (pkt->family == AF_INET || pkt->l4_offset == IPV6_HEADER_BYTES) &&
	       meanings[packet->flow].is_original && !meanings[packet->flow].is_unsure &&
	       policy_decides_flow(judge->policy, pkt, decision);
}

static void conclude(const struct judge_policy *judge, const struct judge_packet *packet,
		     struct judge_result *ret)
{
	const struct policy_decision *decision = &ret->decision;

	ret->reason = JUDGE_REASON_POLICY;
	switch (decision->verdict) {
	case POLICY_VERDICT_ACCEPT:
		accept_flow(judge, packet, decision->mark, ret);
		break;
	case POLICY_VERDICT_REJECT:
		ret->verdict = meanings[packet->flow].never_reject ? JUDGE_VERDICT_DROP
								   : JUDGE_VERDICT_REJECT;
		break;
	case POLICY_VERDICT_QUEUE:
		ret->verdict = JUDGE_VERDICT_QUEUE;
		ret->mark = decision->mark;
		break;
	case POLICY_VERDICT_DROP:
	case POLICY_VERDICT_MAX:
	default:
		ret->verdict = may_note_denied(judge, packet, decision) ? JUDGE_VERDICT_DENY
									: JUDGE_VERDICT_DROP;
		break;
	}
}

/* ---- the other way ---- */

static bool is_policed(const struct judge_policy *judge, uint8_t direction)
{
	static const uint32_t hooks[PKT_DIRECTION_MAX] = {
		[PKT_DIRECTION_IN] =
			NSGATE_HOOK_BIT(NSGATE_HOOK_IN) | NSGATE_HOOK_BIT(NSGATE_HOOK_PREROUTING),
		[PKT_DIRECTION_OUT] =
			NSGATE_HOOK_BIT(NSGATE_HOOK_OUT) | NSGATE_HOOK_BIT(NSGATE_HOOK_POSTROUTING),
		[PKT_DIRECTION_FORWARD] = NSGATE_HOOK_BIT(NSGATE_HOOK_FORWARD),
	};

	return policy_info(judge->policy)->hooks & hooks[direction];
}

/*
 * Does the policy accept the packet that this one would answer? What it hands to another program
 * counts as accepted, as the flow went on. Asked anew for every such packet.
 */
static __attribute__((noinline)) bool answers_accepted(struct judge_policy *judge,
						       struct judge_packet *packet)
{
	struct policy_decision decision;
	struct pkt original;

	pkt_reverse(&original, &packet->pkt);
	if (!is_policed(judge, original.direction))
		return true;
	if (judge->names)
		gate_look_up(judge, packet, &original);
	policy_decide(judge->policy, &judge->state, &original, &decision);
	return (decision.verdict == POLICY_VERDICT_ACCEPT && !decision.would_drop) ||
	       decision.verdict == POLICY_VERDICT_QUEUE;
}

/*
 * Can this end have been the server? Nobody connects from a port below those that are given out to
 * one of them.
 */
static bool may_be_answer(const struct pkt *pkt)
{
	return (pkt->have & (PKT_HAVE_PORTS | PKT_HAVE_FRAGMENT)) == PKT_HAVE_PORTS &&
	       !(pkt->sport >= EPHEMERAL_FIRST && pkt->dport < EPHEMERAL_FIRST);
}

/* Of a connection that was there before, or that conntrack lost: to it such are new or invalid. */
static bool is_midstream(const struct judge_packet *packet)
{
	return (packet->flow == NSGATE_FLOW_NEW || packet->flow == NSGATE_FLOW_INVALID) &&
	       packet->pkt.have & PKT_HAVE_TCP_FLAGS && !(packet->pkt.tcp_flags & TCP_FLAG_SYN);
}

/*
 * Is the packet's other direction one that the policy leaves alone, and may the packet be one that
 * is forwarded? Whoever sends such a one would need no more than to leave out the SYN.
 */
static bool may_pass_through(const struct judge_policy *judge, const struct pkt *pkt)
{
	struct pkt original;

	if (pkt->hook != NSGATE_HOOK_PREROUTING && pkt->hook != NSGATE_HOOK_POSTROUTING)
		return false;
	pkt_reverse(&original, pkt);
	return !is_policed(judge, original.direction);
}

/* Nobody knows which way the packet goes: would it be accepted if it went the other way? */
static __attribute__((noinline)) bool might_go_back(struct judge_policy *judge,
						    struct judge_packet *packet)
{
	if (!meanings[packet->flow].is_unsure && !is_midstream(packet))
		return false;
	if (packet->flow != NSGATE_FLOW_UNTRACKED && may_pass_through(judge, &packet->pkt))
		return false;
	return may_be_answer(&packet->pkt) && answers_accepted(judge, packet);
}

static bool is_taken_as_it_is(const struct judge_policy *judge, const struct judge_packet *packet)
{
	return policy_info(judge->policy)->strict && packet->pkt.direction == PKT_DIRECTION_OUT;
}

static bool may_go_back(struct judge_policy *judge, struct judge_packet *packet)
{
	if (packet->flow == NSGATE_FLOW_REPLY_UNSURE) /* conntrack had it before the rules came */
		return answers_accepted(judge, packet);
	return !is_taken_as_it_is(judge, packet) && might_go_back(judge, packet);
}

/* ---- both ends ---- */

/*
 * Is one end of the packet's connection here? Who sends it has one. For what comes by a link the
 * kernel looks up the connection's socket before the hook in, so that it has an owner; over the
 * loopback it does not, but then the other end is here. What is forwarded has no end here.
 */
static bool has_an_end_here(const struct judge_packet *packet)
{
	if (packet->pkt.hook == NSGATE_HOOK_IN)
		return packet->from_loopback || packet->pkt.have & PKT_HAVE_UID;
	return packet->pkt.hook == NSGATE_HOOK_OUT;
}

/*
 * Is the packet one of a TCP connection at work, whose other end may be told that it is over? A raw
 * socket's is not, where the policy is against such. Over the loopback that is told by a packet
 * which `in` has to see as well: else the rules would take it for accepted.
 */
static bool is_midway(const struct judge_policy *judge, const struct judge_packet *packet)
{
	const struct pkt *pkt = &packet->pkt;

	if (!(pkt->have & PKT_HAVE_TCP_FLAGS) || pkt->tcp_flags & TCP_FLAG_SYN ||
	    pkt->have & PKT_HAVE_FRAGMENT)
		return false;
	if (is_taken_as_it_is(judge, packet) && !packet->is_transports)
		return false;
	if (packet->to_loopback && !is_policed(judge, PKT_DIRECTION_IN))
		return false;
	return meanings[packet->flow].both_spoke ||
	       (packet->flow == NSGATE_FLOW_NEW && has_an_end_here(packet));
}

/* ---- deciding ---- */

static bool is_accepting(const struct policy_decision *decision)
{
	return decision->verdict == POLICY_VERDICT_ACCEPT ||
	       decision->verdict == POLICY_VERDICT_QUEUE;
}

/*
 * A flow is accepted by its first packet, and whoever asks for that one's state ("new", "related")
 * means the flow. So a further one of a flow that is known is not denied for having another.
 */
static void decide(struct judge_policy *judge, struct judge_packet *packet,
		   struct policy_decision *ret)
{
	policy_decide(judge->policy, &judge->state, &packet->pkt, ret);
	if (packet->flow != NSGATE_FLOW_KNOWN || is_accepting(ret))
		return;
	packet->pkt.ct |= PKT_CT_NEW | PKT_CT_RELATED;
	if (judge->names && !(packet->pkt.have & PKT_HAVE_DOMAIN)) { /* it had to make room */
		packet->pkt.have |= PKT_HAVE_DOMAIN;
		packet->pkt.domains = UINT64_MAX;
	}
	policy_decide(judge->policy, &judge->state, &packet->pkt, ret);
}

static void judge_by_policy(struct judge_policy *judge, struct judge_packet *packet,
			    struct judge_result *ret)
{
	struct policy_decision *decision = &ret->decision;

	decide(judge, packet, decision);
	if (!is_accepting(decision) && packet->pkt.query == PKT_QUERY_NONE &&
	    may_go_back(judge, packet)) {
		ret->reason = JUDGE_REASON_REPLY;
		accept_flow(judge, packet, packet->pkt.mark, ret);
		return;
	}
	/* It may be of a connection that is alive and allowed, which a reset would end. */
	if (decision->verdict == POLICY_VERDICT_REJECT && is_taken_as_it_is(judge, packet) &&
	    might_go_back(judge, packet))
		decision->verdict = POLICY_VERDICT_DROP;
	conclude(judge, packet, ret);
	ret->is_midway = ret->verdict == JUDGE_VERDICT_REJECT && is_midway(judge, packet);
}

static void judge_known(struct judge_policy *judge, struct judge_packet *packet,
			struct judge_result *ret)
{
	if (meanings[packet->flow].is_known || is_rejection(packet) ||
	    (meanings[packet->flow].is_reply && answers_accepted(judge, packet)))
		accept_as_is(packet, ret, JUDGE_REASON_REPLY);
	else
		judge_by_policy(judge, packet, ret);
}

/* ---- where the policy asks for names ---- */

static bool passes(const struct judge_result *result)
{
	return result->verdict == JUDGE_VERDICT_ACCEPT || result->verdict == JUDGE_VERDICT_QUEUE;
}

/*
 * Tell who asked. In the hook out a query is turned into its answer; but not one that somebody
 * redirects, as the answer would be redirected as well.
 */
static void refuse(struct judge_policy *judge, const struct judge_packet *packet,
		   struct judge_result *ret)
{
	const struct pkt *pkt = &packet->pkt;

	gate_refused(judge);
	if (ret->verdict != JUDGE_VERDICT_REJECT)
		return;
	if (policy_info(judge->policy)->names->refuse == POLICY_REFUSE_DROP)
		ret->verdict = JUDGE_VERDICT_DROP;
	else if (judge->turns && pkt->hook == NSGATE_HOOK_OUT && gate_is_datagram(packet))
		ret->verdict = JUDGE_VERDICT_TURN;
}

/* Each query of the packet is judged, and all have to be accepted. */
static void judge_queries(struct judge_policy *judge, struct judge_packet *packet,
			  struct judge_result *ret)
{
	struct gate_queries queries;

	switch (gate_open(judge, packet, &queries)) {
	case GATE_QUERIES_STRAY:
		drop(ret, JUDGE_REASON_NAMES);
		return;
	case GATE_QUERIES_NONE:
		judge_known(judge, packet, ret);
		return;
	case GATE_QUERIES_SOME:
	default:
		break;
	}
	while (gate_next(judge, packet, &queries)) {
		judge_known(judge, packet, ret);
		if (!passes(ret)) {
			refuse(judge, packet, ret);
			return;
		}
		gate_accepted(judge, packet, &queries);
	}
	gate_close(judge, &queries);
}

static __attribute__((noinline)) void
judge_names(struct judge_policy *judge, struct judge_packet *packet, struct judge_result *ret)
{
	if (gate_is_turned(judge, packet, &ret->mark)) {
		ret->verdict = JUDGE_VERDICT_ACCEPT;
		ret->reason = JUDGE_REASON_NAMES;
		return;
	}
	gate_look_up(judge, packet, &packet->pkt);
	switch (gate_kind(judge, packet)) {
	case GATE_KIND_QUERY:
		judge_queries(judge, packet, ret);
		return;
	case GATE_KIND_ANSWER:
		switch (gate_answer(judge, packet)) {
		case GATE_ANSWER_PASS:
			accept_as_is(packet, ret, JUDGE_REASON_REPLY);
			return;
		case GATE_ANSWER_DROP:
			drop(ret, JUDGE_REASON_NAMES);
			return;
		case GATE_ANSWER_UNKNOWN:
		default:
			break;
		}
		break;
	case GATE_KIND_OTHER:
	default:
		break;
	}
	judge_known(judge, packet, ret);
}

void judge_packet(struct judge_policy *judge, struct judge_packet *packet, struct judge_result *ret)
{
	ret->remember = false;
	ret->is_midway = false;
	if (!read_packet(packet))
		drop(ret, JUDGE_REASON_MALFORMED);
	else if (is_stray_loopback(packet))
		drop(ret, JUDGE_REASON_LOOPBACK);
	else if (!judge->policy && !judge->accept_without_policy)
		drop(ret, JUDGE_REASON_NO_POLICY);
	else if (!judge->policy)
		accept_as_is(packet, ret, JUDGE_REASON_NO_POLICY);
	else if (judge->names)
		judge_names(judge, packet, ret);
	else
		judge_known(judge, packet, ret);
}
