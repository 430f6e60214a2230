/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The packets of a QUIC datagram, as far as anybody can read them: RFC 8999 (what all versions
 * have), RFC 9000, 17.2 (version 1), RFC 9369, 3.2 (version 2).
 */
#ifndef NSGATE_PROTO_QUIC_PACKET_H
#define NSGATE_PROTO_QUIC_PACKET_H

#include <stddef.h>
#include <stdint.h>

#define QUIC_VERSION_1 0x00000001u
#define QUIC_VERSION_2 0x6b3343cfu
#define QUIC_ID_MAX 20

enum quic_packet_type {
	QUIC_PACKET_INITIAL,
	QUIC_PACKET_0RTT,
	QUIC_PACKET_HANDSHAKE,
	QUIC_PACKET_RETRY,
	QUIC_PACKET_VERSIONS, /* Version Negotiation */
	QUIC_PACKET_SHORT,    /* or what is no QUIC at all: it is to the datagram's end */
	QUIC_PACKET_UNKNOWN,  /* of another version, to the datagram's end */
	QUIC_PACKET_MAX
};

struct quic_id {
	const uint8_t *bytes;
	uint8_t length; /* QUIC_ID_MAX at most */
};

struct quic_packet {
	enum quic_packet_type type;
	uint32_t version;
	struct quic_id destination, source; /* of long headers */
	const uint8_t *bytes;		    /* from the first byte on */
	size_t length;
	size_t number; /* where the packet number begins; INITIAL, 0RTT, HANDSHAKE only */
};

/*
 * Read the packet that begins at `*at` of a datagram and go behind it.
 * Return: 0; -EBADMSG its lengths do not fit.
 */
int quic_packet_read(const uint8_t *datagram, size_t length, size_t *at,
		     struct quic_packet *ret_packet);

/*
 * Read a number of variable length (RFC 9000, 16) and go behind it.
 * Return: 0; -EBADMSG it does not end before `length`.
 */
int quic_number_read(const uint8_t *bytes, size_t length, size_t *at, uint64_t *ret_number);

#endif
