/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Initial packets as clients send them: RFC 9001, 5; what quic_keys_open() undoes. */
#ifndef NSGATE_TESTS_QUIC_FIXTURE_H
#define NSGATE_TESTS_QUIC_FIXTURE_H

#include <nettle/aes.h>
#include <nettle/gcm.h>
#include <stdint.h>
#include <string.h>

#include "hello_fixture.h"
#include "proto/quic_keys.h"

/* Of variable length, in `size` bytes: 2, 4 or 8. */
static inline void quic_put_number(struct hello_bytes *out, uint64_t number, size_t size)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(number >> 8 * (size - 1 - i));
	bytes[0] |= (uint8_t)((size == 2 ? 1 : size == 4 ? 2 : 3) << 6);
	hello_put(out, bytes, size);
}

static inline void quic_put_crypto(struct hello_bytes *frames, const struct hello_bytes *hello,
				   size_t from, size_t upto)
{
	hello_put(frames, "\6", 1);
	quic_put_number(frames, from, 2);
	quic_put_number(frames, upto - from, 2);
	hello_put(frames, hello->bytes + from, upto - from);
}

/* PADDING, until there are so many bytes. */
static inline void quic_pad(struct hello_bytes *frames, size_t length)
{
	while (frames->length < length)
		hello_put(frames, "", 1);
}

/* Write a protected packet, for `destination` by keys made of `id`. */
static inline void quic_put_initial(struct hello_bytes *datagram, uint32_t version,
				    const struct quic_id *id, const struct quic_id *destination,
				    uint32_t number, const struct hello_bytes *frames)
{
	const size_t begin = datagram->length;
	const uint8_t first = version == QUIC_VERSION_2 ? 0xd3 : 0xc3; /* number of 4 bytes */
	uint8_t nonce[12], mask[16], *packet = datagram->bytes + begin;
	struct gcm_aes128_ctx gcm;
	struct aes128_ctx aes;
	struct quic_keys keys;
	size_t header;

	quic_keys_derive(&keys, version, id);
	hello_put(datagram, &first, 1);
	hello_put_16(datagram, version >> 16);
	hello_put_16(datagram, version & 0xffff);
	hello_put(datagram, &destination->length, 1);
	hello_put(datagram, destination->bytes, destination->length);
	hello_put(datagram, "\0\0", 2); /* no source ID, no token */
	quic_put_number(datagram, 4 + frames->length + GCM_DIGEST_SIZE, 2);
	hello_put_16(datagram, number >> 16);
	hello_put_16(datagram, number & 0xffff);
	header = datagram->length - begin;
	memcpy(nonce, keys.iv, sizeof(nonce));
	for (size_t i = 0; i < 4; i++)
		nonce[11 - i] ^= (uint8_t)(number >> 8 * i);
	gcm_aes128_set_key(&gcm, keys.key);
	gcm_aes128_set_iv(&gcm, sizeof(nonce), nonce);
	gcm_aes128_update(&gcm, header, packet);
	hello_put(datagram, frames->bytes, frames->length);
	gcm_aes128_encrypt(&gcm, frames->length, packet + header, frames->bytes);
	hello_put(datagram, keys.key, GCM_DIGEST_SIZE); /* room for the tag */
	gcm_aes128_digest(&gcm, GCM_DIGEST_SIZE, packet + header + frames->length);
	aes128_set_encrypt_key(&aes, keys.header);
	aes128_encrypt(&aes, sizeof(mask), mask, packet + header);
	packet[0] ^= mask[0] & 0x0f;
	for (size_t i = 0; i < 4; i++)
		packet[header - 4 + i] ^= mask[1 + i];
}

#endif
