/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DNS messages in a TCP stream, each behind its length: RFC 1035, 4.2.2; RFC 7766. They may come
 * one after the other and in any pieces.
 */
#ifndef NSGATE_PROTO_DNS_STREAM_H
#define NSGATE_PROTO_DNS_STREAM_H

#include <stddef.h>
#include <stdint.h>

#define DNS_STREAM_MESSAGE_MAX 4096

enum dns_stream_result {
	DNS_STREAM_MORE,    /* all was taken, no message is whole */
	DNS_STREAM_MESSAGE, /* one is whole; feed the rest after judging it */
	DNS_STREAM_BAD,	    /* too short for a header or too long; it stays so */
};

/* One direction of a flow; zero at its start. */
struct dns_stream {
	uint16_t have;				   /* bytes, of the length and the message */
	uint8_t bytes[2 + DNS_STREAM_MESSAGE_MAX]; /* length, message */
};

/*
 * Take the next bytes of the stream, in order and once.
 * @ret_used: how many belong to the message that is whole, or all
 */
enum dns_stream_result dns_stream_feed(struct dns_stream *stream, const uint8_t *data,
				       size_t length, size_t *ret_used);

/* The message that DNS_STREAM_MESSAGE told of, until more is fed. Return: its length. */
size_t dns_stream_message(const struct dns_stream *stream, const uint8_t **ret_bytes);

#endif
