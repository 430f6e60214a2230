// SPDX-License-Identifier: GPL-2.0-or-later
#include "proto/dns_stream.h"

#include <string.h>

#include "proto/bytes.h"
#include "proto/dns_name.h"

#define PREFIX 2

/* How many bytes the message and its length are; the length is there. 0: it cannot be. */
static size_t wanted(const struct dns_stream *stream)
{
	const size_t length = bytes_16(stream->bytes);

	return length >= DNS_HEADER && length <= DNS_STREAM_MESSAGE_MAX ? PREFIX + length : 0;
}

static size_t fill(struct dns_stream *stream, size_t upto, const uint8_t *data, size_t length)
{
	const size_t missing = upto - stream->have;
	const size_t taken = length < missing ? length : missing;

	memcpy(stream->bytes + stream->have, data, taken);
	stream->have = (uint16_t)(stream->have + taken);
	return taken;
}

enum dns_stream_result dns_stream_feed(struct dns_stream *stream, const uint8_t *data,
				       size_t length, size_t *ret_used)
{
	size_t used = 0;

	if (stream->have > PREFIX && stream->have == wanted(stream))
		stream->have = 0; /* that one was judged */
	if (stream->have < PREFIX && length)
		used = fill(stream, PREFIX, data, length);
	*ret_used = used;
	if (stream->have < PREFIX)
		return DNS_STREAM_MORE;
	if (!wanted(stream))
		return DNS_STREAM_BAD;
	if (used < length)
		used += fill(stream, wanted(stream), data + used, length - used);
	*ret_used = used;
	return stream->have == wanted(stream) ? DNS_STREAM_MESSAGE : DNS_STREAM_MORE;
}

size_t dns_stream_message(const struct dns_stream *stream, const uint8_t **ret_bytes)
{
	*ret_bytes = stream->bytes + PREFIX;
	return (size_t)stream->have - PREFIX;
}
