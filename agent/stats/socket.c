// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Clients that are accepted together share one document, made after the last of them connected;
 * so a crowd costs no more than one reader. What a client's socket does not take at once is sent
 * as it reads.
 */
#include "agent/stats/socket.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/front.h"
#include "agent/json_writer.h"
#include "log.h"
#include "agent/stats/stats.h"
#include "loop.h"

#define EVENTS_AT_ONCE 16
#define NO_DOCUMENT                                                                                \
	"{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"              \
	"\"code\":\"answer-too-large\",\"detail\":\"no memory for the document, or it is too "     \
	"large; ask for one namespace at a time\"}\n"

struct document {
	char *data;
	size_t length;
	unsigned int users;
};

struct client {
	int fd; /* -1: free */
	struct document *document;
	size_t sent;
	int64_t deadline_ms;
};

static struct client clients[STATS_CLIENTS_MAX];
static unsigned int client_count;
static int epoll_fd = -1, listener = -1;
static bool listening; /* the listener is watched */

/* ---- documents ---- */

static struct document *make_document(void)
{
	struct document *document = calloc(1, sizeof(*document));
	struct jw w;

	if (!document)
		return NULL;
	jw_init(&w, STATS_BYTES_MAX);
	if (stats_write_all(&w) < 0)
		w.error = -ENOMEM;
	jw_text(&w, "\n", 1);
	document->data = jw_take(&w, &document->length);
	return document;
}

static void release_document(struct document *document)
{
	if (!document || --document->users > 0)
		return;
	free(document->data);
	free(document);
}

/* ---- clients ---- */

static void listen_while_room(void)
{
	const bool wanted = client_count < STATS_CLIENTS_MAX;
	struct epoll_event event = {.events = wanted ? EPOLLIN : 0, .data.ptr = NULL};

	if (wanted != listening && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, listener, &event) == 0)
		listening = wanted;
}

static void drop_client(struct client *client)
{
	close(client->fd);
	client->fd = -1;
	release_document(client->document);
	client->document = NULL;
	client_count--;
	listen_while_room();
}

static void serve_client(struct client *client)
{
	static const char none[] = NO_DOCUMENT;
	const struct document *document = client->document;
	const bool made = document && document->data;
	const char *data = made ? document->data : none;
	const size_t length = made ? document->length : sizeof(none) - 1;

	while (client->sent < length) {
		const ssize_t sent = send(client->fd, data + client->sent, length - client->sent,
					  MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0)
			break;
		client->sent += (size_t)sent;
	}
	drop_client(client);
}

/* Return: the client, or NULL where nobody (more) can be accepted now. */
static struct client *accept_client(void)
{
	struct epoll_event event = {.events = EPOLLOUT};
	struct client *client = clients;
	static struct log_limit limit;
	unsigned int suppressed;
	uid_t uid;
	int fd;

	if (client_count == STATS_CLIENTS_MAX)
		return NULL;
	fd = front_accept(listener, &uid);
	if (fd < 0) {
		if (fd != -EAGAIN && fd != -ECONNABORTED && fd != -EINTR && fd != -ENOTCONN &&
		    log_allowed(&limit, 1, &suppressed))
			log_event(LOG_LEVEL_WARNING, "stats.accept_failed", "error", log_errno(fd),
				  "suppressed", log_number(suppressed), NULL);
		return NULL;
	}
	while (client->fd >= 0)
		client++;
	event.data.ptr = client;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		close(fd);
		return NULL;
	}
	*client = (struct client){.fd = fd, .deadline_ms = loop_now_ms() + STATS_CLIENT_MS};
	client_count++;
	return client;
}

static void accept_clients(void)
{
	struct client *accepted[STATS_CLIENTS_MAX];
	unsigned int count = 0;
	struct document *document;

	while ((accepted[count] = accept_client())) {
		if (++count == STATS_CLIENTS_MAX)
			break;
	}
	if (count == 0)
		return;
	listen_while_room();
	document = make_document();
	if (document)
		document->users = count;
	for (unsigned int i = 0; i < count; i++)
		accepted[i]->document = document;
	for (unsigned int i = 0; i < count; i++)
		serve_client(accepted[i]);
}

static void expire_clients(void)
{
	const int64_t now = loop_now_ms();

	for (unsigned int i = 0; i < STATS_CLIENTS_MAX; i++)
		if (clients[i].fd >= 0 && clients[i].deadline_ms <= now)
			drop_client(&clients[i]);
}

/* ---- the socket ---- */

int stats_socket_start(int listen_fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
	int error;

	for (unsigned int i = 0; i < STATS_CLIENTS_MAX; i++)
		clients[i].fd = -1;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		return -errno;
	listener = listen_fd;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) < 0) {
		error = -errno;
		stats_socket_stop();
		return error;
	}
	listening = true;
	return 0;
}

void stats_socket_stop(void)
{
	if (epoll_fd < 0)
		return;
	for (unsigned int i = 0; i < STATS_CLIENTS_MAX; i++)
		if (clients[i].fd >= 0)
			drop_client(&clients[i]);
	close(epoll_fd);
	epoll_fd = -1;
	listener = -1;
}

int stats_socket_fd(void)
{
	return epoll_fd;
}

void stats_socket_run(void)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	const int count = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, 0);
	bool accepting = false;

	for (int i = 0; i < count; i++) {
		struct client *client = events[i].data.ptr;

		if (!client)
			accepting = true;
		else if (client->fd >= 0)
			serve_client(client);
	}
	if (client_count > 0)
		expire_clients();
	if (accepting)
		accept_clients();
}

int stats_socket_timeout_ms(void)
{
	int64_t first = INT64_MAX;

	for (unsigned int i = 0; i < STATS_CLIENTS_MAX; i++)
		if (clients[i].fd >= 0 && clients[i].deadline_ms < first)
			first = clients[i].deadline_ms;
	if (epoll_fd < 0 || first == INT64_MAX)
		return -1;
	return loop_left_ms(first);
}
