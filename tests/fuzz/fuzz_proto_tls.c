/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: a byte that says how the stream is cut and whether it is that of a second hello, then the
 * stream of a client, which is also read as a server's.
 *
 * Must hold: in pieces the result is that of all at once, and both are what a plain reading says
 * that takes the records off first. A hello's name is one of a host.
 */
#include "fuzz.h"
#include "proto/tls.h"
#include "proto/tls_server.h"

static uint8_t scratch[TLS_STREAM_MAX], plain_bytes[TLS_STREAM_MAX];

struct plain {
	enum tls_result result;
	size_t end;
	struct domain name;
	bool ech, tls13;
	const uint8_t *alpn;
	size_t alpn_length;
};

static size_t two(const uint8_t *at)
{
	return (size_t)at[0] * 256 + at[1];
}

/* ---- the plain reading ---- */

static bool plain_name(struct plain *plain, const uint8_t *data, size_t length, bool seen)
{
	return !seen && length > 5 && two(data) == length - 2 && data[2] == 0 &&
	       two(data + 3) == length - 5 &&
	       domain_from_host(&plain->name, (const char *)data + 5, length - 5) == 0;
}

static bool plain_alpn(struct plain *plain, const uint8_t *data, size_t length, bool seen)
{
	if (seen || length < 3 || two(data) != length - 2)
		return false;
	plain->alpn = data + 2;
	plain->alpn_length = length - 2;
	for (size_t i = 2; i < length; i += 1u + data[i])
		if (!data[i] || i + 1 + data[i] > length)
			return false;
	return true;
}

static bool plain_versions(struct plain *plain, const uint8_t *data, size_t length, bool seen)
{
	if (seen || length < 1 || data[0] != length - 1 || data[0] % 2)
		return false;
	for (size_t i = 1; i < length; i += 2)
		plain->tls13 |= two(data + i) == 0x304;
	return true;
}

static bool plain_extensions(struct plain *plain, const uint8_t *at, size_t length)
{
	bool seen[3] = {false};
	size_t i = 0;

	while (i < length) {
		size_t type, size;
		bool good = true;

		if (i + 4 > length)
			return false;
		type = two(at + i);
		size = two(at + i + 2);
		i += 4;
		if (i + size > length)
			return false;
		if (type == 0)
			good = plain_name(plain, at + i, size, seen[0]);
		else if (type == 16)
			good = plain_alpn(plain, at + i, size, seen[1]);
		else if (type == 43)
			good = plain_versions(plain, at + i, size, seen[2]);
		if (!good)
			return false;
		seen[0] |= type == 0;
		seen[1] |= type == 16;
		seen[2] |= type == 43;
		plain->ech |= type == 0xfe0d || type == 0xffce;
		i += size;
	}
	return true;
}

static bool plain_hello(struct plain *plain, const uint8_t *hello, size_t length)
{
	size_t i = 38;

	if (length < 39 || hello[4] != 3 || hello[38] > 32)
		return false;
	i += 1u + hello[i];
	if (i + 2 > length || two(hello + i) == 0 || two(hello + i) % 2)
		return false;
	i += 2 + two(hello + i);
	if (i + 1 > length || hello[i] == 0)
		return false;
	i += 1u + hello[i];
	if (i >= length)
		return i == length;
	if (i + 2 > length || i + 2 + two(hello + i) != length)
		return false;
	return plain_extensions(plain, hello + i + 2, length - i - 2);
}

static struct plain plain_read(const uint8_t *stream, size_t length, bool second)
{
	struct plain plain = {.result = TLS_MORE};
	size_t at = 0, have = 0;

	for (;;) {
		const size_t left = length - at;
		bool skip;
		size_t body, whole;

		plain.result = TLS_MORE;
		if (left < 1)
			return plain;
		skip = second && !have &&
		       (stream[at] == 20 || stream[at] == 21 || stream[at] == 23);
		plain.result = TLS_NOT;
		if ((stream[at] != 22 && !skip) || (left > 1 && stream[at + 1] != 3))
			return plain;
		body = left >= 5 ? two(stream + at + 3) : 1;
		if (!body || body > (skip ? 16640 : 16384) ||
		    at + 5 + body > 16384 + (left < 5 ? 6 : 0))
			return plain;
		plain.result = TLS_MORE;
		if (left < 5 || left < 5 + body)
			return plain;
		at += 5 + body;
		if (skip)
			continue;
		memcpy(plain_bytes + have, stream + at - body, body);
		have += body;
		if (have < 4)
			continue;
		whole = 4 + (size_t)plain_bytes[1] * 65536 + two(plain_bytes + 2);
		plain.result = TLS_NOT;
		if (plain_bytes[0] != 1 || whole > 16384 || have > whole)
			return plain;
		if (have < whole)
			continue;
		if (plain_hello(&plain, plain_bytes, whole))
			plain.result = TLS_HELLO;
		plain.end = at;
		return plain;
	}
}

/* What a server says first: the same without records, alerts left out. */
static enum tls_server_result plain_server(const uint8_t *stream, size_t length)
{
	static const uint8_t start[] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a};
	uint8_t message[38];
	size_t have = 0, at = 0;

	while (at + 5 <= length) {
		const size_t body = two(stream + at + 3);

		if ((stream[at] != 21 && stream[at] != 22) || stream[at + 1] != 3 || !body)
			return TLS_SERVER_OTHER;
		for (size_t i = 0; i < body && at + 5 + i < length && stream[at] == 22; i++) {
			message[have++] = stream[at + 5 + i];
			if (message[0] != 2)
				return TLS_SERVER_OTHER;
			if (have == 38 && memcmp(message + 6, start, sizeof(start)) != 0)
				return TLS_SERVER_HELLO;
			if (have == 38)
				return TLS_SERVER_RETRY;
		}
		at += 5 + body;
	}
	return TLS_SERVER_MORE;
}

/* ---- both ---- */

static void check_hello(const struct tls_hello *hello, const struct plain *plain)
{
	struct domain again;

	MUST(hello->end == plain->end);
	MUST(domain_equal(&hello->name, &plain->name));
	MUST(hello->ech == plain->ech && hello->tls13 == plain->tls13);
	MUST(hello->alpn_length == plain->alpn_length);
	MUST(!plain->alpn_length || memcmp(hello->alpn, plain->alpn, plain->alpn_length) == 0);
	if (hello->name.length)
		MUST(domain_from_host(&again, hello->name.text, hello->name.length) == 0);
	for (size_t at = 0, length; at < hello->alpn_length;) {
		const uint8_t *protocol;

		length = tls_alpn_next(hello, &at, &protocol);
		MUST(length && protocol + length <= hello->alpn + hello->alpn_length);
	}
}

static enum tls_result feed(struct tls_reader *reader, const uint8_t *stream, size_t length,
			    const struct plain *plain)
{
	uint8_t *exact = malloc(length ? length : 1);
	struct tls_hello hello;
	enum tls_result result;

	MUST(exact);
	memcpy(exact, stream, length);
	result = tls_reader_feed(reader, exact, length, scratch, &hello);
	MUST((result == TLS_NOT) == (reader->why != TLS_WHY_NONE) && reader->why < TLS_WHY_MAX);
	if (result == TLS_HELLO) {
		MUST(plain->result == TLS_HELLO);
		check_hello(&hello, plain);
	}
	free(exact);
	return result;
}

static void check_server(const uint8_t *stream, size_t length)
{
	struct tls_server whole = {.left = 0}, pieces = {.left = 0};
	const enum tls_server_result result = tls_server_feed(&whole, stream, length);
	enum tls_server_result other = TLS_SERVER_MORE;

	for (size_t i = 0; i < length && other == TLS_SERVER_MORE; i++)
		other = tls_server_feed(&pieces, stream + i, 1);
	MUST(result == other);
	/* Of the random only the beginning is compared there. */
	if (result != TLS_SERVER_HELLO)
		MUST(result == plain_server(stream, length));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls_reader whole, pieces;
	enum tls_result result, other = TLS_MORE;
	struct plain plain;
	size_t piece;

	if (size < 1 || size > 20000)
		return 0;
	plain = plain_read(data + 1, size - 1, data[0] & 1);
	tls_reader_init(&whole, data[0] & 1);
	tls_reader_init(&pieces, data[0] & 1);
	result = feed(&whole, data + 1, size - 1, &plain);
	MUST(result == plain.result);
	piece = 1u + (data[0] >> 1) * (size / 64 + 1);
	for (size_t have = 0; have < size - 1 && other == TLS_MORE; have += piece)
		other = feed(&pieces, data + 1, have, &plain);
	if (other == TLS_MORE)
		other = feed(&pieces, data + 1, size - 1, &plain);
	MUST(other == result && pieces.why == whole.why);
	check_server(data + 1, size - 1);
	return 0;
}
