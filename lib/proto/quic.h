/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ClientHello of a QUIC flow, versions 1 and 2: RFC 9000, 7.5, 12.2, 17.2.2 and 19; RFC 9001,
 * 4.1.3; RFC 9369.
 *
 * Promised: of the handshake's bytes that pass in Initial packets each offset has one value; what
 * is told as a hello has one reading (tls.h). A packet that the keys of the flow do not open never
 * passes. Not promised: anything about other versions, and about a datagram without Initial
 * packets, which is only told. A server takes an Initial packet with another first destination for
 * another connection of the same addresses and ports: such packets are not authentic here, so they
 * must come here, as long as the flow lives, or its server's addresses must be bound to the name.
 */
#ifndef NSGATE_PROTO_QUIC_H
#define NSGATE_PROTO_QUIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/quic_keys.h"
#include "proto/quic_packet.h"
#include "proto/tls.h"

#define QUIC_CRYPTO_MAX 16384 /* bytes of the handshake */
#define QUIC_DATAGRAMS_MAX 8  /* until a hello is whole */
#define QUIC_RANGES_MAX 32    /* pieces of it, out of order, at a time */

enum quic_result {
	QUIC_MORE,  /* the datagram may pass; no hello is whole, or no further one */
	QUIC_HELLO, /* with it one is whole */
	QUIC_OTHER, /* nothing in it is Initial: early data, Handshake, or short headers */
	QUIC_DROP,  /* a packet in it is not authentic or not whole; it must not pass */
	QUIC_NOT,   /* it is not QUIC, or none that is judged; see enum quic_why */
};

enum quic_why {
	QUIC_WHY_NONE,
	QUIC_WHY_HEADER,    /* the flow's first datagram has no long header */
	QUIC_WHY_VERSION,   /* another version */
	QUIC_WHY_FRAME,	    /* a frame that is none or has no place in an Initial packet */
	QUIC_WHY_CONFLICT,  /* two values for one byte of the handshake */
	QUIC_WHY_LENGTH,    /* over QUIC_CRYPTO_MAX, or over QUIC_RANGES_MAX pieces */
	QUIC_WHY_DATAGRAMS, /* over QUIC_DATAGRAMS_MAX */
	QUIC_WHY_HELLO,	    /* what it carries is no hello: see `tls_why` */
	QUIC_WHY_MAX
};

struct quic_range {
	uint16_t begin, end;
};

/* The client's direction of a flow; see quic_reader_init(). */
struct quic_reader {
	uint8_t *crypto; /* the caller's */
	struct quic_keys keys;
	int64_t largest; /* packet number, of authentic ones; -1: none */
	uint8_t id[QUIC_ID_MAX];
	uint8_t id_length; /* of the connection ID that keys are made of */
	bool id_known;
	uint8_t datagrams; /* since the last hello */
	uint8_t why;	   /* enum quic_why, where QUIC_NOT was told */
	uint8_t tls_why;   /* enum tls_why */
	uint8_t range_count;
	uint16_t hello;				   /* where the hello begins that is not whole */
	struct quic_range ranges[QUIC_RANGES_MAX]; /* of `crypto`; apart, in order */
};

/* @crypto: QUIC_CRYPTO_MAX bytes, for as long as the flow is read */
void quic_reader_init(struct quic_reader *reader, uint8_t *crypto);

/*
 * Read a datagram of the client; not after QUIC_NOT. After QUIC_HELLO a second hello may come,
 * where the server asked for it.
 * @scratch: QUIC_PACKET_BYTES_MAX bytes; may be shared by all flows
 * @ret_hello: written with QUIC_HELLO only; it points into `crypto`
 */
enum quic_result quic_reader_feed(struct quic_reader *reader, const uint8_t *datagram,
				  size_t length, uint8_t *scratch, struct tls_hello *ret_hello);

/*
 * The server sent a Retry: the keys are made of its ID now (RFC 9001, 5.2). What was read of the
 * handshake stays, as the client has to repeat it (RFC 9000, 17.2.5.2).
 * @id: the source ID of the Retry
 */
void quic_reader_retry(struct quic_reader *reader, const struct quic_id *id);

/* ---- the server ---- */

#define QUIC_SEEN(type) (1u << (type))

/*
 * What packets are in a datagram of the server? A Handshake packet says that it took a hello.
 * @ret_source: the ID that the server chose, of the first packet with a long header; length 0: none
 * Return: QUIC_SEEN() of each type; those up to a packet that is not whole.
 */
unsigned int quic_server_seen(const uint8_t *datagram, size_t length, struct quic_id *ret_source);

#endif
