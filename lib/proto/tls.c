// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Only whole records are read, one after the other, and each of them once: a hello that comes byte
 * by byte costs as much as one that comes at once. When the records hold all the bytes that the
 * hello's header says, it is read; in place if it is in one record, else out of a copy without the
 * records' headers.
 *
 * A cursor hands out the bytes. It says no for all that follows once a length did not fit, so that
 * each reader asks once, at its end.
 */
#include "proto/tls.h"

#include <string.h>

#include "proto/bytes.h"

#define RECORD_HEADER 5
#define RECORD_MAX 16384
#define RECORD_ENCRYPTED_MAX (RECORD_MAX + 256) /* RFC 8446, 5.2 */
#define VERSION_MAJOR 3
#define VERSION_TLS13 0x0304

enum { RECORD_CHANGE_CIPHER_SPEC = 20, RECORD_ALERT, RECORD_HANDSHAKE, RECORD_DATA };
enum { HANDSHAKE_CLIENT_HELLO = 1 };
enum { NAME_TYPE_HOST = 0 };

enum extension {
	EXTENSION_SERVER_NAME = 0,
	EXTENSION_ALPN = 16,
	EXTENSION_SUPPORTED_VERSIONS = 43,
	EXTENSION_ECH = 0xfe0d,
	EXTENSION_ESNI = 0xffce, /* what ECH was before: draft-ietf-tls-esni-01 */
};

/* ---- the cursor ---- */

/* Two pointers, so that it travels in registers; one that went too far has both at `nowhere`. */
struct cursor {
	const uint8_t *at, *end;
};

static const uint8_t nowhere[64];

static size_t left(const struct cursor *cursor)
{
	return (size_t)(cursor->end - cursor->at);
}

static bool bad(const struct cursor *cursor)
{
	return cursor->end == nowhere;
}

/* Return: the next `length` bytes; zeroes where there are none left. */
static const uint8_t *take(struct cursor *cursor, size_t length)
{
	const uint8_t *at = cursor->at;

	if (left(cursor) < length) {
		*cursor = (struct cursor){nowhere, nowhere};
		return nowhere;
	}
	cursor->at += length;
	return at;
}

static uint32_t take_8(struct cursor *cursor)
{
	return *take(cursor, 1);
}

static uint32_t take_16(struct cursor *cursor)
{
	return bytes_16(take(cursor, 2));
}

/* The next `length` bytes as a cursor of their own. */
static struct cursor take_part(struct cursor *cursor, size_t length)
{
	const uint8_t *at = take(cursor, length);

	return (struct cursor){at, bad(cursor) ? nowhere : at + length};
}

/* A part that says its own length, in a byte or in two. */
static struct cursor take_part_8(struct cursor *cursor)
{
	return take_part(cursor, take_8(cursor));
}

static struct cursor take_part_16(struct cursor *cursor)
{
	return take_part(cursor, take_16(cursor));
}

static enum tls_why ended(const struct cursor *cursor)
{
	return bad(cursor) || left(cursor) ? TLS_WHY_GRAMMAR : TLS_WHY_NONE;
}

/* ---- extensions ---- */

static enum tls_why read_server_name(struct cursor *data, struct tls_hello *hello)
{
	struct cursor list = take_part_16(data), name;
	const uint32_t type = take_8(&list);

	name = take_part_16(&list);
	if (bad(&list) || ended(data) || !left(&name))
		return TLS_WHY_GRAMMAR;
	if (left(&list) || type != NAME_TYPE_HOST)
		return TLS_WHY_NAMES;
	return domain_from_host(&hello->name, (const char *)name.at, left(&name)) < 0
		       ? TLS_WHY_NAME
		       : TLS_WHY_NONE;
}

static enum tls_why read_alpn(struct cursor *data, struct tls_hello *hello)
{
	struct cursor list = take_part_16(data);

	if (bad(&list) || ended(data) || !left(&list))
		return TLS_WHY_GRAMMAR;
	hello->alpn = list.at;
	hello->alpn_length = (uint16_t)left(&list);
	while (left(&list)) {
		const struct cursor protocol = take_part_8(&list);

		if (!left(&protocol))
			return TLS_WHY_GRAMMAR;
	}
	return ended(&list);
}

static enum tls_why read_versions(struct cursor *data, struct tls_hello *hello)
{
	struct cursor list = take_part_8(data);

	while (left(&list))
		if (take_16(&list) == VERSION_TLS13)
			hello->tls13 = true;
	return bad(&list) ? TLS_WHY_GRAMMAR : ended(data);
}

/* Those that are read; each of them may be there once (RFC 8446, 4.2). */
enum { SEEN_NAME = 1, SEEN_ALPN = 2, SEEN_VERSIONS = 4 };

static bool again(unsigned int *seen, unsigned int which)
{
	const bool before = *seen & which;

	*seen |= which;
	return before;
}

static enum tls_why read_extension(uint32_t type, struct cursor *data, struct tls_hello *hello,
				   unsigned int *seen)
{
	switch (type) {
	case EXTENSION_SERVER_NAME:
		return again(seen, SEEN_NAME) ? TLS_WHY_NAMES : read_server_name(data, hello);
	case EXTENSION_ALPN:
		return again(seen, SEEN_ALPN) ? TLS_WHY_GRAMMAR : read_alpn(data, hello);
	case EXTENSION_SUPPORTED_VERSIONS:
		return again(seen, SEEN_VERSIONS) ? TLS_WHY_GRAMMAR : read_versions(data, hello);
	case EXTENSION_ECH:
	case EXTENSION_ESNI:
		hello->ech = true;
		return TLS_WHY_NONE;
	default:
		return TLS_WHY_NONE;
	}
}

static enum tls_why read_extensions(struct cursor *list, struct tls_hello *hello)
{
	enum tls_why why = TLS_WHY_NONE;
	unsigned int seen = 0;

	while (left(list) && !why) {
		const uint32_t type = take_16(list);
		struct cursor data = take_part_16(list);

		if (!bad(list))
			why = read_extension(type, &data, hello, &seen);
	}
	return why ? why : ended(list);
}

/* ---- the hello ---- */

uint32_t tls_handshake_length(const uint8_t *bytes)
{
	return TLS_HANDSHAKE_HEADER + bytes_24(bytes + 1);
}

static enum tls_why read_hello(struct cursor *cursor, struct tls_hello *hello)
{
	const uint32_t major = take_16(cursor) >> 8;
	struct cursor session, suites, compressions, extensions;

	take(cursor, 32); /* random */
	session = take_part_8(cursor);
	suites = take_part_16(cursor);
	compressions = take_part_8(cursor);
	if (bad(cursor) || major != VERSION_MAJOR || left(&session) > 32 || !left(&suites) ||
	    left(&suites) % 2 || !left(&compressions))
		return TLS_WHY_GRAMMAR;
	if (!left(cursor))
		return TLS_WHY_NONE; /* TLS 1.2 may have none */
	extensions = take_part_16(cursor);
	if (ended(cursor))
		return TLS_WHY_GRAMMAR;
	return read_extensions(&extensions, hello);
}

enum tls_why tls_hello_read(const uint8_t *bytes, size_t length, struct tls_hello *ret_hello)
{
	struct cursor cursor = {bytes, bytes + length};

	if (length < TLS_HANDSHAKE_HEADER || bytes[0] != HANDSHAKE_CLIENT_HELLO ||
	    tls_handshake_length(bytes) != length)
		return TLS_WHY_GRAMMAR;
	take(&cursor, TLS_HANDSHAKE_HEADER);
	ret_hello->name.length = 0;
	ret_hello->name.text[0] = '\0';
	ret_hello->ech = ret_hello->tls13 = false;
	ret_hello->alpn = NULL;
	ret_hello->alpn_length = 0;
	ret_hello->end = 0;
	return read_hello(&cursor, ret_hello);
}

size_t tls_alpn_next(const struct tls_hello *hello, size_t *at, const uint8_t **ret_protocol)
{
	size_t length;

	if (*at >= hello->alpn_length)
		return 0;
	length = hello->alpn[*at];
	*ret_protocol = hello->alpn + *at + 1;
	*at += 1 + length;
	return length;
}

/* ---- records ---- */

void tls_reader_init(struct tls_reader *reader, bool second)
{
	*reader = (struct tls_reader){.second = second};
}

static enum tls_result not_tls(struct tls_reader *reader, enum tls_why why)
{
	reader->why = (uint8_t)why;
	return TLS_NOT;
}

/* May a record of this type be skipped? Only in front of a second hello. */
static bool is_skipped(const struct tls_reader *reader, uint8_t type)
{
	return reader->second && !reader->gathered &&
	       (type == RECORD_CHANGE_CIPHER_SPEC || type == RECORD_ALERT || type == RECORD_DATA);
}

/* A record's header, as much of it as is there. */
static enum tls_why check_header(const struct tls_reader *reader, const uint8_t *header,
				 size_t length)
{
	const bool skipped = length && is_skipped(reader, header[0]);
	size_t body;

	if ((length > 0 && header[0] != RECORD_HANDSHAKE && !skipped) ||
	    (length > 1 && header[1] != VERSION_MAJOR))
		return TLS_WHY_RECORD;
	if (length < RECORD_HEADER)
		return TLS_WHY_NONE;
	body = bytes_16(header + 3);
	if (!body || body > (skipped ? RECORD_ENCRYPTED_MAX : RECORD_MAX))
		return TLS_WHY_RECORD;
	if (reader->record + RECORD_HEADER + body > TLS_STREAM_MAX)
		return TLS_WHY_LENGTH;
	return TLS_WHY_NONE;
}

/* The hello without the records' headers; the part from `from` on, which ends at `upto`. */
static void copy_records(uint8_t *copy, const uint8_t *stream, size_t from, size_t upto)
{
	while (from < upto) {
		const size_t body = bytes_16(stream + from + 3);

		memcpy(copy, stream + from + RECORD_HEADER, body);
		copy += body;
		from += RECORD_HEADER + body;
	}
}

/* The bytes of the hello that are in whole records, in one piece. */
static const uint8_t *gathered(const struct tls_reader *reader, const uint8_t *stream,
			       uint8_t *scratch)
{
	if (reader->record - reader->from == RECORD_HEADER + reader->gathered)
		return stream + reader->from + RECORD_HEADER;
	copy_records(scratch, stream, reader->from, reader->record);
	return scratch;
}

/* One more record of the hello is whole. */
static enum tls_result read_gathered(struct tls_reader *reader, const uint8_t *stream,
				     uint8_t *scratch, struct tls_hello *ret_hello)
{
	enum tls_why why;

	if (reader->gathered < TLS_HANDSHAKE_HEADER)
		return TLS_MORE;
	if (!reader->wanted) {
		const uint8_t *hello = gathered(reader, stream, scratch);

		if (hello[0] != HANDSHAKE_CLIENT_HELLO)
			return not_tls(reader, TLS_WHY_GRAMMAR);
		reader->wanted = tls_handshake_length(hello);
	}
	if (reader->gathered > reader->wanted)
		return not_tls(reader, TLS_WHY_GRAMMAR);
	if (reader->wanted > TLS_STREAM_MAX)
		return not_tls(reader, TLS_WHY_LENGTH);
	if (reader->gathered < reader->wanted)
		return TLS_MORE;
	why = tls_hello_read(gathered(reader, stream, scratch), reader->wanted, ret_hello);
	if (why)
		return not_tls(reader, why);
	ret_hello->end = reader->record;
	return TLS_HELLO;
}

enum tls_result tls_reader_feed(struct tls_reader *reader, const uint8_t *stream, size_t length,
				uint8_t *scratch, struct tls_hello *ret_hello)
{
	enum tls_result result = TLS_MORE;

	while (result == TLS_MORE) {
		const uint8_t *header = stream + reader->record;
		const size_t have = length - reader->record;
		const enum tls_why why = check_header(reader, header, have);
		size_t body;

		if (why)
			return not_tls(reader, why);
		if (have < RECORD_HEADER)
			return TLS_MORE;
		body = bytes_16(header + 3);
		if (have < RECORD_HEADER + body)
			return TLS_MORE;
		reader->record += (uint32_t)(RECORD_HEADER + body);
		if (is_skipped(reader, header[0])) {
			reader->from = reader->record;
			continue;
		}
		reader->gathered += (uint32_t)body;
		result = read_gathered(reader, stream, scratch, ret_hello);
	}
	return result;
}
