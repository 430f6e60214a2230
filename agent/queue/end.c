/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A connection that is rejected while it is at work ends at both ends. Rules can tell one of them,
 * whose segment it was, by `reject`. So the first such segment tells the other one: it goes on,
 * with nothing left of it but a reset (reset.h). Its sender is not answered and sends it again,
 * within a retransmission timeout; that one is rejected as any packet. An acknowledgement alone
 * would not be sent again: it is rejected at once.
 *
 * Rules note what they see go by as accepted. So the reset passes them by: NF_STOP ends the
 * packet's way through the hook. A reply notes nothing, and goes through the rest, where the kernel
 * translates its addresses.
 *
 * What the kernel has yet to cut into segments cannot be made shorter than one: where it has to be
 * sent on it is dropped, and what its sender sends again is a segment.
 *
 * A flow's segments become a reset once in an hour. So this is no way to tell anybody anything: a
 * few bits that the kernel chose, in a connection that both ends had. Where more connections end at
 * once than are remembered, those beyond are rejected at the end that speaks.
 */
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <string.h>

#include "hash.h"
#include "nsgate/hook.h"
#include "agent/queue/internal.h"
#include "agent/queue/reset.h"

#define REMEMBERED_NS UINT64_C(3600000000000)

struct flow_key {
	uint64_t cookie;
	struct pkt_addr src, dst;
	uint16_t sport, dport;
	uint8_t family, hook;
	uint8_t padding[2];
};
static_assert(sizeof(struct flow_key) == 48, "hashed whole");

static uint64_t hash_of(const struct queue *queue, const struct pkt *pkt)
{
	const struct flow_key key = {
		.cookie = queue->cookie,
		.src = pkt->src,
		.dst = pkt->dst,
		.sport = pkt->sport,
		.dport = pkt->dport,
		.family = pkt->family,
		.hook = pkt->hook,
	};

	return hash_bytes(&key, sizeof(key));
}

/* Return: where to note the flow; NULL where it was turned lately, or there is no room. */
static struct queue_ended *find_room(struct queue_buffers *buffers, uint64_t flow, uint64_t now_ns)
{
	struct queue_ended *set = &buffers->ended[flow % QUEUE_ENDED_SETS * QUEUE_ENDED_WAYS];
	struct queue_ended *room = NULL;

	for (unsigned int i = 0; i < QUEUE_ENDED_WAYS; i++) {
		const bool is_old = set[i].at_ns == 0 || now_ns - set[i].at_ns >= REMEMBERED_NS;

		if (is_old)
			room = &set[i];
		else if (set[i].flow == flow)
			return NULL;
	}
	return room;
}

/* May it be made shorter? The kernel cuts it up on its way to a link. */
static bool is_whole(const struct nfq_packet *in)
{
	return in->hook == NSGATE_HOOK_IN || !(in->skbinfo & NFQA_SKB_GSO);
}

static bool is_reply(enum nsgate_flow flow)
{
	return flow == NSGATE_FLOW_REPLY_STALE || flow == NSGATE_FLOW_REPLY_UNSURE;
}

bool queue_end_other(struct queue *queue, struct queue_buffers *buffers, enum nsgate_flow flow,
		     const struct nfq_packet *in, const struct pkt *pkt, struct queue_verdict *ret)
{
	const uint64_t now_ns = queue->in_force.state.now_ns, hash = hash_of(queue, pkt);
	struct queue_ended *room = find_room(buffers, hash, now_ns);
	size_t length;

	if (!room)
		return false;
	length = reset_make(in->data, in->caplen, pkt, buffers->rewritten);
	if (length == 0)
		return false;
	*ret = (struct queue_verdict){.verdict = NF_DROP};
	if (!is_whole(in))
		return true;
	*room = (struct queue_ended){.flow = hash, .at_ns = now_ns};
	ret->verdict = is_reply(flow) ? NF_ACCEPT : NF_STOP;
	ret->payload = buffers->rewritten;
	ret->payload_length = length;
	return true;
}
