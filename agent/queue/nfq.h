/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink messages of NFQUEUE: attributes in, verdicts out. No I/O, no allocation.
 * Format: linux/netfilter/nfnetlink_queue.h.
 */
#ifndef NSGATE_NFQ_H
#define NSGATE_NFQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pkt.h"

struct nlmsghdr;

struct nfq_packet {
	uint32_t id;
	uint32_t mark;
	uint32_t length;   /* of the packet on the wire, bytes (NFQA_CAP_LEN, or what was copied) */
	uint32_t skbinfo;  /* NFQA_SKB_* */
	uint32_t iif, oif; /* link indexes, 0: none */
	uint32_t uid, gid;
	uint32_t caplen;
	const uint8_t *data; /* inside the message; may be NULL */
	uint16_t number;     /* of the queue */
	uint8_t hook;	     /* enum nsgate_hook */
	bool has_uid, has_gid, has_mac;
	uint8_t mac[6];
};

enum nfq_kind {
	NFQ_KIND_PACKET, /* *ret is set */
	NFQ_KIND_ERROR,	 /* NLMSG_ERROR about a queue: *ret_errno is set (0: an acknowledgement) */
	NFQ_KIND_NO_ID,	 /* a packet message without a packet header: nothing can be verdicted */
	NFQ_KIND_OTHER,
};

/* Read one message of `length` bytes. A packet that is otherwise odd still gets its id. */
enum nfq_kind nfq_parse(const void *message, size_t length, struct nfq_packet *ret, int *ret_errno);

/* A verdict being built: messages one after the other, for one send. */
struct nfq_batch {
	uint8_t *buffer;
	size_t size, used;
};

/*
 * Append a verdict for packet `id`, or for every packet up to `id` (`up_to`), on queue `number`.
 * @verdict: NF_ACCEPT, NF_DROP, or NF_QUEUE with the other queue's number in the upper 16 bits
 * @set_mark: send `mark` as the packet's whole new mark
 * @payload: the rewritten packet, or NULL
 * Return: false where it does not fit (nothing is appended).
 */
bool nfq_append(struct nfq_batch *batch, uint16_t number, uint32_t id, bool up_to, uint32_t verdict,
		bool set_mark, uint32_t mark, const uint8_t *payload, size_t payload_length);

/* The original direction of a flow of ICMP or ICMPv6, as conntrack has it. */
struct nfq_tuple {
	uint8_t family; /* AF_INET or AF_INET6 */
	uint8_t protocol;
	uint8_t icmp_type, icmp_code;
	uint16_t icmp_id; /* network byte order */
	struct pkt_addr src, dst;
};

/* Append that the conntrack entry of that flow be deleted. Return: false where it does not fit. */
bool nfq_append_forget(struct nfq_batch *batch, const struct nfq_tuple *tuple);

/* Append the configuration of copy range and flags; no acknowledgement is asked for. */
bool nfq_append_config(struct nfq_batch *batch, uint16_t number, uint32_t copy_range,
		       uint32_t flags, uint32_t flags_mask);

/*
 * Append a configuration that changes nothing. Once it is carried out, every packet that had its
 * id before is in the queue or gone: the kernel does both under the queue's lock.
 */
bool nfq_append_barrier(struct nfq_batch *batch, uint16_t number);

#endif
