// SPDX-License-Identifier: GPL-2.0-or-later
#include "proto/tls_server.h"

#include <string.h>

#include "proto/bytes.h"

enum { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22 };
enum { HANDSHAKE_SERVER_HELLO = 2 };

/* The random of a ServerHello that is a HelloRetryRequest: SHA-256 of "HelloRetryRequest". */
static const uint8_t retry_random[32] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11,
					 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
					 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e,
					 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};

static enum tls_server_result read_header(struct tls_server *server, uint8_t byte)
{
	server->header[server->header_have++] = byte;
	if (server->header_have < sizeof(server->header))
		return TLS_SERVER_MORE;
	server->left = bytes_16(server->header + 3);
	if ((server->header[0] != RECORD_HANDSHAKE && server->header[0] != RECORD_ALERT) ||
	    server->header[1] != 3 || !server->left)
		return TLS_SERVER_OTHER;
	return TLS_SERVER_MORE;
}

static enum tls_server_result read_body(struct tls_server *server, uint8_t byte)
{
	server->left--;
	if (!server->left)
		server->header_have = 0;
	if (server->header[0] == RECORD_ALERT)
		return TLS_SERVER_MORE;
	server->message[server->message_have++] = byte;
	if (server->message[0] != HANDSHAKE_SERVER_HELLO)
		return TLS_SERVER_OTHER;
	if (server->message_have < TLS_SERVER_WANTED)
		return TLS_SERVER_MORE;
	return memcmp(server->message + 6, retry_random, sizeof(retry_random)) == 0
		       ? TLS_SERVER_RETRY
		       : TLS_SERVER_HELLO;
}

enum tls_server_result tls_server_feed(struct tls_server *server, const uint8_t *data,
				       size_t length)
{
	enum tls_server_result result = TLS_SERVER_MORE;

	for (size_t i = 0; i < length && result == TLS_SERVER_MORE; i++)
		result = server->header_have < sizeof(server->header) ? read_header(server, data[i])
								      : read_body(server, data[i]);
	return result;
}
