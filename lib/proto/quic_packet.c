// SPDX-License-Identifier: GPL-2.0-or-later
#include "proto/quic_packet.h"

#include <errno.h>

#include "proto/bytes.h"

#define LONG_HEADER 0x80
#define FIXED_BIT 0x40

int quic_number_read(const uint8_t *bytes, size_t length, size_t *at, uint64_t *ret_number)
{
	uint64_t number;
	size_t size;

	if (*at >= length)
		return -EBADMSG;
	size = (size_t)1 << (bytes[*at] >> 6);
	if (length - *at < size)
		return -EBADMSG;
	number = bytes[*at] & 0x3f;
	for (size_t i = 1; i < size; i++)
		number = number << 8 | bytes[*at + i];
	*at += size;
	*ret_number = number;
	return 0;
}

static enum quic_packet_type long_type(uint8_t first, uint32_t version)
{
	static const enum quic_packet_type types[] = {QUIC_PACKET_INITIAL, QUIC_PACKET_0RTT,
						      QUIC_PACKET_HANDSHAKE, QUIC_PACKET_RETRY};
	const unsigned int bits = first >> 4 & 3;

	if (version == 0)
		return QUIC_PACKET_VERSIONS;
	if (version == QUIC_VERSION_1 && first & FIXED_BIT)
		return types[bits];
	if (version == QUIC_VERSION_2 && first & FIXED_BIT)
		return types[(bits + 3) & 3]; /* Retry is the first there */
	return QUIC_PACKET_UNKNOWN;
}

static int read_id(const uint8_t *bytes, size_t length, size_t *at, struct quic_id *ret_id)
{
	const size_t size = *at < length ? bytes[*at] : QUIC_ID_MAX + 1;

	if (size > QUIC_ID_MAX || length - *at - 1 < size)
		return -EBADMSG;
	*ret_id = (struct quic_id){.bytes = bytes + *at + 1, .length = (uint8_t)size};
	*at += 1 + size;
	return 0;
}

/* From behind the connection IDs on. */
static int read_lengths(struct quic_packet *packet, size_t at)
{
	uint64_t length;

	if (packet->type == QUIC_PACKET_INITIAL) {
		if (quic_number_read(packet->bytes, packet->length, &at, &length) < 0 ||
		    packet->length - at < length)
			return -EBADMSG;
		at += length; /* the token */
	}
	if (quic_number_read(packet->bytes, packet->length, &at, &length) < 0 ||
	    packet->length - at < length)
		return -EBADMSG;
	packet->number = at;
	packet->length = at + length;
	return 0;
}

static int read_long(struct quic_packet *packet)
{
	size_t at = 5;

	if (packet->length < at)
		return 0; /* no QUIC */
	packet->version = bytes_32(packet->bytes + 1);
	packet->type = long_type(packet->bytes[0], packet->version);
	if (packet->type == QUIC_PACKET_UNKNOWN)
		return 0;
	if (read_id(packet->bytes, packet->length, &at, &packet->destination) < 0 ||
	    read_id(packet->bytes, packet->length, &at, &packet->source) < 0)
		return -EBADMSG;
	return packet->type == QUIC_PACKET_RETRY || packet->type == QUIC_PACKET_VERSIONS
		       ? 0
		       : read_lengths(packet, at);
}

int quic_packet_read(const uint8_t *datagram, size_t length, size_t *at,
		     struct quic_packet *ret_packet)
{
	struct quic_packet packet = {
		.type = QUIC_PACKET_SHORT, .bytes = datagram + *at, .length = length - *at};

	if (!packet.length || (packet.bytes[0] & LONG_HEADER && read_long(&packet) < 0))
		return -EBADMSG;
	*at += packet.length;
	*ret_packet = packet;
	return 0;
}
