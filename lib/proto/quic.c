// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Every Initial packet of a datagram is opened and its CRYPTO frames are put where they belong;
 * clients send them in pieces, in any order, and repeat them cut differently. The pieces that are
 * there are a short list of ranges. Once the range that begins at 0 holds a whole message it is
 * read.
 *
 * Keys are made of the destination of the client's first Initial packet and stay those when the
 * client goes over to the ID that the server chose. A packet that they do not open is none of this
 * connection's, whatever its server may think of it.
 */
#include "proto/quic.h"

#include <errno.h>
#include <string.h>

enum frame {
	FRAME_PADDING = 0x00,
	FRAME_PING = 0x01,
	FRAME_ACK = 0x02,
	FRAME_ACK_ECN = 0x03,
	FRAME_CRYPTO = 0x06,
	FRAME_CLOSE = 0x1c,
};

void quic_reader_init(struct quic_reader *reader, uint8_t *crypto)
{
	*reader = (struct quic_reader){.crypto = crypto, .largest = -1};
}

static enum quic_result refuse(struct quic_reader *reader, enum quic_why why)
{
	reader->why = (uint8_t)why;
	return QUIC_NOT;
}

/* ---- the handshake's bytes ---- */

static bool agrees(const struct quic_reader *reader, const struct quic_range *stored,
		   const struct quic_range *range, const uint8_t *data)
{
	const uint16_t begin = stored->begin > range->begin ? stored->begin : range->begin;
	const uint16_t end = stored->end < range->end ? stored->end : range->end;

	return begin >= end ||
	       memcmp(reader->crypto + begin, data + (begin - range->begin), end - begin) == 0;
}

/* Put a range among the others; those that it touches become one with it. */
static enum quic_why add_range(struct quic_reader *reader, struct quic_range range)
{
	size_t from = 0, upto;

	while (from < reader->range_count && reader->ranges[from].end < range.begin)
		from++;
	for (upto = from; upto < reader->range_count && reader->ranges[upto].begin <= range.end;
	     upto++) {
		if (range.begin > reader->ranges[upto].begin)
			range.begin = reader->ranges[upto].begin;
		if (range.end < reader->ranges[upto].end)
			range.end = reader->ranges[upto].end;
	}
	if (upto == from && reader->range_count == QUIC_RANGES_MAX)
		return QUIC_WHY_LENGTH;
	memmove(&reader->ranges[from + 1], &reader->ranges[upto],
		(reader->range_count - upto) * sizeof(range));
	reader->ranges[from] = range;
	reader->range_count = (uint8_t)(reader->range_count + 1 - (upto - from));
	return QUIC_WHY_NONE;
}

static enum quic_why add_crypto(struct quic_reader *reader, uint64_t offset, const uint8_t *data,
				uint64_t length)
{
	struct quic_range range;
	enum quic_why why;

	if (offset > QUIC_CRYPTO_MAX || length > QUIC_CRYPTO_MAX - offset)
		return QUIC_WHY_LENGTH;
	if (!length)
		return QUIC_WHY_NONE;
	range = (struct quic_range){.begin = (uint16_t)offset, .end = (uint16_t)(offset + length)};
	for (size_t i = 0; i < reader->range_count; i++)
		if (!agrees(reader, &reader->ranges[i], &range, data))
			return QUIC_WHY_CONFLICT;
	why = add_range(reader, range);
	if (!why)
		memcpy(reader->crypto + offset, data, length);
	return why;
}

/* ---- frames: RFC 9000, 19 ---- */

struct frames {
	const uint8_t *bytes;
	size_t length, at;
	bool bad;
};

static uint64_t take_number(struct frames *frames)
{
	uint64_t number = 0;

	if (quic_number_read(frames->bytes, frames->length, &frames->at, &number) < 0)
		frames->bad = true;
	return number;
}

static const uint8_t *take_bytes(struct frames *frames, uint64_t length)
{
	const uint8_t *bytes = frames->bytes + frames->at;

	if (frames->bad || frames->length - frames->at < length) {
		frames->bad = true;
		return NULL;
	}
	frames->at += length;
	return bytes;
}

static void skip_ack(struct frames *frames, bool ecn)
{
	uint64_t ranges;

	take_number(frames); /* the largest */
	take_number(frames); /* the delay */
	ranges = take_number(frames);
	take_number(frames); /* the first range */
	for (; ranges > 0 && !frames->bad; ranges--) {
		take_number(frames);
		take_number(frames);
	}
	for (int i = 0; ecn && i < 3; i++)
		take_number(frames);
}

static void skip_close(struct frames *frames)
{
	take_number(frames); /* the error */
	take_number(frames); /* the frame that it is about */
	take_bytes(frames, take_number(frames));
}

static enum quic_why read_crypto(struct quic_reader *reader, struct frames *frames)
{
	const uint64_t offset = take_number(frames), length = take_number(frames);
	const uint8_t *data = take_bytes(frames, length);

	return data ? add_crypto(reader, offset, data, length) : QUIC_WHY_FRAME;
}

static enum quic_why read_frame(struct quic_reader *reader, struct frames *frames)
{
	switch (frames->bytes[frames->at++]) {
	case FRAME_PADDING:
	case FRAME_PING:
		break;
	case FRAME_ACK:
		skip_ack(frames, false);
		break;
	case FRAME_ACK_ECN:
		skip_ack(frames, true);
		break;
	case FRAME_CRYPTO:
		return read_crypto(reader, frames);
	case FRAME_CLOSE:
		skip_close(frames);
		break;
	default:
		return QUIC_WHY_FRAME;
	}
	return frames->bad ? QUIC_WHY_FRAME : QUIC_WHY_NONE;
}

/* There is much of it, as a client's datagram with Initial packets has 1200 bytes: RFC 9000, 14.1.
 */
static void skip_padding(struct frames *frames)
{
	uint64_t eight;

	for (; frames->length - frames->at >= sizeof(eight); frames->at += sizeof(eight)) {
		memcpy(&eight, frames->bytes + frames->at, sizeof(eight));
		if (eight)
			return;
	}
}

static enum quic_why read_frames(struct quic_reader *reader, const uint8_t *bytes, size_t length)
{
	struct frames frames = {.bytes = bytes, .length = length};
	enum quic_why why = length ? QUIC_WHY_NONE : QUIC_WHY_FRAME;

	while (frames.at < length && !why) {
		why = read_frame(reader, &frames);
		skip_padding(&frames);
	}
	return why;
}

/* ---- packets ---- */

/* Open a packet by the flow's keys, which are made where there are none of its version. */
static int open_packet(struct quic_reader *reader, const struct quic_packet *packet,
		       uint8_t *scratch, const uint8_t **ret_frames, size_t *ret_length)
{
	const struct quic_id id = {
		.bytes = reader->id_known ? reader->id : packet->destination.bytes,
		.length = reader->id_known ? reader->id_length : packet->destination.length};
	struct quic_keys keys = reader->keys;
	int64_t number;
	int err;

	if (keys.version != packet->version)
		quic_keys_derive(&keys, packet->version, &id);
	err = quic_keys_open(&keys, packet, reader->largest, scratch, &number, ret_frames,
			     ret_length);
	if (err == -EBADMSG)
		return err;
	reader->keys = keys;
	if (!reader->id_known) {
		memcpy(reader->id, id.bytes, id.length);
		reader->id_length = id.length;
		reader->id_known = true;
	}
	if (!err && reader->largest < number)
		reader->largest = number;
	return err;
}

static enum quic_result read_initial(struct quic_reader *reader, const struct quic_packet *packet,
				     uint8_t *scratch)
{
	const uint8_t *frames;
	enum quic_why why;
	size_t length;
	int err = open_packet(reader, packet, scratch, &frames, &length);

	if (err == -EBADMSG)
		return QUIC_DROP;
	why = err ? QUIC_WHY_FRAME : read_frames(reader, frames, length);
	return why ? refuse(reader, why) : QUIC_MORE;
}

static bool same_id(const struct quic_id *a, const struct quic_id *b)
{
	return a->length == b->length && (!a->length || memcmp(a->bytes, b->bytes, a->length) == 0);
}

/* A packet that is no Initial one: is the datagram to be dropped for it? */
static enum quic_result read_other(struct quic_reader *reader, const struct quic_packet *packet,
				   bool first)
{
	switch (packet->type) {
	case QUIC_PACKET_SHORT:
		return first && !reader->id_known ? refuse(reader, QUIC_WHY_HEADER) : QUIC_OTHER;
	case QUIC_PACKET_0RTT:
	case QUIC_PACKET_HANDSHAKE:
		return QUIC_OTHER;
	case QUIC_PACKET_VERSIONS: /* which no client sends */
	case QUIC_PACKET_UNKNOWN:
		return first ? refuse(reader, QUIC_WHY_VERSION) : QUIC_DROP;
	case QUIC_PACKET_RETRY: /* which no client sends, either */
	case QUIC_PACKET_INITIAL:
	case QUIC_PACKET_MAX:
	default:
		return QUIC_DROP;
	}
}

/* Each packet of a datagram; all with a long header are for the same destination. */
static enum quic_result read_packets(struct quic_reader *reader, const uint8_t *datagram,
				     size_t length, uint8_t *scratch)
{
	enum quic_result result = QUIC_OTHER;
	struct quic_id first = {.length = 0};
	size_t at = 0;

	while (at < length) {
		const bool is_first = at == 0;
		struct quic_packet packet;
		enum quic_result one;

		if (quic_packet_read(datagram, length, &at, &packet) < 0)
			return QUIC_DROP;
		if (is_first)
			first = packet.destination;
		else if (packet.type != QUIC_PACKET_SHORT && !same_id(&first, &packet.destination))
			return QUIC_DROP;
		one = packet.type == QUIC_PACKET_INITIAL ? read_initial(reader, &packet, scratch)
							 : read_other(reader, &packet, is_first);
		if (one == QUIC_DROP || one == QUIC_NOT)
			return one;
		if (one == QUIC_MORE)
			result = QUIC_MORE;
	}
	return result;
}

/* Is a hello whole now? */
static enum quic_result read_handshake(struct quic_reader *reader, struct tls_hello *ret_hello)
{
	const size_t have =
		reader->range_count && reader->ranges[0].begin == 0 ? reader->ranges[0].end : 0;
	const uint8_t *hello = reader->crypto + reader->hello;
	size_t length;
	enum tls_why why;

	if (have < (size_t)reader->hello + TLS_HANDSHAKE_HEADER)
		return QUIC_MORE;
	length = tls_handshake_length(hello);
	if (reader->hello + length > QUIC_CRYPTO_MAX)
		return refuse(reader, QUIC_WHY_LENGTH);
	if (have < reader->hello + length)
		return QUIC_MORE;
	why = tls_hello_read(hello, length, ret_hello);
	if (why) {
		reader->tls_why = (uint8_t)why;
		return refuse(reader, QUIC_WHY_HELLO);
	}
	reader->hello = (uint16_t)(reader->hello + length);
	reader->datagrams = 0;
	return QUIC_HELLO;
}

enum quic_result quic_reader_feed(struct quic_reader *reader, const uint8_t *datagram,
				  size_t length, uint8_t *scratch, struct tls_hello *ret_hello)
{
	enum quic_result result = read_packets(reader, datagram, length, scratch);

	if (result != QUIC_MORE)
		return result;
	result = read_handshake(reader, ret_hello);
	if (result != QUIC_MORE || reader->hello)
		return result;
	return ++reader->datagrams > QUIC_DATAGRAMS_MAX ? refuse(reader, QUIC_WHY_DATAGRAMS)
							: QUIC_MORE;
}

void quic_reader_retry(struct quic_reader *reader, const struct quic_id *id)
{
	reader->keys.version = 0;
	if (id->length)
		memcpy(reader->id, id->bytes, id->length);
	reader->id_length = id->length;
	reader->id_known = true;
}

unsigned int quic_server_seen(const uint8_t *datagram, size_t length, struct quic_id *ret_source)
{
	unsigned int seen = 0;
	struct quic_packet packet;
	size_t at = 0;

	*ret_source = (struct quic_id){.length = 0};
	while (at < length && quic_packet_read(datagram, length, &at, &packet) == 0) {
		if (!ret_source->length && packet.source.length)
			*ret_source = packet.source;
		seen |= QUIC_SEEN(packet.type);
	}
	return seen;
}
