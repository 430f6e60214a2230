// SPDX-License-Identifier: GPL-2.0-or-later
#include "proto/quic_keys.h"

#include <errno.h>
#include <nettle/aes.h>
#include <nettle/gcm.h>
#include <nettle/hmac.h>
#include <string.h>

#include "proto/bytes.h"

#define SECRET_SIZE SHA256_DIGEST_SIZE
#define TAG_SIZE GCM_DIGEST_SIZE
#define SAMPLE_AT 4 /* behind the packet number's first byte: RFC 9001, 5.4.2 */
#define SAMPLE_SIZE AES_BLOCK_SIZE
#define RESERVED_BITS 0x0c

/* RFC 9001, 5.2; RFC 9369, 3.3.1. */
static const uint8_t salt_1[] = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
				 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a};
static const uint8_t salt_2[] = {0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93,
				 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9};

/* HKDF-Expand-Label without context, of one block: RFC 8446, 7.1; RFC 5869, 2.3. */
static void expand(struct hmac_sha256_ctx *secret, const char *label, uint8_t *ret_key,
		   size_t length)
{
	static const char prefix[] = "tls13 ";
	const size_t label_length = strlen(label);
	const uint8_t before[3] = {0, (uint8_t)length,
				   (uint8_t)(sizeof(prefix) - 1 + label_length)};
	const uint8_t after[2] = {0, 1}; /* no context; the first block */

	hmac_sha256_update(secret, sizeof(before), before);
	hmac_sha256_update(secret, sizeof(prefix) - 1, (const uint8_t *)prefix);
	hmac_sha256_update(secret, label_length, (const uint8_t *)label);
	hmac_sha256_update(secret, sizeof(after), after);
	hmac_sha256_digest(secret, length, ret_key);
}

void quic_keys_derive(struct quic_keys *ret_keys, uint32_t version, const struct quic_id *id)
{
	const int second = version == QUIC_VERSION_2;
	struct hmac_sha256_ctx hmac;
	uint8_t secret[SECRET_SIZE];

	hmac_sha256_set_key(&hmac, sizeof(salt_1), second ? salt_2 : salt_1);
	hmac_sha256_update(&hmac, id->length, id->bytes);
	hmac_sha256_digest(&hmac, sizeof(secret), secret);
	hmac_sha256_set_key(&hmac, sizeof(secret), secret);
	expand(&hmac, "client in", secret, sizeof(secret));
	hmac_sha256_set_key(&hmac, sizeof(secret), secret);
	expand(&hmac, second ? "quicv2 key" : "quic key", ret_keys->key, sizeof(ret_keys->key));
	expand(&hmac, second ? "quicv2 iv" : "quic iv", ret_keys->iv, sizeof(ret_keys->iv));
	expand(&hmac, second ? "quicv2 hp" : "quic hp", ret_keys->header, sizeof(ret_keys->header));
	ret_keys->version = version;
}

/* What a packet number of `size` bytes stands for: RFC 9000, A.3. */
static int64_t whole_number(int64_t largest, int64_t number, size_t size)
{
	const int64_t expected = largest + 1, window = INT64_C(1) << 8 * size;
	const int64_t candidate = (expected & ~(window - 1)) | number;

	if (candidate <= expected - window / 2)
		return candidate + window;
	if (candidate > expected + window / 2 && candidate >= window)
		return candidate - window;
	return candidate;
}

/* Copy the header and take its protection off: RFC 9001, 5.4. Return: its length. */
static size_t unprotect(const struct quic_keys *keys, const struct quic_packet *packet,
			uint8_t *header)
{
	struct aes128_ctx aes;
	uint8_t mask[AES_BLOCK_SIZE];
	size_t size;

	aes128_set_encrypt_key(&aes, keys->header);
	aes128_encrypt(&aes, sizeof(mask), mask, packet->bytes + packet->number + SAMPLE_AT);
	memcpy(header, packet->bytes, packet->number + SAMPLE_AT);
	header[0] ^= mask[0] & 0x0f;
	size = 1u + (header[0] & 3);
	for (size_t i = 0; i < size; i++)
		header[packet->number + i] ^= mask[1 + i];
	return packet->number + size;
}

static void set_nonce(struct gcm_aes128_ctx *gcm, const struct quic_keys *keys, int64_t number)
{
	uint8_t nonce[GCM_IV_SIZE];

	memcpy(nonce, keys->iv, sizeof(nonce));
	for (size_t i = 0; i < sizeof(number); i++)
		nonce[sizeof(nonce) - 1 - i] ^= (uint8_t)(number >> 8 * i);
	gcm_aes128_set_iv(gcm, sizeof(nonce), nonce);
}

int quic_keys_open(const struct quic_keys *keys, const struct quic_packet *packet, int64_t largest,
		   uint8_t *scratch, int64_t *ret_number, const uint8_t **ret_frames,
		   size_t *ret_length)
{
	struct gcm_aes128_ctx gcm;
	uint8_t tag[TAG_SIZE];
	size_t header, length;
	int64_t number = 0;

	if (packet->length < packet->number + SAMPLE_AT + SAMPLE_SIZE ||
	    packet->length > QUIC_PACKET_BYTES_MAX)
		return -EBADMSG;
	header = unprotect(keys, packet, scratch);
	for (size_t i = packet->number; i < header; i++)
		number = number << 8 | scratch[i];
	number = whole_number(largest, number, header - packet->number);
	length = packet->length - header - TAG_SIZE;
	gcm_aes128_set_key(&gcm, keys->key);
	set_nonce(&gcm, keys, number);
	gcm_aes128_update(&gcm, header, scratch);
	gcm_aes128_decrypt(&gcm, length, scratch + header, packet->bytes + header);
	gcm_aes128_digest(&gcm, sizeof(tag), tag);
	if (memcmp(tag, packet->bytes + header + length, sizeof(tag)) != 0)
		return -EBADMSG;
	if (scratch[0] & RESERVED_BITS)
		return -EPROTO;
	*ret_number = number;
	*ret_frames = scratch + header;
	*ret_length = length;
	return 0;
}
