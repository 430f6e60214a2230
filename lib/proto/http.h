/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each request of a flow in clear text, and where the next one begins: RFC 9112 (HTTP/1.1), RFC
 * 9110.
 *
 * Promised: what is told as a request, and where its body ends, has one reading. Lines end in CR
 * LF, a name ends in its colon, there is one Host, one length at most, or chunks, and no byte that
 * readers know to take for something else. All else is refused: it is not guessed what a server
 * would do. Refused, too, though well-formed: CONNECT, Upgrade, HTTP/2, chunks with extensions or
 * trailers, transfer codings other than chunked, empty lines between requests, targets with a user
 * in them. Not promised: anything about the path, the body, or what the server makes of both.
 */
#ifndef NSGATE_PROTO_HTTP_H
#define NSGATE_PROTO_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/domain.h"

#define HTTP_HEAD_MAX 8192
#define HTTP_METHOD_MAX 32

enum http_result {
	HTTP_MORE,    /* all was taken, and no further head is whole */
	HTTP_REQUEST, /* a head is whole; feed the rest after judging it */
	HTTP_REFUSE,  /* it cannot be framed for certain; it stays so. See enum http_why */
};

enum http_why {
	HTTP_WHY_NONE,
	HTTP_WHY_LINE,	  /* a request line that is none, or another version */
	HTTP_WHY_FIELD,	  /* a header line that is none, or a control character */
	HTTP_WHY_HOST,	  /* not one Host, none that can be read, or another one in the target */
	HTTP_WHY_LENGTH,  /* lengths that are none, two, or one beside chunks; bad chunks */
	HTTP_WHY_UPGRADE, /* CONNECT, Upgrade */
	HTTP_WHY_LONG,	  /* over HTTP_HEAD_MAX, or over HTTP_METHOD_MAX */
	HTTP_WHY_MAX
};

struct http_request {
	char method[HTTP_METHOD_MAX + 1]; /* as it was sent: methods are told apart by case */
	struct domain host;		  /* of length 0: it is an address */
	uint16_t port;			  /* that Host names; 0: none */
};

/* The client's direction of a flow; zero at its start. */
struct http_reader {
	uint64_t left; /* bytes of the body or chunk; or its size so far */
	uint16_t have; /* bytes in `head` */
	uint8_t state;
	uint8_t digits; /* of a chunk's size */
	uint8_t why;	/* enum http_why, where HTTP_REFUSE was told */
	char head[HTTP_HEAD_MAX];
};

/*
 * Take the next bytes of the client, in order and once.
 * @ret_used: how many: up to the end of the head that is whole, or all
 * @ret_request: written with HTTP_REQUEST only
 */
enum http_result http_reader_feed(struct http_reader *reader, const uint8_t *data, size_t length,
				  size_t *ret_used, struct http_request *ret_request);

#endif
