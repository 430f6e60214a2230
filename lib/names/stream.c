/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names/stream.h"

#include <string.h>

static bool is_same(const struct names_flow *a, const struct names_flow *b)
{
	return a->client_port == b->client_port && a->server_port == b->server_port &&
	       a->family == b->family && memcmp(&a->client, &b->client, sizeof(a->client)) == 0 &&
	       memcmp(&a->server, &b->server, sizeof(a->server)) == 0;
}

struct names_stream *names_stream_find(struct names_streams *streams, const struct names_flow *flow)
{
	for (size_t i = 0; i < NAMES_STREAMS_MAX; i++) {
		struct names_stream *stream = &streams->list[i];

		if (!stream->used || !is_same(&stream->flow, flow))
			continue;
		stream->used = ++streams->used;
		return stream;
	}
	return NULL;
}

static struct names_stream *least_used(struct names_streams *streams)
{
	struct names_stream *best = &streams->list[0];

	for (size_t i = 1; i < NAMES_STREAMS_MAX; i++)
		if (streams->list[i].used < best->used)
			best = &streams->list[i];
	return best;
}

void names_stream_begin(struct names_streams *streams, const struct names_flow *flow, uint32_t at)
{
	struct names_stream *stream = names_stream_find(streams, flow);

	if (stream && stream->client_next == at + 1) /* the SYN once more */
		return;
	if (!stream)
		stream = least_used(streams);
	stream->flow = *flow;
	stream->used = ++streams->used;
	stream->client_next = at + 1;
	stream->has_server_next = stream->is_lost = false;
	for (size_t i = 0; i < NAMES_STREAM_REPEATS; i++)
		stream->sent[i].length = 0;
	stream->sent_next = 0;
	stream->answers.have = 0;
}

static bool is_sent(const struct names_stream *stream, const struct names_segment *segment)
{
	for (size_t i = 0; i < NAMES_STREAM_REPEATS; i++) {
		const struct names_sent *sent = &stream->sent[i];

		if (sent->at == segment->at && sent->length == segment->length &&
		    memcmp(sent->bytes, segment->data, segment->length) == 0)
			return true;
	}
	return false;
}

enum names_sending names_stream_check(const struct names_stream *stream,
				      const struct names_segment *segment)
{
	if (segment->is_cut)
		return NAMES_SENDING_STRAY;
	if (segment->at == stream->client_next)
		return NAMES_SENDING_NEXT;
	return is_sent(stream, segment) ? NAMES_SENDING_REPEATED : NAMES_SENDING_STRAY;
}

void names_stream_sent(struct names_stream *stream, const struct names_segment *segment)
{
	struct names_sent *sent = &stream->sent[stream->sent_next++ % NAMES_STREAM_REPEATS];

	sent->at = segment->at;
	sent->length = segment->length <= NAMES_SENT_BYTES ? (uint16_t)segment->length : 0;
	memcpy(sent->bytes, segment->data, sent->length);
	stream->client_next = segment->at + (uint32_t)segment->length;
}

void names_stream_answered(struct names_stream *stream, uint32_t at)
{
	if (stream->has_server_next)
		return;
	stream->has_server_next = true;
	stream->server_next = at + 1;
}

bool names_stream_receive(struct names_stream *stream, const struct names_segment *segment,
			  bool *ret_new)
{
	*ret_new = false;
	if (stream->is_lost)
		return true;
	if (!stream->has_server_next || segment->is_cut) {
		stream->is_lost = true;
		return true;
	}
	if (segment->at != stream->server_next) /* what was there already may come again */
		return (int32_t)(segment->at + (uint32_t)segment->length - stream->server_next) <=
		       0;
	stream->server_next += (uint32_t)segment->length;
	*ret_new = true;
	return true;
}
