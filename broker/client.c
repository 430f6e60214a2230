// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/client.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc.h"

void client_reply(struct client *client, uint32_t id, enum nsgate_status status, const char *format,
		  ...)
{
	struct nsgate_msg_reply reply = {.status = status};
	va_list args;

	ipc_header(&reply.header, NSGATE_MSG_REPLY, id);
	if (format) {
		va_start(args, format);
		vsnprintf(reply.text, sizeof(reply.text), format, args);
		va_end(args);
	}
	/* A client that does not read its answers is cut off; the loop then closes it. */
	if (ipc_send(client->source.fd, &reply.header, NULL, 0) < 0)
		shutdown(client->source.fd, SHUT_RDWR);
}

void client_detached(struct client *client, const char *name)
{
	struct nsgate_msg_detach notice = {.name = ""};

	ipc_header(&notice.header, NSGATE_MSG_DETACH, 0);
	memcpy(notice.name, name, strnlen(name, sizeof(notice.name) - 1));
	if (ipc_send(client->source.fd, &notice.header, NULL, 0) < 0)
		shutdown(client->source.fd, SHUT_RDWR);
}
