/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a TLS server says first: is it a HelloRetryRequest, after which the client says another
 * hello? RFC 8446, 4.1.3 and 4.1.4. Honest servers are believed; one that is of one mind with the
 * client can serve whatever it likes.
 */
#ifndef NSGATE_PROTO_TLS_SERVER_H
#define NSGATE_PROTO_TLS_SERVER_H

#include <stddef.h>
#include <stdint.h>

#define TLS_SERVER_WANTED 38 /* type, length, version, random */

enum tls_server_result {
	TLS_SERVER_MORE,
	TLS_SERVER_HELLO, /* a ServerHello: the hello that it answers counts */
	TLS_SERVER_RETRY, /* a HelloRetryRequest */
	TLS_SERVER_OTHER, /* something else, such as a message of TLS 1.2, or no TLS at all */
};

/* The server's direction of a flow; zero at its start. */
struct tls_server {
	uint16_t left;	      /* bytes of the record that have not come */
	uint8_t header_have;  /* bytes of the record's header that have */
	uint8_t message_have; /* of the message */
	uint8_t header[5];
	uint8_t message[TLS_SERVER_WANTED];
};

/*
 * Read the next bytes of the server, in order and once; not after anything but TLS_SERVER_MORE.
 * Alerts are skipped, as a server may warn that it does not know the name (RFC 6066, 3) and go on.
 */
enum tls_server_result tls_server_feed(struct tls_server *server, const uint8_t *data,
				       size_t length);

#endif
