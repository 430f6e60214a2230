/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes that one side of a TCP flow has sent, as the other side can only have them: RFC
 * 9293, 3.4.
 *
 * Promised: if only those segments pass that are STREAM_NEW or STREAM_KNOWN, then each sequence
 * number passes with one byte value only until it is acknowledged, and in order. So whatever a
 * receiver does with segments that overlap, and whichever of them it never gets, it assembles the
 * bytes that are here. Not promised: anything about the segment's other fields. Flags, data before
 * the handshake is over, the acknowledgement's truth are the caller's to check.
 */
#ifndef NSGATE_PROTO_STREAM_H
#define NSGATE_PROTO_STREAM_H

#include <stddef.h>
#include <stdint.h>

struct stream {
	uint32_t first; /* sequence number of the byte at the front of `bytes` */
	uint32_t acked; /* all before this one are acknowledged and need not be compared */
	uint32_t next;	/* of the byte that comes next in order */
	uint32_t room;	/* of `bytes`; a power of two */
	uint8_t *bytes; /* the caller's; a ring of what is not acknowledged */
};

enum stream_result {
	STREAM_NEW,	 /* some bytes at its end are new, and stored */
	STREAM_KNOWN,	 /* all of it is stored and the same, or acknowledged, or it is empty */
	STREAM_GAP,	 /* it begins behind what comes next */
	STREAM_CONFLICT, /* a byte differs from the one that is stored */
	STREAM_BEFORE,	 /* it begins before the flow does */
	STREAM_FULL,	 /* more would not be acknowledged than there is room for */
	STREAM_MAX
};

/* @first: the sequence number of the first byte, one more than the SYN's */
void stream_init(struct stream *stream, uint32_t first, uint8_t *bytes, uint32_t room);

/*
 * Take a segment. What is not NEW changes nothing.
 * @ret_new: how many bytes at its end are new; 0 unless STREAM_NEW
 */
enum stream_result stream_feed(struct stream *stream, uint32_t seq, const uint8_t *data,
			       size_t length, size_t *ret_new);

/* The receiver has all before `ack`; one that was never sent is not believed. */
void stream_ack(struct stream *stream, uint32_t ack);

/*
 * Make `first` the front of the bytes, so that the ring is one piece again.
 * @first: from `acked` to `next`, and no more than `room` lies behind the front yet
 */
void stream_restart(struct stream *stream, uint32_t first);

/* How many bytes have come in order, from the front on. */
static inline uint32_t stream_length(const struct stream *stream)
{
	return stream->next - stream->first;
}

#endif
