/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: datagrams, each a byte that says what it is and two with its length. Even: as it is. Odd:
 * what follows are frames, which are sealed here into an Initial packet as a client would; bit 1:
 * of version 2, bit 2: by the keys of another connection, bit 3: to another destination.
 *
 * Must hold, against a plain reassembler that has a place for each byte of the handshake: each
 * datagram's result and reason, and the hello, which is that of the bytes in order. Nothing that
 * was not sealed passes as Initial.
 */
#include "fuzz.h"
#include "proto/quic.h"
#include "tests/unit/quic_fixture.h"

#define DATAGRAM_MAX 1500

static uint8_t scratch[QUIC_PACKET_BYTES_MAX];
static const struct quic_id ours = {(const uint8_t *)"ourconnn", 8};
static const struct quic_id others = {(const uint8_t *)"another", 7};

/* ---- the plain reading ---- */

static int bytes_of[QUIC_CRYPTO_MAX]; /* -1: not there */
static size_t read_upto, mark;	      /* behind `mark` there is nothing */
static unsigned int datagrams;

struct plain {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static uint64_t plain_number(struct plain *plain)
{
	size_t size = 1;
	uint64_t value;

	if (plain->left)
		size = (size_t[]){1, 2, 4, 8}[plain->at[0] / 64];
	if (plain->left < size) {
		plain->bad = true;
		plain->left = 0;
		return 0;
	}
	value = plain->at[0] % 64;
	for (size_t i = 1; i < size; i++)
		value = value * 256 + plain->at[i];
	plain->at += size;
	plain->left -= size;
	return value;
}

static void plain_skip(struct plain *plain, uint64_t length)
{
	if (plain->left < length)
		plain->bad = true;
	else {
		plain->at += length;
		plain->left -= length;
	}
}

static unsigned int runs(void)
{
	unsigned int count = 0;

	for (size_t i = 0; i < mark; i++)
		count += bytes_of[i] >= 0 && (i == 0 || bytes_of[i - 1] < 0);
	return count;
}

static enum quic_why plain_crypto(struct plain *plain)
{
	const uint64_t offset = plain_number(plain), length = plain_number(plain);
	const uint8_t *data = plain->at;

	if (!plain->bad)
		plain_skip(plain, length);
	if (plain->bad)
		return QUIC_WHY_FRAME;
	if (offset + length > QUIC_CRYPTO_MAX)
		return QUIC_WHY_LENGTH;
	for (uint64_t i = 0; i < length; i++)
		if (bytes_of[offset + i] >= 0 && bytes_of[offset + i] != data[i])
			return QUIC_WHY_CONFLICT;
	for (uint64_t i = 0; i < length; i++)
		bytes_of[offset + i] = data[i];
	if (length && mark < offset + length)
		mark = offset + length;
	return runs() > QUIC_RANGES_MAX ? QUIC_WHY_LENGTH : QUIC_WHY_NONE;
}

static enum quic_why plain_frames(struct plain *plain)
{
	if (!plain->left)
		return QUIC_WHY_FRAME;
	while (plain->left && !plain->bad) {
		const uint8_t type = *plain->at++;
		uint64_t count = 0;

		plain->left--;
		if (type == 6) {
			const enum quic_why why = plain_crypto(plain);

			if (why)
				return why;
		} else if (type == 2 || type == 3) {
			plain_number(plain);
			plain_number(plain);
			count = plain_number(plain);
			plain_number(plain);
			for (uint64_t i = 0; i < count && !plain->bad; i++) {
				plain_number(plain);
				plain_number(plain);
			}
			for (int i = 0; type == 3 && i < 3; i++)
				plain_number(plain);
		} else if (type == 0x1c) {
			plain_number(plain);
			plain_number(plain);
			count = plain_number(plain);
			if (!plain->bad)
				plain_skip(plain, count);
		} else if (type > 1) {
			return QUIC_WHY_FRAME;
		}
	}
	return plain->bad ? QUIC_WHY_FRAME : QUIC_WHY_NONE;
}

static enum quic_result plain_hello(struct tls_hello *hello, enum quic_why *ret_why)
{
	static uint8_t bytes[QUIC_CRYPTO_MAX];
	size_t have = 0, whole;

	*ret_why = QUIC_WHY_NONE;
	while (read_upto + have < QUIC_CRYPTO_MAX && bytes_of[read_upto + have] >= 0) {
		bytes[have] = (uint8_t)bytes_of[read_upto + have];
		have++;
	}
	for (size_t i = 0; i < read_upto; i++)
		MUST(bytes_of[i] >= 0);
	whole = have < 4 ? SIZE_MAX : 4u + bytes[1] * 65536u + bytes[2] * 256u + bytes[3];
	if (have >= 4 && read_upto + whole > QUIC_CRYPTO_MAX)
		*ret_why = QUIC_WHY_LENGTH;
	else if (have >= whole && tls_hello_read(bytes, whole, hello) != TLS_WHY_NONE)
		*ret_why = QUIC_WHY_HELLO;
	else if (have >= whole)
		return read_upto += whole, datagrams = 0, QUIC_HELLO;
	else if (read_upto == 0 && ++datagrams > QUIC_DATAGRAMS_MAX)
		*ret_why = QUIC_WHY_DATAGRAMS;
	return *ret_why ? QUIC_NOT : QUIC_MORE;
}

/* ---- both ---- */

static void check_ranges(const struct quic_reader *reader)
{
	size_t at = 0;

	for (size_t i = 0; i < reader->range_count; i++) {
		MUST(reader->ranges[i].begin >= at &&
		     reader->ranges[i].begin < reader->ranges[i].end);
		for (; at < reader->ranges[i].begin; at++)
			MUST(bytes_of[at] < 0);
		for (; at < reader->ranges[i].end; at++)
			MUST(bytes_of[at] == reader->crypto[at]);
		at = reader->ranges[i].end + 1u;
	}
}

static enum quic_result feed(struct quic_reader *reader, const uint8_t *datagram, size_t length,
			     struct tls_hello *hello)
{
	uint8_t *exact = malloc(length ? length : 1);
	enum quic_result result;

	MUST(exact);
	memcpy(exact, datagram, length);
	result = quic_reader_feed(reader, exact, length, scratch, hello);
	MUST((result == QUIC_NOT) == (reader->why != QUIC_WHY_NONE) && reader->why < QUIC_WHY_MAX);
	MUST((reader->why == QUIC_WHY_HELLO) == (reader->tls_why != TLS_WHY_NONE));
	free(exact);
	return result;
}

static enum quic_result sealed(struct quic_reader *reader, uint32_t how, const uint8_t *frames,
			       size_t length, uint32_t number)
{
	const struct quic_id *id = how & 4 ? &others : &ours;
	struct hello_bytes plaintext = {.length = 0}, datagram = {.length = 0};
	struct plain plain = {.at = frames, .left = length};
	struct tls_hello hello, wanted;
	enum quic_result result, expected = QUIC_NOT;
	enum quic_why why;

	hello_put(&plaintext, frames, length);
	quic_put_initial(&datagram, how & 2 ? QUIC_VERSION_2 : QUIC_VERSION_1, id,
			 how & 8 ? &others : id, number, &plaintext);
	if (!reader->id_known && how & 12) /* the flow's connection is the one above */
		return QUIC_MORE;
	result = feed(reader, datagram.bytes, datagram.length, &hello);
	if (how & 4) {
		MUST(result == QUIC_DROP);
		return result;
	}
	why = plain_frames(&plain);
	if (!why)
		expected = plain_hello(&wanted, &why);
	MUST(result == expected && reader->why == why);
	if (!why)
		check_ranges(reader);
	if (result == QUIC_HELLO)
		MUST(domain_equal(&hello.name, &wanted.name) && hello.ech == wanted.ech &&
		     hello.alpn_length == wanted.alpn_length);
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool reset;
	struct input input = {data, size};
	uint8_t *crypto = malloc(QUIC_CRYPTO_MAX);
	enum quic_result result = QUIC_MORE;
	struct quic_reader reader;
	struct tls_hello hello;
	struct quic_id id;

	MUST(crypto);
	for (size_t i = 0; i < QUIC_CRYPTO_MAX && (i < mark || !reset); i++)
		bytes_of[i] = -1;
	reset = true;
	read_upto = mark = datagrams = 0;
	quic_reader_init(&reader, crypto);
	for (uint32_t i = 0; input.left && i < 40 && result != QUIC_NOT; i++) {
		const uint32_t how = input_take(&input, 1);
		size_t length = input_take(&input, 2) % DATAGRAM_MAX;
		const uint8_t *bytes = input_bytes(&input, &length);

		if (how & 1) {
			result = sealed(&reader, how, bytes, length, i);
			continue;
		}
		quic_server_seen(bytes, length, &id);
		result = feed(&reader, bytes, length, &hello);
		MUST(result != QUIC_MORE && result != QUIC_HELLO);
	}
	free(crypto);
	return 0;
}
