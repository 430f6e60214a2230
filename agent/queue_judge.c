/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * From a message of the queue to a verdict: what the queue's number says of the flow
 * (nsgate/flow.h), what the headers say of the packet, what the policy says of both.
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
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "event.h"
#include "mangle.h"
#include "nsgate/hook.h"
#include "nsgate/flow.h"
#include "pkt.h"
#include "queue_internal.h"

#define IPV6_HEADER_BYTES 40 /* RFC 8200 3 */
#define IPV4_LOOPBACK_NET 127
#define TCP_FLAG_SYN 0x02

/* Where local ports of connections begin: net.ipv4.ip_local_port_range, as the kernel has it. */
#define EPHEMERAL_FIRST 32768

struct judgement {
	struct queue *queue;
	struct queue_buffers *buffers;
	const struct nfq_packet *in;
	struct queue_verdict *out;
	enum nsgate_flow flow;
	struct pkt pkt;
};

/* What the number says to the policy, and to us. */
static const struct flow_meaning {
	uint8_t ct;	   /* enum pkt_ct */
	bool is_original;  /* a packet that may note its flow as accepted, or as denied */
	bool is_known;	   /* accepted already: no rule is asked */
	bool is_reply;	   /* pass if what it answers would be accepted now */
	bool is_unsure;	   /* its direction is not known */
	bool never_reject; /* it may belong to a connection that is alive and allowed */
} meanings[NSGATE_FLOW_MAX] = {
	[NSGATE_FLOW_NEW] = {.ct = PKT_CT_NEW, .is_original = true},
	[NSGATE_FLOW_ORIGINAL] = {.ct = PKT_CT_ESTABLISHED, .is_original = true},
	[NSGATE_FLOW_KNOWN] = {.ct = PKT_CT_ESTABLISHED},
	[NSGATE_FLOW_UNSURE] = {.ct = PKT_CT_ESTABLISHED, .is_original = true, .is_unsure = true},
	[NSGATE_FLOW_REPLY] = {.ct = PKT_CT_ESTABLISHED | PKT_CT_REPLY},
	[NSGATE_FLOW_REPLY_KNOWN] = {.ct = PKT_CT_ESTABLISHED | PKT_CT_REPLY, .is_known = true},
	[NSGATE_FLOW_REPLY_STALE] = {.ct = PKT_CT_ESTABLISHED | PKT_CT_REPLY, .is_reply = true},
	[NSGATE_FLOW_REPLY_UNSURE] = {.ct = PKT_CT_ESTABLISHED | PKT_CT_REPLY, .is_unsure = true},
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

static_assert((int)PKT_DIRECTION_IN == SHM_DIRECTION_IN &&
		      (int)PKT_DIRECTION_OUT == SHM_DIRECTION_OUT &&
		      (int)PKT_DIRECTION_FORWARD == SHM_DIRECTION_FORWARD,
	      "directions index their counters");

/* ---- the packet ---- */

static uint64_t link_bits(const struct queue *queue, uint32_t ifindex)
{
	uint32_t low = 0, high = queue->link_count;

	if (ifindex == 0)
		return 0;
	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;

		if (queue->links[middle].ifindex < ifindex)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == queue->link_count || queue->links[low].ifindex != ifindex)
		return 0;
	return queue->links[low].bits;
}

/* Return: 0, or -EBADMSG where the packet is nothing that a policy can judge. */
static int describe(const struct queue *queue, enum nsgate_flow flow, const struct nfq_packet *in,
		    struct pkt *ret)
{
	if (in->hook >= NSGATE_HOOK_MAX)
		return -EBADMSG;
	*ret = (struct pkt){
		.mark = in->mark,
		.uid = in->uid,
		.gid = in->gid,
		.length = in->length,
		.iif_bits = link_bits(queue, in->iif),
		.oif_bits = link_bits(queue, in->oif),
		.hook = in->hook,
		.direction = hook_direction[in->hook],
		.ct = meanings[flow].ct,
		.have = (in->has_mac ? PKT_HAVE_MAC : 0) | (in->has_uid ? PKT_HAVE_UID : 0) |
			(in->has_gid ? PKT_HAVE_GID : 0),
	};
	memcpy(ret->src_mac, in->mac, sizeof(ret->src_mac));
	if (!in->data)
		return -EBADMSG;
	return pkt_parse(ret, in->data, in->caplen, in->length);
}

/* ---- the verdict ---- */

static void count_fate(struct judgement *j, enum shm_fate fate)
{
	counters_add(&j->buffers->counters.fate[fate], j->in->length);
#ifdef NSGATE_TEST_GROWN
	j->buffers->counters.grown++;
#endif
}

/* Accept, with that mark; one that does not change is not sent, as the kernel would route anew. */
static void accept_with(struct judgement *j, uint32_t mark)
{
	j->out->verdict = NF_ACCEPT;
	j->out->set_mark = mark != j->in->mark;
	j->out->mark = j->out->set_mark ? mark : 0;
}

static void drop(struct judgement *j)
{
	*j->out = (struct queue_verdict){.verdict = NF_DROP};
	count_fate(j, SHM_FATE_DROPPED);
}

static void drop_malformed(struct judgement *j)
{
	j->buffers->counters.malformed++;
	drop(j);
}

/*
 * Accept a packet whose flow may be noted. The rules note what they see go by; where they do not,
 * they have to be told, by a mark in the place of none.
 */
static void accept_flow(struct judgement *j, uint32_t mark)
{
	accept_with(j, mark);
	if (!j->queue->selective || !meanings[j->flow].is_original || mark != 0)
		return;
	j->out->set_mark = true;
	j->out->mark = j->queue->answers[NSGATE_ANSWER_REMEMBER];
}

/*
 * Send a packet round, for the rules to do that with it. One that has such a mark has been round:
 * there are no rules that know it, and it is dropped.
 */
static void send_round(struct judgement *j, enum nsgate_answer answer)
{
	const uint32_t mark = j->queue->answers[answer];

	*j->out = (struct queue_verdict){.verdict = NF_DROP};
	if (j->in->mark != mark)
		*j->out = (struct queue_verdict){
			.verdict = NF_REPEAT, .set_mark = true, .mark = mark};
}

/*
 * May the kernel drop the rest of the flow without asking? It finds a flow by the addresses,
 * protocol and ports that the policy saw; so there must be some, and no header in between that one
 * might read in another way.
 */
static bool may_note_denied(const struct judgement *j, const struct policy_decision *decision)
{
	const uint16_t ports = PKT_HAVE_PORTS | PKT_HAVE_FRAGMENT;
	const uint32_t hooks = NSGATE_HOOK_BIT(NSGATE_HOOK_IN) | NSGATE_HOOK_BIT(NSGATE_HOOK_OUT) |
			       NSGATE_HOOK_BIT(NSGATE_HOOK_FORWARD);

	return j->queue->notes_denied && NSGATE_HOOK_BIT(j->in->hook) & hooks &&
	       (j->pkt.have & ports) == PKT_HAVE_PORTS &&
	       (j->pkt.family == AF_INET || j->pkt.l4_offset == IPV6_HEADER_BYTES) &&
	       meanings[j->flow].is_original && !meanings[j->flow].is_unsure &&
	       policy_decides_flow(j->queue->policy, &j->pkt, decision);
}

static void drop_decided(struct judgement *j, const struct policy_decision *decision)
{
	drop(j);
	if (may_note_denied(j, decision))
		send_round(j, NSGATE_ANSWER_DENY);
}

static void reject(struct judgement *j)
{
	if (meanings[j->flow].never_reject) {
		drop(j);
		return;
	}
	send_round(j, NSGATE_ANSWER_REJECT);
	count_fate(j, SHM_FATE_REJECTED);
}

/* Return: 0 or -errno where the packet cannot be rewritten (only a whole one can). */
static int rewrite(struct judgement *j, const struct policy_decision *decision)
{
	const struct nfq_packet *in = j->in;
	const struct mangle mangle = {
		.ttl = decision->set_ttl,
		.dscp = decision->set_dscp,
		.fill_checksum = in->skbinfo & NFQA_SKB_CSUMNOTREADY,
	};
	int err;

	/* A verdict cannot carry it: only the loopback has such, whose peer is here as well. */
	if (in->length > QUEUE_COPY_MAX)
		return 0;
	if (in->caplen < in->length || in->skbinfo & NFQA_SKB_GSO)
		return -EMSGSIZE;
	memcpy(j->buffers->rewritten, in->data, in->caplen);
	err = mangle_packet(j->buffers->rewritten, in->caplen, &j->pkt, &mangle);
	if (err)
		return err;
	j->out->payload = j->buffers->rewritten;
	j->out->payload_length = in->caplen;
	return 0;
}

static void accept_decided(struct judgement *j, const struct policy_decision *decision)
{
	accept_flow(j, decision->mark);
	if ((decision->set_ttl >= 0 || decision->set_dscp >= 0) && rewrite(j, decision) < 0)
		drop_malformed(j);
	else
		count_fate(j, SHM_FATE_ACCEPTED);
	if (j->flow == NSGATE_FLOW_NEW && j->out->verdict == NF_ACCEPT)
		queue_clash_accept(j->queue, j->buffers, j->in, &j->pkt);
}

/* Somebody wants to know when nobody serves a queue, and when somebody does again. */
static void note_served(struct judgement *j, uint16_t number, bool is_served)
{
	struct queue *queue = j->queue;
	uint32_t unserved = queue->unserved;

	if (!is_served)
		unserved = number + 1U;
	else if (unserved == number + 1U)
		unserved = 0;
	if (unserved == queue->unserved)
		return;
	__atomic_store_n(&queue->unserved, unserved, __ATOMIC_RELAXED);
	if (queue->events)
		event_ring_poke(queue->events);
}

static void find_nobody(struct judgement *j, const struct policy_decision *decision, bool open)
{
	j->buffers->counters.unserved++;
	if (!open) {
		drop(j);
		return;
	}
	/* The flow is not noted: its next packet may be served. */
	accept_with(j, decision->mark);
	count_fate(j, SHM_FATE_ACCEPTED);
}

static void hand_on(struct judgement *j, const struct policy_decision *decision)
{
	const struct policy_rule_info *rule = &policy_info(j->queue->policy)->rules[decision->rule];
	const bool is_served = consumer_is_there(j->queue->consumers, j->queue->proc_fd,
						 decision->queue, j->queue->state.now_ns);

	note_served(j, decision->queue, is_served);
	if (!is_served) {
		find_nobody(j, decision, rule->queue_open);
		return;
	}
	j->out->verdict = NF_QUEUE | (uint32_t)decision->queue << NF_VERDICT_QBITS;
	if (rule->queue_open)
		j->out->verdict |= NF_VERDICT_FLAG_QUEUE_BYPASS;
	j->out->set_mark = decision->mark != j->in->mark;
	j->out->mark = j->out->set_mark ? decision->mark : 0;
	count_fate(j, SHM_FATE_QUEUED_ELSEWHERE);
}

static void carry_out(struct judgement *j, const struct policy_decision *decision)
{
	switch (decision->verdict) {
	case POLICY_VERDICT_ACCEPT:
		accept_decided(j, decision);
		break;
	case POLICY_VERDICT_REJECT:
		reject(j);
		break;
	case POLICY_VERDICT_QUEUE:
		hand_on(j, decision);
		break;
	case POLICY_VERDICT_DROP:
	case POLICY_VERDICT_MAX:
	default:
		drop_decided(j, decision);
		break;
	}
}

/* ---- deciding ---- */

static void log_decision(const struct judgement *j, const struct policy_decision *decision)
{
	const struct pkt *pkt = &j->pkt;
	struct event event = {
		.cookie = j->queue->cookie,
		.generation = j->queue->generation,
		.length = pkt->length,
		.verdict = (uint8_t)decision->verdict,
		.would_drop = decision->would_drop,
		.family = pkt->family,
		.protocol = pkt->protocol,
		.direction = pkt->direction,
		.icmp_type = pkt->icmp_type,
		.icmp_code = pkt->icmp_code,
		.has_ports = pkt->have & PKT_HAVE_PORTS,
		.sport = pkt->sport,
		.dport = pkt->dport,
		.src = pkt->src,
		.dst = pkt->dst,
	};

	if (!j->queue->events)
		return;
	event.time_ns = clock_ns(CLOCK_REALTIME);
	for (uint32_t i = 0; i < decision->log_count; i++) {
		if (i == POLICY_LOGS_MAX) {
			event_ring_lose(j->queue->events, decision->log_count - i);
			break;
		}
		event.rule = decision->log_rules[i];
		event_ring_put(j->queue->events, &event);
	}
}

static void accept_reply(struct judgement *j)
{
	counters_add(&j->buffers->counters.replies, j->in->length);
	accept_with(j, j->in->mark);
	count_fate(j, SHM_FATE_ACCEPTED);
}

static bool is_policed(const struct judgement *j, uint8_t direction)
{
	static const uint32_t hooks[PKT_DIRECTION_MAX] = {
		[PKT_DIRECTION_IN] =
			NSGATE_HOOK_BIT(NSGATE_HOOK_IN) | NSGATE_HOOK_BIT(NSGATE_HOOK_PREROUTING),
		[PKT_DIRECTION_OUT] =
			NSGATE_HOOK_BIT(NSGATE_HOOK_OUT) | NSGATE_HOOK_BIT(NSGATE_HOOK_POSTROUTING),
		[PKT_DIRECTION_FORWARD] = NSGATE_HOOK_BIT(NSGATE_HOOK_FORWARD),
	};

	return policy_info(j->queue->policy)->hooks & hooks[direction];
}

/*
 * Does the policy accept the packet that this one would answer? What it hands to another program
 * counts as accepted, as the flow went on. Asked anew for every such packet.
 */
static bool answers_accepted(const struct judgement *j)
{
	struct policy_decision decision;
	struct pkt original;

	pkt_reverse(&original, &j->pkt);
	if (!is_policed(j, original.direction))
		return true;
	policy_decide(j->queue->policy, &j->queue->state, &original, &decision);
	return (decision.verdict == POLICY_VERDICT_ACCEPT && !decision.would_drop) ||
	       decision.verdict == POLICY_VERDICT_QUEUE;
}

/*
 * Can this end have been the server? Nobody connects from a port below those that are given out to
 * one of them.
 */
static bool may_be_answer(const struct judgement *j)
{
	return (j->pkt.have & (PKT_HAVE_PORTS | PKT_HAVE_FRAGMENT)) == PKT_HAVE_PORTS &&
	       !(j->pkt.sport >= EPHEMERAL_FIRST && j->pkt.dport < EPHEMERAL_FIRST);
}

/* Of a connection that was there before, or that conntrack lost: to it such are new or invalid. */
static bool is_midstream(const struct judgement *j)
{
	return (j->flow == NSGATE_FLOW_NEW || j->flow == NSGATE_FLOW_INVALID) &&
	       j->pkt.have & PKT_HAVE_TCP_FLAGS && !(j->pkt.tcp_flags & TCP_FLAG_SYN);
}

/*
 * Is the packet's other direction one that the policy leaves alone, and may the packet be one that
 * is forwarded? Whoever sends such a one would need no more than to leave out the SYN.
 */
static bool may_pass_through(const struct judgement *j)
{
	struct pkt original;

	if (j->in->hook != NSGATE_HOOK_PREROUTING && j->in->hook != NSGATE_HOOK_POSTROUTING)
		return false;
	pkt_reverse(&original, &j->pkt);
	return !is_policed(j, original.direction);
}

/* Nobody knows which way the packet goes: would it be accepted if it went the other way? */
static bool might_go_back(const struct judgement *j)
{
	if (!meanings[j->flow].is_unsure && !is_midstream(j))
		return false;
	if (j->flow != NSGATE_FLOW_UNTRACKED && may_pass_through(j))
		return false;
	return may_be_answer(j) && answers_accepted(j);
}

static bool is_taken_as_it_is(const struct judgement *j)
{
	return policy_info(j->queue->policy)->strict && j->pkt.direction == PKT_DIRECTION_OUT;
}

static bool may_go_back(const struct judgement *j)
{
	if (j->flow == NSGATE_FLOW_REPLY_UNSURE) /* conntrack knew it before the rules came */
		return answers_accepted(j);
	return !is_taken_as_it_is(j) && might_go_back(j);
}

static bool is_accepting(const struct policy_decision *decision)
{
	return decision->verdict == POLICY_VERDICT_ACCEPT ||
	       decision->verdict == POLICY_VERDICT_QUEUE;
}

/*
 * A flow is accepted by its first packet, and whoever asks for that one's state ("new", "related")
 * means the flow. So a further one of a flow that is known is not denied for having another.
 */
static void decide(struct judgement *j, struct policy_decision *ret)
{
	policy_decide(j->queue->policy, &j->queue->state, &j->pkt, ret);
	if (j->flow != NSGATE_FLOW_KNOWN || is_accepting(ret))
		return;
	j->pkt.ct |= PKT_CT_NEW | PKT_CT_RELATED;
	policy_decide(j->queue->policy, &j->queue->state, &j->pkt, ret);
}

static void judge_by_policy(struct judgement *j)
{
	struct counters *counters = &j->buffers->counters;
	struct policy_decision decision;

	decide(j, &decision);
	if (!is_accepting(&decision) && may_go_back(j)) {
		counters_add(&counters->replies, j->in->length);
		accept_flow(j, j->in->mark);
		count_fate(j, SHM_FATE_ACCEPTED);
		return;
	}
	/* It may be of a connection that is alive and allowed, which a reset would end. */
	if (decision.verdict == POLICY_VERDICT_REJECT && is_taken_as_it_is(j) && might_go_back(j))
		decision.verdict = POLICY_VERDICT_DROP;
	if (decision.rule == POLICY_RULE_DEFAULT)
		counters_add(&counters->fallback, j->in->length);
	counters->would_drop += decision.would_drop;
	counters->repeated += decision.repeated;
	carry_out(j, &decision);
	if (decision.log_count)
		log_decision(j, &decision);
}

static void judge_without_policy(struct judgement *j)
{
	counters_add(&j->buffers->counters.no_policy, j->in->length);
	if (!j->queue->accept_without_policy) {
		drop(j);
		return;
	}
	accept_with(j, j->in->mark);
	count_fate(j, SHM_FATE_ACCEPTED);
}

static void count_parsed(struct judgement *j)
{
	struct counters *counters = &j->buffers->counters;

	counters_add(&counters->direction[j->pkt.direction], j->in->length);
	counters->protocol[counters_protocol(j->pkt.protocol)]++;
}

static void count_unparsed(struct judgement *j)
{
	struct counters *counters = &j->buffers->counters;

	if (j->in->hook < NSGATE_HOOK_MAX)
		counters_add(&counters->direction[hook_direction[j->in->hook]], j->in->length);
	counters->protocol[SHM_PROTO_OTHER]++;
}

/*
 * Addresses of the loopback leave by no other link, whatever the policy says of them: a socket that
 * is bound to a link takes them there.
 */
static bool is_stray_loopback(const struct judgement *j)
{
	static const struct pkt_addr ipv6_loopback = {.bytes = {[15] = 1}};

	if (j->pkt.direction != PKT_DIRECTION_OUT || j->in->oif == NSGATE_LOOPBACK_INDEX)
		return false;
	if (j->pkt.family == AF_INET)
		return j->pkt.dst.bytes[0] == IPV4_LOOPBACK_NET;
	return memcmp(&j->pkt.dst, &ipv6_loopback, sizeof(ipv6_loopback)) == 0;
}

void queue_judge(struct queue *queue, struct queue_buffers *buffers, enum nsgate_flow flow,
		 const struct nfq_packet *in, struct queue_verdict *ret)
{
	struct judgement j;

	j.queue = queue;
	j.buffers = buffers;
	j.in = in;
	j.out = ret;
	j.flow = flow;
	*ret = (struct queue_verdict){.verdict = NF_DROP};

	if (describe(queue, flow, in, &j.pkt) < 0) {
		count_unparsed(&j);
		drop_malformed(&j);
		return;
	}
	count_parsed(&j);
	if (is_stray_loopback(&j))
		drop(&j);
	else if (!queue->policy)
		judge_without_policy(&j);
	else if (meanings[flow].is_known)
		accept_reply(&j);
	else if (meanings[flow].is_reply && answers_accepted(&j))
		accept_reply(&j);
	else
		judge_by_policy(&j);
}
