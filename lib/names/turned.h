/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A query that is refused is turned into its own answer: the packet's verdict carries it with the
 * addresses changed round. It goes round the hook again, where the rules drop it unless its
 * destination is ours; it is queued once more, and on its way by the loopback again, and passes
 * each time because it is known here, byte for byte, for a second. No mark and no address is
 * believed.
 */
#ifndef NSGATE_NAMES_TURNED_H
#define NSGATE_NAMES_TURNED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pkt.h"
#include "proto/dns_query.h"

#define NAMES_TURNED_MAX 64
#define NAMES_TURNED_BYTES 600 /* of a packet; a longer query is not turned round */
#define NAMES_TURNED_HEADERS 48
#define NAMES_TURNED_NS UINT64_C(1000000000)

struct names_turned {
	struct names_turned_packet {
		uint64_t until_ns;
		uint32_t mark; /* that the query had */
		uint16_t length;
		uint8_t bytes[NAMES_TURNED_BYTES];
	} list[NAMES_TURNED_MAX];
	unsigned int next;
};

/*
 * Make of a UDP query the packet that refuses it: headers without options, checksums.
 * @pkt, @query: the query's; its message is `length` bytes at `message`
 * @packet: room for the message and NAMES_TURNED_HEADERS
 * Return: the packet's length.
 */
size_t names_turn(const struct pkt *pkt, const uint8_t *message, size_t length,
		  const struct dns_question *question, enum dns_rcode rcode, uint8_t *packet);

/* Note a packet that was made so, of NAMES_TURNED_BYTES at most. */
void names_turned_note(struct names_turned *turned, const uint8_t *packet, size_t length,
		       uint32_t mark, uint64_t now_ns);

/* Is it such a packet? Then *ret_mark is the query's. */
bool names_turned_find(const struct names_turned *turned, const uint8_t *packet, size_t length,
		       uint64_t now_ns, uint32_t *ret_mark);

#endif
