/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Of packets that open a flow and wait for their verdicts at the same time each has a conntrack
 * entry of its own, as none is in the table yet. The first that is let go has its entry put there.
 * Of the others the kernel merges most, but those of ICMP it drops at the end of their way
 * (nf_ct_resolve_clash() in net/netfilter/nf_conntrack_core.c): echo requests that are sent at once
 * with one number, as by traceroute -I. Without a queue the first would have been gone before there
 * was a second.
 *
 * So before such a packet is let go, the entry of the one before it is taken out of the table, in
 * the same datagram as the verdicts. Both entries say the same, so answers to either packet are
 * found by the one that stays.
 *
 * Which packets have an entry of their own, their ids tell: those that were numbered before the
 * verdict of the first was carried out. One that was numbered later has found the entry in the
 * table and must keep it; with offload nobody would have been asked about it. Where the numbers
 * stand is read right after the send, so that one numbered in the moment between may lose an entry
 * that it shares: its answer is then judged by itself.
 *
 * Over the loopback a packet comes in with the entry that it left with, which is in the table.
 */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "hash.h"
#include "nsgate/hook.h"
#include "agent/queue/internal.h"

#define ICMP_ID_OFFSET 4
/* RFC 792, 950, 4443. The kernel's header of them is not for use beside musl's own. */
#define TYPE_ECHO 8
#define TYPE_TIMESTAMP 13
#define TYPE_ADDRESS 17
#define TYPE6_ECHO_REQUEST 128
/* A flow that was silent for so long may have no entry any more. */
#define FORGOTTEN_NS UINT64_C(10000000000)

/* `valid_new` in net/netfilter/nf_conntrack_proto_icmp.c, and its like for IPv6. */
static bool is_request(const struct pkt *pkt)
{
	if (pkt->family == AF_INET6)
		return pkt->icmp_type == TYPE6_ECHO_REQUEST;
	return pkt->icmp_type == TYPE_ECHO || pkt->icmp_type == TYPE_TIMESTAMP ||
	       pkt->icmp_type == TYPE_ADDRESS;
}

/* Return: false where the packet opens no flow of ICMP. */
static bool make_tuple(const struct nfq_packet *in, const struct pkt *pkt, struct nfq_tuple *ret)
{
	const size_t id_at = pkt->l4_offset + ICMP_ID_OFFSET;

	if ((pkt->have & (PKT_HAVE_ICMP | PKT_HAVE_FRAGMENT)) != PKT_HAVE_ICMP ||
	    !is_request(pkt) || in->iif == NSGATE_LOOPBACK_INDEX ||
	    id_at + sizeof(ret->icmp_id) > in->caplen)
		return false;
	memset(ret, 0, sizeof(*ret)); /* padding too: it is hashed */
	ret->family = pkt->family;
	ret->protocol = pkt->protocol;
	ret->src = pkt->src;
	ret->dst = pkt->dst;
	ret->icmp_type = pkt->icmp_type;
	ret->icmp_code = pkt->icmp_code;
	memcpy(&ret->icmp_id, in->data + id_at, sizeof(ret->icmp_id));
	return true;
}

/* A packet passes several hooks, and is numbered in each. */
static uint64_t hash_of(const struct nfq_tuple *tuple, uint8_t hook)
{
	return hash_bytes(tuple, sizeof(*tuple)) ^ (uint64_t)(hook + 1);
}

/* Return: that flow's place, or that of the one that was silent for longest. */
static struct queue_clash *find_clash(struct queue *queue, uint64_t flow)
{
	struct queue_clash *found = &queue->clashes[0];

	for (unsigned int i = 0; i < QUEUE_CLASHES; i++) {
		struct queue_clash *clash = &queue->clashes[i];

		if (clash->flow == flow)
			return clash;
		if (clash->at_ns < found->at_ns)
			found = clash;
	}
	return found;
}

/* The kernel accepts packets of flows that are noted, and does not ask. */
static bool is_offloaded(const struct queue *queue, uint8_t hook)
{
	return policy_info(queue->in_force.policy)->offload && !queue->in_force.selective &&
	       hook != NSGATE_HOOK_PREROUTING && hook != NSGATE_HOOK_POSTROUTING;
}

static bool has_own_entry(const struct queue *queue, const struct queue_clash *clash,
			  const struct nfq_packet *in)
{
	const uint32_t id = in->id;

	return is_offloaded(queue, in->hook) || !clash->is_sent ||
	       queue_id_reached(id, clash->last_id);
}

struct queue_clash *queue_clash_find(struct queue *queue, const struct nfq_packet *in,
				     const struct pkt *pkt, struct nfq_tuple *ret_flow)
{
	const uint64_t now_ns = queue->in_force.state.now_ns;
	struct queue_clash *clash;
	uint64_t flow;

	if (!make_tuple(in, pkt, ret_flow))
		return NULL;
	flow = hash_of(ret_flow, in->hook);
	clash = find_clash(queue, flow);
	clash->is_first = clash->flow != flow || now_ns - clash->at_ns >= FORGOTTEN_NS;
	clash->at_ns = now_ns;
	if (!clash->is_first && !has_own_entry(queue, clash, in))
		return NULL;
	clash->flow = flow;
	return clash;
}

void queue_clash_accept(struct queue *queue, struct queue_clash *clash)
{
	clash->is_sent = false;
	queue->has_unsent_clash = true;
}

void queue_clash_sent(struct queue *queue)
{
	struct queue_lines kernel;

	if (!queue->has_unsent_clash)
		return;
	queue->has_unsent_clash = false;
	if (queue_kernel_read_lines(queue->proc_fd, queue->number, queue->stride, &kernel) < 0)
		return; /* they stay unsent: too much is forgotten, and not too little */
	for (unsigned int i = 0; i < QUEUE_CLASHES; i++) {
		struct queue_clash *clash = &queue->clashes[i];

		if (clash->is_sent)
			continue;
		clash->is_sent = true;
		clash->last_id = kernel.id_sequence[NSGATE_FLOW_NEW];
	}
}
