// SPDX-License-Identifier: GPL-2.0-or-later
#include "proto/stream.h"

#include <stdbool.h>
#include <string.h>

/* Sequence numbers go round: a comes before b. */
static bool before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

void stream_init(struct stream *stream, uint32_t first, uint8_t *bytes, uint32_t room)
{
	*stream = (struct stream){
		.first = first, .acked = first, .next = first, .room = room, .bytes = bytes};
}

/* The place of a byte, and how many of `length` lie behind it before the ring's end. */
static uint8_t *place(const struct stream *stream, uint32_t seq, size_t length, size_t *ret_piece)
{
	const uint32_t at = (seq - stream->first) & (stream->room - 1);

	*ret_piece = length < stream->room - at ? length : stream->room - at;
	return stream->bytes + at;
}

static bool same(const struct stream *stream, uint32_t seq, const uint8_t *data, size_t length)
{
	while (length > 0) {
		size_t piece;
		const uint8_t *stored = place(stream, seq, length, &piece);

		if (memcmp(stored, data, piece) != 0)
			return false;
		seq += (uint32_t)piece;
		data += piece;
		length -= piece;
	}
	return true;
}

static void store(struct stream *stream, const uint8_t *data, size_t length)
{
	while (length > 0) {
		size_t piece;
		uint8_t *stored = place(stream, stream->next, length, &piece);

		memcpy(stored, data, piece);
		stream->next += (uint32_t)piece;
		data += piece;
		length -= piece;
	}
}

enum stream_result stream_feed(struct stream *stream, uint32_t seq, const uint8_t *data,
			       size_t length, size_t *ret_new)
{
	size_t known;

	*ret_new = 0;
	if (!length)
		return STREAM_KNOWN;
	if (before(stream->next, seq))
		return STREAM_GAP;
	if (before(seq, stream->acked)) {
		const uint32_t old = stream->acked - seq;

		if (stream->acked == stream->first)
			return STREAM_BEFORE;
		if (length <= old)
			return STREAM_KNOWN;
		seq += old;
		data += old;
		length -= old;
	}
	known = stream->next - seq < length ? stream->next - seq : length;
	if (!same(stream, seq, data, known))
		return STREAM_CONFLICT;
	if (known == length)
		return STREAM_KNOWN;
	if (length > stream->room - (seq - stream->acked))
		return STREAM_FULL;
	store(stream, data + known, length - known);
	*ret_new = length - known;
	return STREAM_NEW;
}

void stream_ack(struct stream *stream, uint32_t ack)
{
	if (before(stream->acked, ack) && !before(stream->next, ack))
		stream->acked = ack;
}

void stream_restart(struct stream *stream, uint32_t first)
{
	memmove(stream->bytes, stream->bytes + (first - stream->first), stream->next - first);
	stream->first = first;
	if (before(stream->acked, first))
		stream->acked = first;
}
