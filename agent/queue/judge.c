/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * From a message of the queue to a verdict. lib/judge.c says what is to become of the packet; here
 * it is told what it has to know, and what it says is put into the kernel's words, counted, and
 * logged.
 *
 * Two answers go round the hook, with a mark by which the rules know what to do: to reject, and to
 * note a denial. Two things come in between where the kernel has its part in them: nobody may be
 * serving the queue that a packet is handed to, and a packet may not be there to be rewritten.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <string.h>

#include "clock.h"
#include "agent/event.h"
#include "judge.h"
#include "names/gate.h"
#include "agent/queue/mangle.h"
#include "nsgate/hook.h"
#include "nsgate/flow.h"
#include "agent/queue/internal.h"

struct judgement {
	struct queue *queue;
	struct queue_buffers *buffers;
	const struct nfq_packet *in;
	struct queue_verdict *out;
	struct judge_packet packet;
	struct judge_result result;
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

static void describe(const struct queue *queue, enum nsgate_flow flow, const struct nfq_packet *in,
		     struct judge_packet *ret)
{
	ret->flow = flow;
	ret->to_loopback = in->oif == NSGATE_LOOPBACK_INDEX;
	ret->from_loopback = in->iif == NSGATE_LOOPBACK_INDEX;
	ret->is_transports = in->skbinfo & NFQA_SKB_CSUMNOTREADY;
	ret->is_gso = in->skbinfo & NFQA_SKB_GSO;
	ret->iif = in->iif;
	ret->oif = in->oif;
	ret->data = in->data;
	ret->caplen = in->caplen;
	ret->pkt = (struct pkt){
		.mark = in->mark,
		.uid = in->uid,
		.gid = in->gid,
		.length = in->length,
		.iif_bits = link_bits(queue, in->iif),
		.oif_bits = link_bits(queue, in->oif),
		.hook = in->hook,
		.have = (in->has_mac ? PKT_HAVE_MAC : 0) | (in->has_uid ? PKT_HAVE_UID : 0) |
			(in->has_gid ? PKT_HAVE_GID : 0),
	};
	memcpy(ret->pkt.src_mac, in->mac, sizeof(ret->pkt.src_mac));
}

/* ---- the verdict ---- */

static void count_fate(struct judgement *j, enum shm_fate fate)
{
	counters_add(&j->buffers->counters.fate[fate], j->in->length);
#ifdef NSGATE_TEST_GROWN
	j->buffers->counters.grown++;
#endif
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

/* A mark that does not change is not sent, as the kernel would route anew. */
static void let_go(struct judgement *j, uint32_t verdict)
{
	const uint32_t mark = j->result.mark;

	j->out->verdict = verdict;
	j->out->set_mark = mark != j->in->mark;
	j->out->mark = j->out->set_mark ? mark : 0;
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

static void reject(struct judgement *j)
{
	const bool went_round = j->in->mark == j->queue->answers[NSGATE_ANSWER_REJECT];

	if (j->result.is_midway && !went_round &&
	    queue_end_other(j->queue, j->buffers, j->packet.flow, j->in, &j->packet.pkt, j->out))
		return;
	send_round(j, NSGATE_ANSWER_REJECT);
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
	err = mangle_packet(j->buffers->rewritten, in->caplen, &j->packet.pkt, &mangle);
	if (err)
		return err;
	j->out->payload = j->buffers->rewritten;
	j->out->payload_length = in->caplen;
	return 0;
}

static void let_pass(struct judgement *j)
{
	let_go(j, NF_ACCEPT);
	if (j->result.remember) {
		j->out->set_mark = true;
		j->out->mark = j->queue->answers[NSGATE_ANSWER_REMEMBER];
	}
}

/* Packets that opened the same flow and waited together must not meet in the table of flows. */
static void resolve_clash(struct judgement *j)
{
	struct nfq_tuple flow;
	struct queue_clash *clash = queue_clash_find(j->queue, j->in, &j->packet.pkt, &flow);

	if (!clash)
		return;
	if (!clash->is_first)
		queue_forget(j->queue, j->buffers, &flow);
	queue_clash_accept(j->queue, clash);
}

static void accept_by_policy(struct judgement *j)
{
	const struct policy_decision *decision = &j->result.decision;

	if ((decision->set_ttl >= 0 || decision->set_dscp >= 0) && rewrite(j, decision) < 0) {
		drop_malformed(j);
		return;
	}
	count_fate(j, SHM_FATE_ACCEPTED);
	if (j->packet.flow == NSGATE_FLOW_NEW && j->packet.pkt.have & PKT_HAVE_ICMP)
		resolve_clash(j);
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

static void find_nobody(struct judgement *j, bool open)
{
	j->buffers->counters.unserved++;
	if (!open) {
		drop(j);
		return;
	}
	/* The flow is not noted: its next packet may be served. */
	let_go(j, NF_ACCEPT);
	count_fate(j, SHM_FATE_ACCEPTED);
}

static void hand_on(struct judgement *j)
{
	const struct policy_decision *decision = &j->result.decision;
	const struct policy_rule_info *rule =
		&policy_info(j->queue->in_force.policy)->rules[decision->rule];
	const bool is_served = consumer_is_there(j->queue->consumers, j->queue->proc_fd,
						 decision->queue, j->queue->in_force.state.now_ns);
	uint32_t verdict = NF_QUEUE | (uint32_t)decision->queue << NF_VERDICT_QBITS;

	note_served(j, decision->queue, is_served);
	if (!is_served) {
		find_nobody(j, rule->queue_open);
		return;
	}
	if (rule->queue_open)
		verdict |= NF_VERDICT_FLAG_QUEUE_BYPASS;
	let_go(j, verdict);
	count_fate(j, SHM_FATE_QUEUED_ELSEWHERE);
}

/*
 * The query goes round the hook as its own answer. The rules drop what is not for this namespace,
 * and the rest comes to be judged once more.
 */
static void turn_round(struct judgement *j)
{
	const size_t length = gate_turn(&j->queue->in_force, &j->packet, j->buffers->rewritten);

	if (length == 0) {
		drop(j);
		return;
	}
	send_round(j, NSGATE_ANSWER_TURNED);
	if (j->out->verdict == NF_REPEAT) {
		j->out->payload = j->buffers->rewritten;
		j->out->payload_length = length;
	}
	count_fate(j, SHM_FATE_REJECTED);
}

static void carry_out(struct judgement *j)
{
	switch (j->result.verdict) {
	case JUDGE_VERDICT_ACCEPT:
		let_pass(j);
		if (j->result.reason == JUDGE_REASON_POLICY)
			accept_by_policy(j);
		else
			count_fate(j, SHM_FATE_ACCEPTED);
		break;
	case JUDGE_VERDICT_DENY:
		drop(j);
		send_round(j, NSGATE_ANSWER_DENY);
		break;
	case JUDGE_VERDICT_REJECT:
		reject(j);
		count_fate(j, SHM_FATE_REJECTED);
		break;
	case JUDGE_VERDICT_TURN:
		turn_round(j);
		break;
	case JUDGE_VERDICT_QUEUE:
		hand_on(j);
		break;
	case JUDGE_VERDICT_DROP:
	case JUDGE_VERDICT_MAX:
	default:
		drop(j);
		break;
	}
}

/* ---- who decided ---- */

static void count_headers(struct judgement *j)
{
	struct counters *counters = &j->buffers->counters;
	const struct pkt *pkt = &j->packet.pkt;

	counters_add(&counters->direction[pkt->direction], j->in->length);
	counters->protocol[counters_protocol(pkt->protocol)]++;
}

static void count_malformed(struct judgement *j)
{
	struct counters *counters = &j->buffers->counters;

	counters->malformed++;
	if (j->in->hook < NSGATE_HOOK_MAX)
		counters_add(&counters->direction[j->packet.pkt.direction], j->in->length);
	counters->protocol[SHM_PROTO_OTHER]++;
}

static void count_decision(struct judgement *j)
{
	struct counters *counters = &j->buffers->counters;
	const struct policy_decision *decision = &j->result.decision;

	if (decision->rule == POLICY_RULE_DEFAULT)
		counters_add(&counters->fallback, j->in->length);
	counters->would_drop += decision->would_drop;
	counters->repeated += decision->repeated;
}

static void count_reason(struct judgement *j)
{
	struct counters *counters = &j->buffers->counters;

	if (j->result.reason == JUDGE_REASON_MALFORMED)
		count_malformed(j);
	else
		count_headers(j);
	if (j->result.reason == JUDGE_REASON_POLICY)
		count_decision(j);
	else if (j->result.reason == JUDGE_REASON_REPLY)
		counters_add(&counters->replies, j->in->length);
	else if (j->result.reason == JUDGE_REASON_NO_POLICY)
		counters_add(&counters->no_policy, j->in->length);
}

static void log_decision(const struct judgement *j)
{
	const struct policy_decision *decision = &j->result.decision;
	const struct pkt *pkt = &j->packet.pkt;
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

void queue_judge(struct queue *queue, struct queue_buffers *buffers, enum nsgate_flow flow,
		 const struct nfq_packet *in, struct queue_verdict *ret)
{
	struct judgement j;

	j.queue = queue;
	j.buffers = buffers;
	j.in = in;
	j.out = ret;
	*ret = (struct queue_verdict){.verdict = NF_DROP};

	describe(queue, flow, in, &j.packet);
	judge_packet(&queue->in_force, &j.packet, &j.result);
	count_reason(&j);
	carry_out(&j);
	if (j.result.reason == JUDGE_REASON_POLICY && j.result.decision.log_count)
		log_decision(&j);
}
