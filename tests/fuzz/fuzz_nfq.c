/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: bytes taken for one netlink message of a queue's socket.
 *
 * Must hold: what nfq_parse() says of a packet lies inside of the message; nothing after the
 * message's own length matters; a verdict about the packet, with what it carried as payload, is
 * written whole or not at all, and never past its buffer.
 */
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>

#include "agent/queue/nfq.h"
#include "fuzz.h"
#include "verdict.h"

static bool same(const struct nfq_packet *a, const struct nfq_packet *b)
{
	return a->id == b->id && a->mark == b->mark && a->length == b->length &&
	       a->skbinfo == b->skbinfo && a->iif == b->iif && a->oif == b->oif &&
	       a->uid == b->uid && a->gid == b->gid && a->caplen == b->caplen &&
	       a->data == b->data && a->number == b->number && a->hook == b->hook &&
	       a->has_uid == b->has_uid && a->has_gid == b->has_gid && a->has_mac == b->has_mac &&
	       memcmp(a->mac, b->mac, sizeof(a->mac)) == 0;
}

static void check_place(const struct nfq_packet *packet, const uint8_t *data, size_t size)
{
	if (!packet->data) {
		MUST(packet->caplen == 0);
		return;
	}
	MUST(packet->data >= data + NLMSG_HDRLEN && packet->data <= data + size);
	MUST(packet->caplen <= (size_t)(data + size - packet->data));
	MUST(packet->caplen <= packet->length);
}

static void check_length(const uint8_t *data, size_t size, enum nfq_kind kind,
			 const struct nfq_packet *packet)
{
	struct nlmsghdr header;
	struct nfq_packet cut;
	int error = 0;

	memcpy(&header, data, sizeof(header));
	if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len >= size)
		return;
	MUST(nfq_parse(data, header.nlmsg_len, &cut, &error) == kind);
	MUST(kind != NFQ_KIND_PACKET || same(packet, &cut));
}

static void answer(const struct nfq_packet *packet)
{
	const bool up_to = packet->id & 1, set_mark = packet->id & 2;
	/* Room for some payloads and not for others. */
	const size_t size = 32 + packet->mark % 256;
	struct nfq_batch batch = {.buffer = malloc(size), .size = size};
	struct verdict verdict;

	MUST(batch.buffer);
	while (nfq_append(&batch, 7, packet->id, up_to, packet->hook, set_mark, packet->mark,
			  packet->data, packet->caplen)) {
		MUST(batch.used <= size);
		for (size_t at = 0; at < batch.used;) {
			at += verdict_read(batch.buffer + at, batch.used - at, &verdict);
			MUST(verdict.number == 7 && verdict.id == packet->id);
			MUST(verdict.up_to == up_to && verdict.verdict == packet->hook);
			MUST(verdict.set_mark == set_mark);
			MUST(!set_mark || verdict.mark == packet->mark);
			MUST(verdict.payload_length == packet->caplen);
			MUST(packet->caplen == 0 ||
			     memcmp(verdict.payload, packet->data, packet->caplen) == 0);
		}
	}
	free(batch.buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nfq_packet packet = {0};
	int error = 0;
	const enum nfq_kind kind = nfq_parse(data, size, &packet, &error);

	MUST(kind == NFQ_KIND_PACKET || kind == NFQ_KIND_ERROR || kind == NFQ_KIND_NO_ID ||
	     kind == NFQ_KIND_OTHER);
	if (size >= sizeof(struct nlmsghdr))
		check_length(data, size, kind, &packet);
	if (kind == NFQ_KIND_PACKET) {
		check_place(&packet, data, size);
		answer(&packet);
	}
	return 0;
}
