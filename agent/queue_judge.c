/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a message of the queue to a verdict: what the mark says of the flow, what the headers say
 * of the packet, what the policy says of both. See nsgate/mark.h for the marks.
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
#include "nsgate/mark.h"
#include "pkt.h"
#include "queue_internal.h"

#define IPV6_HEADER_BYTES 40 /* RFC 8200 3 */

struct judgement {
	struct queue *queue;
	struct queue_buffers *buffers;
	const struct nfq_packet *in;
	struct queue_verdict *out;
	struct pkt pkt;
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
static int describe(const struct queue *queue, const struct nfq_packet *in, struct pkt *ret)
{
	if (in->hook >= NSGATE_HOOK_MAX)
		return -EBADMSG;
	*ret = (struct pkt){
		.mark = in->mark & ~NSGATE_MARK_MASK,
		.uid = in->uid,
		.gid = in->gid,
		.length = in->length,
		.iif_bits = link_bits(queue, in->iif),
		.oif_bits = link_bits(queue, in->oif),
		.hook = in->hook,
		.direction = hook_direction[in->hook],
		.ct = (in->mark & NSGATE_MARK_NEW ? PKT_CT_NEW : 0) |
		      (in->mark & NSGATE_MARK_REPLY ? PKT_CT_REPLY : 0),
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
}

/*
 * Accept, with `mark` as the lower 24 bits and `answer` (NSGATE_MARK_*) for the settle chain.
 * That chain clears the kernel's own bits, so a mark that would not change need not be sent;
 * bits of the answer that came in, which no rule of ours sets, must not pass for ours, and
 * NSGATE_MARK_UNJUDGED is to go.
 */
static void accept_with(struct judgement *j, uint32_t mark, uint32_t answer)
{
	const uint32_t answers = NSGATE_MARK_REMEMBER | NSGATE_MARK_REJECT | NSGATE_MARK_UNJUDGED;
	const uint32_t wanted = (mark & ~NSGATE_MARK_MASK) | answer;

	j->out->verdict = NF_ACCEPT;
	j->out->set_mark = answer || mark != j->pkt.mark || (j->in->mark & answers);
	j->out->mark = j->out->set_mark ? wanted : 0;
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
 * A flow is noted by the direction that its first packet was accepted in, so only a packet of the
 * original direction may note it. What an audit let pass is noted too: its answers must pass, and
 * without offload each of its packets is still judged, hence counted.
 */
static bool may_remember(const struct judgement *j)
{
	return !(j->in->mark & (NSGATE_MARK_REPLY | NSGATE_MARK_KNOWN));
}

/*
 * May the kernel drop the rest of the flow without asking? It finds a flow by the addresses,
 * protocol and ports that the policy saw; so there must be some, and no header in between that one
 * might read in another way. A packet with such a mark below our byte has been round already,
 * by rules that do not know that answer.
 */
static bool may_note_denied(const struct judgement *j, const struct policy_decision *decision)
{
	const uint16_t ports = PKT_HAVE_PORTS | PKT_HAVE_FRAGMENT;
	const uint32_t hooks = NSGATE_HOOK_BIT(NSGATE_HOOK_IN) | NSGATE_HOOK_BIT(NSGATE_HOOK_OUT) |
			       NSGATE_HOOK_BIT(NSGATE_HOOK_FORWARD);

	return j->queue->notes_denied && NSGATE_HOOK_BIT(j->in->hook) & hooks &&
	       (j->pkt.have & ports) == PKT_HAVE_PORTS &&
	       (j->pkt.family == AF_INET || j->pkt.l4_offset == IPV6_HEADER_BYTES) &&
	       j->pkt.mark != (NSGATE_MARK_DENIED & ~NSGATE_MARK_MASK) && may_remember(j) &&
	       policy_decides_flow(j->queue->policy, &j->pkt, decision);
}

static void drop_decided(struct judgement *j, const struct policy_decision *decision)
{
	drop(j);
	if (may_note_denied(j, decision))
		*j->out = (struct queue_verdict){
			.verdict = NF_REPEAT, .set_mark = true, .mark = NSGATE_MARK_DENIED};
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

	if (in->caplen < in->length || in->caplen > QUEUE_COPY_MAX || in->skbinfo & NFQA_SKB_GSO)
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
	accept_with(j, decision->mark, may_remember(j) ? NSGATE_MARK_REMEMBER : 0);
	if ((decision->set_ttl >= 0 || decision->set_dscp >= 0) && rewrite(j, decision) < 0)
		drop_malformed(j);
	else
		count_fate(j, SHM_FATE_ACCEPTED);
}

static void hand_on(struct judgement *j, const struct policy_decision *decision)
{
	j->out->verdict = NF_QUEUE | (uint32_t)decision->queue << NF_VERDICT_QBITS;
	j->out->mark = decision->mark & ~NSGATE_MARK_MASK;
	j->out->set_mark = j->out->mark != j->in->mark;
	count_fate(j, SHM_FATE_QUEUED_ELSEWHERE);
}

static void carry_out(struct judgement *j, const struct policy_decision *decision)
{
	switch (decision->verdict) {
	case POLICY_VERDICT_ACCEPT:
		accept_decided(j, decision);
		break;
	case POLICY_VERDICT_REJECT:
		accept_with(j, decision->mark, NSGATE_MARK_REJECT);
		count_fate(j, SHM_FATE_REJECTED);
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
	accept_with(j, j->pkt.mark, 0);
	count_fate(j, SHM_FATE_ACCEPTED);
}

/*
 * A reply in a flow that an earlier policy accepted: does the one in force accept the packet that
 * it answers? Asked anew for every reply until a packet of the original direction comes by.
 */
static bool answers_accepted(const struct judgement *j)
{
	struct policy_decision decision;
	struct pkt original;

	pkt_reverse(&original, &j->pkt);
	policy_decide(j->queue->policy, &j->queue->state, &original, &decision);
	return decision.verdict == POLICY_VERDICT_ACCEPT && !decision.would_drop;
}

static void judge_by_policy(struct judgement *j)
{
	struct counters *counters = &j->buffers->counters;
	struct policy_decision decision;

	policy_decide(j->queue->policy, &j->queue->state, &j->pkt, &decision);
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
	accept_with(j, j->pkt.mark, 0);
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

void queue_judge(struct queue *queue, struct queue_buffers *buffers, const struct nfq_packet *in,
		 struct queue_verdict *ret)
{
	const uint32_t known_reply = NSGATE_MARK_KNOWN | NSGATE_MARK_REPLY;
	const uint32_t stale_reply = NSGATE_MARK_STALE | NSGATE_MARK_REPLY;
	struct judgement j;

	j.queue = queue;
	j.buffers = buffers;
	j.in = in;
	j.out = ret;
	*ret = (struct queue_verdict){.verdict = NF_DROP};

	if (describe(queue, in, &j.pkt) < 0) {
		count_unparsed(&j);
		drop_malformed(&j);
		return;
	}
	count_parsed(&j);
	if (!queue->policy)
		judge_without_policy(&j);
	else if ((in->mark & known_reply) == known_reply)
		accept_reply(&j);
	else if ((in->mark & stale_reply) == stale_reply && answers_accepted(&j))
		accept_reply(&j);
	else
		judge_by_policy(&j);
}
