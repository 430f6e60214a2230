/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ClientHello of a TLS flow, as soon as it is whole: RFC 8446, 4.1.2 and 5.1; RFC
 * 5246, 7.4.1.2; RFC 6066, 3 (server_name); RFC 7301, 3.1 (ALPN); RFC 9849 (ECH).
 *
 * Promised: what is told as a hello has one reading. Its lengths fill each other exactly, nothing
 * follows it in its record, and there is one name at most, that of a host. Everything else is not
 * TLS. Not promised: that a server would take it. Versions, suites and extensions of no concern
 * here are not looked into. Behind an ECH extension there may be another name, or nothing at all
 * (GREASE).
 */
#ifndef NSGATE_PROTO_TLS_H
#define NSGATE_PROTO_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/domain.h"

/* Of the stream, to the end of the hello. */
#define TLS_STREAM_MAX 16384

enum tls_result {
	TLS_MORE,  /* it may become a hello */
	TLS_HELLO, /* it is one */
	TLS_NOT,   /* it is not TLS, or none that is judged; see enum tls_why */
};

enum tls_why {
	TLS_WHY_NONE,
	TLS_WHY_RECORD,	 /* it does not begin with a handshake's records */
	TLS_WHY_LENGTH,	 /* it is longer than TLS_STREAM_MAX */
	TLS_WHY_GRAMMAR, /* not a ClientHello, or lengths that do not fit each other */
	TLS_WHY_NAME,	 /* the name is no host's: an address, a NUL, a zone, other bytes */
	TLS_WHY_NAMES,	 /* two names, or a name of another kind */
	TLS_WHY_MAX
};

struct tls_hello {
	uint32_t end;	     /* where its last record ends in the stream; not of QUIC */
	struct domain name;  /* of length 0: it has none */
	bool ech;	     /* an extension for an encrypted hello, or one that looks like it */
	bool tls13;	     /* it offers TLS 1.3 */
	const uint8_t *alpn; /* what tls_alpn_next() reads; of the stream or of `scratch` */
	uint16_t alpn_length;
};

/* One direction of a flow; see tls_reader_init(). */
struct tls_reader {
	uint32_t record;   /* where the next record begins in the stream */
	uint32_t from;	   /* where the first one of the hello does */
	uint32_t gathered; /* bytes of the hello in the records before */
	uint32_t wanted;   /* bytes of the whole hello; 0: its header is not there */
	bool second;	   /* it follows a HelloRetryRequest */
	uint8_t why;	   /* enum tls_why; where TLS_NOT was told */
};

/*
 * @second: the stream begins behind a first hello. Other records may come before the hello then:
 * change_cipher_spec, alerts, and early data that the server skips (RFC 8446, 4.2.10, appendix
 * D.4).
 */
void tls_reader_init(struct tls_reader *reader, bool second);

/*
 * Read on; not after anything but TLS_MORE.
 * @stream: all of it from the front, `length` bytes that have come in order so far; it may move and
 * grow between calls, but what was there stays
 * @scratch: TLS_STREAM_MAX bytes, for a hello in several records; may be shared by all flows
 * @ret_hello: written with TLS_HELLO only
 */
enum tls_result tls_reader_feed(struct tls_reader *reader, const uint8_t *stream, size_t length,
				uint8_t *scratch, struct tls_hello *ret_hello);

/*
 * Read a ClientHello without records, from its type on, as QUIC has it (RFC 9001, 4.1.3).
 * Return: TLS_WHY_NONE, or why it is none.
 */
enum tls_why tls_hello_read(const uint8_t *bytes, size_t length, struct tls_hello *ret_hello);

/* How long is the handshake message, its header with it? Four bytes of it are there. */
uint32_t tls_handshake_length(const uint8_t *bytes);
#define TLS_HANDSHAKE_HEADER 4

/*
 * The next protocol that the client offers, first to last.
 * @at: 0 at first
 * Return: its length; 0 after the last.
 */
size_t tls_alpn_next(const struct tls_hello *hello, size_t *at, const uint8_t **ret_protocol);

#endif
