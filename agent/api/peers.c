// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/api/peers.h"

#include <stddef.h>
#include <sys/socket.h>

#include "agent/front.h"
#include "ipc.h"
#include "log.h"

#define REFUSALS_LOGGED 1 /* a second */

static const struct daemon_admins *admins_;

/* A place for each connection that there can be. */
static struct peer {
	bool used, may_change;
	uid_t uid;
} peers[API_CONNECTIONS_MAX];

/* Connections that nsgate-front handed over, and whose they are. */
static struct handed {
	int fd; /* -1: a free place */
	bool begun;
	uid_t uid;
} handed[API_CONNECTIONS_MAX];

void api_peers_start(const struct daemon_admins *admins)
{
	admins_ = admins;
	for (unsigned int i = 0; i < API_CONNECTIONS_MAX; i++)
		handed[i].fd = -1;
}

/* ---- handed over ---- */

/* `fd` -1: a free place. Return: NULL where there is none. */
static struct handed *find_handed(int fd)
{
	for (unsigned int i = 0; i < API_CONNECTIONS_MAX; i++)
		if (handed[i].fd == fd)
			return &handed[i];
	return NULL;
}

bool api_peers_expect(int fd, uid_t uid)
{
	struct handed *place = find_handed(-1);

	if (place)
		*place = (struct handed){.fd = fd, .uid = uid};
	return place != NULL;
}

void api_peers_expect_none(void)
{
	for (unsigned int i = 0; i < API_CONNECTIONS_MAX; i++)
		if (!handed[i].begun)
			handed[i].fd = -1;
}

static bool uid_handed(int fd, uid_t *ret_uid)
{
	struct handed *it = find_handed(fd);

	if (!it)
		return false;
	it->begun = true;
	*ret_uid = it->uid;
	return true;
}

/* ---- connected ---- */

static int fd_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	return info ? info->connect_fd : -1;
}

/* Return: its descriptor, or -1. */
static int peer_of(struct MHD_Connection *connection, uid_t *ret_uid)
{
	const int fd = fd_of(connection);
	gid_t gid;
	pid_t pid;

	if (fd < 0)
		return -1;
	if (front_is_open())
		return uid_handed(fd, ret_uid) ? fd : -1;
	return ipc_peer(fd, ret_uid, &gid, &pid) < 0 ? -1 : fd;
}

static void peer_gone(struct MHD_Connection *connection, struct peer *peer)
{
	const int fd = fd_of(connection);
	struct handed *it = fd < 0 ? NULL : find_handed(fd);

	if (it)
		it->fd = -1;
	if (peer)
		peer->used = false;
}

static bool may_change(uid_t uid)
{
	return uid == 0 || daemon_is_admin(admins_, uid);
}

bool api_peers_may_change(struct MHD_Connection *connection)
{
	uid_t uid;

	return peer_of(connection, &uid) >= 0 && may_change(uid);
}

/* Return: its place; NULL: there is none for it. */
static struct peer *admit(uid_t uid)
{
	unsigned int of_uid = 0, readers = 0;
	struct peer *unused = NULL;

	for (unsigned int i = 0; i < API_CONNECTIONS_MAX; i++) {
		struct peer *peer = &peers[i];

		if (!peer->used)
			unused = peer;
		readers += peer->used && !peer->may_change;
		of_uid += peer->used && peer->uid == uid;
	}
	if (!may_change(uid) && (of_uid >= API_CONNECTIONS_OF_UID ||
				 readers >= API_CONNECTIONS_MAX - API_CONNECTIONS_KEPT))
		return NULL;
	if (unused)
		*unused = (struct peer){.used = true, .may_change = may_change(uid), .uid = uid};
	return unused;
}

/* The library can't refuse a connection any more: it finds it ended by the other side. */
static void turn_away(int fd, uid_t uid)
{
	static const char answer[] =
		"HTTP/1.1 503 Service Unavailable\r\n"
		"Content-Type: application/problem+json\r\nConnection: close\r\n\r\n"
		"{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"
		"\"code\":\"too-many-connections\",\"detail\":\"those who may only read hold as "
		"many connections as they may; close some\"}";
	static struct log_limit limit;
	unsigned int suppressed;

	if (log_allowed(&limit, REFUSALS_LOGGED, &suppressed))
		log_event(LOG_LEVEL_WARNING, "api.refused", "uid", log_number(uid), "why",
			  "too many connections of those who may only read", "suppressed",
			  suppressed ? log_number(suppressed) : NULL, NULL);
	(void)!send(fd, answer, sizeof(answer) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(fd, SHUT_RDWR);
}

void api_peers_notify(void *context, struct MHD_Connection *connection, void **socket_context,
		      enum MHD_ConnectionNotificationCode code)
{
	struct peer *peer = *socket_context;
	uid_t uid = 0;
	int fd;

	(void)context;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		peer_gone(connection, peer);
		return;
	}
	fd = peer_of(connection, &uid);
	peer = fd < 0 ? NULL : admit(uid);
	*socket_context = peer;
	if (!peer && fd >= 0)
		turn_away(fd, uid);
}
