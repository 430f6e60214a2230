/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What protects Initial packets, which is no secret: RFC 9001, 5; RFC 9369, 3.3. The ciphers are
 * nettle's, which allocates nothing and calls nothing of the kernel.
 */
#ifndef NSGATE_PROTO_QUIC_KEYS_H
#define NSGATE_PROTO_QUIC_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/quic_packet.h"

/* Of the client's direction. */
struct quic_keys {
	uint32_t version; /* 0: there are none */
	uint8_t key[16], iv[12], header[16];
};

/* @version: QUIC_VERSION_1 or QUIC_VERSION_2; @id: the destination of the client's first Initial */
void quic_keys_derive(struct quic_keys *ret_keys, uint32_t version, const struct quic_id *id);

#define QUIC_PACKET_BYTES_MAX 16384 /* a longer packet is not opened */

/*
 * Open a protected packet.
 * @largest: the largest packet number that was opened before, or -1
 * @scratch: QUIC_PACKET_BYTES_MAX bytes; the frames are in it afterwards
 * @ret_number: its own packet number
 * Return: 0; -EBADMSG it is not authentic, or too short or long to be; -EPROTO it is, and has bits
 * that RFC 9000, 17.2 reserves.
 */
int quic_keys_open(const struct quic_keys *keys, const struct quic_packet *packet, int64_t largest,
		   uint8_t *scratch, int64_t *ret_number, const uint8_t **ret_frames,
		   size_t *ret_length);

#endif
