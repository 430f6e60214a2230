/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * Connections by which queries go. Of what a client sends, a segment passes if it is whole messages
 * and goes on where the last one ended; so what the server reads is what was judged, however
 * segments overlap. Others are dropped, and their sender repeats them, together. A segment that is
 * repeated passes if it is byte for byte one of the last that did.
 *
 * What the server sends is put together to find the answers; it passes in order only, so that an
 * answer is learnt before its end passes.
 *
 * A connection that began before we looked, or that was forgotten for newer ones, is not known:
 * what its client sends is refused.
 */
#ifndef NSGATE_NAMES_STREAM_H
#define NSGATE_NAMES_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pkt.h"
#include "proto/dns_stream.h"

#define NAMES_STREAMS_MAX 128
#define NAMES_STREAM_REPEATS 4
#define NAMES_SENT_BYTES 512

struct names_flow {
	struct pkt_addr client, server;
	uint16_t client_port, server_port;
	uint8_t family;
};

struct names_stream {
	struct names_flow flow;
	uint64_t used; /* counts up; 0: unused */
	uint32_t client_next, server_next;
	bool has_server_next;
	bool is_lost; /* what the server sends cannot be read any more */
	struct names_sent {
		uint32_t at;
		uint16_t length; /* 0: too long to be kept, and not known when it is repeated */
		uint8_t bytes[NAMES_SENT_BYTES];
	} sent[NAMES_STREAM_REPEATS];
	unsigned int sent_next;
	struct dns_stream answers;
};

struct names_streams {
	struct names_stream list[NAMES_STREAMS_MAX];
	uint64_t used;
};

struct names_segment {
	uint32_t at; /* its sequence number */
	const uint8_t *data;
	size_t length;
	bool is_cut; /* there is more of it than was copied */
};

/* The connection, or NULL. */
struct names_stream *names_stream_find(struct names_streams *streams,
				       const struct names_flow *flow);

/* A client's SYN with that sequence number. The connection used longest ago makes room. */
void names_stream_begin(struct names_streams *streams, const struct names_flow *flow, uint32_t at);

enum names_sending {
	NAMES_SENDING_NEXT,	/* to be judged: names_stream_sent() if it passes */
	NAMES_SENDING_REPEATED, /* has passed before */
	NAMES_SENDING_STRAY,	/* to be dropped */
};
enum names_sending names_stream_check(const struct names_stream *stream,
				      const struct names_segment *segment);
void names_stream_sent(struct names_stream *stream, const struct names_segment *segment);

/* The server's SYN. */
void names_stream_answered(struct names_stream *stream, uint32_t at);

/*
 * What the server sends: may it pass now? If so, feed `segment->data` to stream->answers, where
 * *ret_new says that it is new.
 */
bool names_stream_receive(struct names_stream *stream, const struct names_segment *segment,
			  bool *ret_new);

#endif
