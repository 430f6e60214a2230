// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * libmicrohttpd runs inside the control thread, driven by its own epoll descriptor, which is
 * nested with those of the streams and of stats.sock into the one that api_fd() returns.
 *
 * A request is looked up in the table of routes as soon as its headers are there. What is wrong
 * with it then (no such path, method, permission) is answered when its body has been read and
 * thrown away, because a client that is still sending may never look for an early answer. Only a
 * body of a size beyond all reason is answered at once, or cut off.
 *
 * Identity is SO_PEERCRED of the connection. Whoever could connect may read: the socket's mode
 * and group decide that.
 */
#include "agent/api/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/api/change.h"
#include "agent/api/events.h"
#include "agent/api/peers.h"
#include "agent/api/ready.h"
#include "agent/api/request.h"
#include "agent/front.h"
#include "log.h"
#include "agent/stats/socket.h"

#define DISCARD_MAX (8 * API_BODY_MAX) /* bytes of a body that are read only to be polite */
#define BODY_FIRST 4096

static struct MHD_Daemon *daemon_;
static int epoll_fd = -1;
static int front_fd = -1; /* where nsgate-front hands clients over; -1: the library listens */
static bool taking;	  /* they are waited for */

/* ---- a request ---- */

static uint64_t announced_length(struct MHD_Connection *connection)
{
	const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
							 MHD_HTTP_HEADER_CONTENT_LENGTH);

	return length ? strtoull(length, NULL, 10) : 0;
}

static enum MHD_Result refuse(struct api_request *request)
{
	switch (request->refused) {
	case MHD_HTTP_BAD_REQUEST:
		return api_problem(request, MHD_HTTP_BAD_REQUEST, "host-bad",
				   "a request of HTTP/1.1 has one header Host, a host's name or "
				   "nothing (RFC 9112); \"Host: localhost\" will do");
	case MHD_HTTP_METHOD_NOT_ALLOWED:
		return api_problem_method(request, request->url);
	case MHD_HTTP_FORBIDDEN:
		return api_problem(request, MHD_HTTP_FORBIDDEN, "not-permitted",
				   "changing needs uid 0 or a uid that the agent was told of "
				   "(--admin)");
	case MHD_HTTP_CONTENT_TOO_LARGE:
		return api_problem(request, MHD_HTTP_CONTENT_TOO_LARGE, "body-too-large",
				   "the body is larger than %d bytes", API_BODY_MAX);
	default:
		return api_problem(request, MHD_HTTP_NOT_FOUND, "no-such-path",
				   "there is nothing at %.256s", request->url);
	}
}

static enum MHD_Result dispatch(struct api_request *request)
{
	if (request->refused)
		return refuse(request);
	if (request->route->takes_body && request->body_length == 0)
		return api_problem(request, MHD_HTTP_BAD_REQUEST, "body-empty",
				   "the request has no body; send the JSON document");
	return request->route->handler(request);
}

/* The path of a URL in absolute form, http://HOST/PATH; any other is returned as it is. */
static const char *path_of(const char *url)
{
	static const char scheme[] = "http://";
	const char *authority = url + sizeof(scheme) - 1;

	if (strncasecmp(url, scheme, sizeof(scheme) - 1) != 0)
		return url;
	url = authority + strcspn(authority, "/");
	return *url ? url : "/";
}

struct hosts {
	unsigned int count;
	bool good;
};

static enum MHD_Result look_at_host(void *context, enum MHD_ValueKind kind, const char *key,
				    const char *value)
{
	/* RFC 3986: unreserved, sub-delims, the brackets of IPv6, an escape, the port's colon */
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-._~!$&'()*+,;=[]%:";
	struct hosts *hosts = context;

	(void)kind;
	if (strcasecmp(key, MHD_HTTP_HEADER_HOST) != 0)
		return MHD_YES;
	hosts->count++;
	hosts->good = !value || !value[strspn(value, allowed)];
	return MHD_YES;
}

/* RFC 9112, 3.2: without it, or with two, who is asked is not clear. */
static bool host_good(struct MHD_Connection *connection, const char *version)
{
	struct hosts hosts = {.count = 0};

	if (strncmp(version, "HTTP/1.", 7) != 0 || strcmp(version, MHD_HTTP_VERSION_1_0) == 0)
		return true;
	(void)MHD_get_connection_values(connection, MHD_HEADER_KIND, look_at_host, &hosts);
	return hosts.count == 1 && hosts.good;
}

/* The headers are there. */
static enum MHD_Result begin_request(struct api_request *request, const char *method,
				     const char *version)
{
	const uint64_t length = announced_length(request->connection);

	request->refused = host_good(request->connection, version)
				   ? api_route_find(request, method, request->url)
				   : MHD_HTTP_BAD_REQUEST;
	if (!request->refused && request->route->changes &&
	    !api_peers_may_change(request->connection))
		request->refused = MHD_HTTP_FORBIDDEN;
	if (!request->refused && length > API_BODY_MAX)
		request->refused = MHD_HTTP_CONTENT_TOO_LARGE;
	if (length > DISCARD_MAX) {
		if (request->refused != MHD_HTTP_FORBIDDEN)
			request->refused = MHD_HTTP_CONTENT_TOO_LARGE;
		return refuse(request);
	}
	return MHD_YES;
}

static bool keep_body(struct api_request *request, const char *data, size_t length)
{
	size_t size = request->body_size ? request->body_size : BODY_FIRST;
	char *body;

	while (size <= request->body_length + length)
		size *= 2;
	if (size != request->body_size) {
		body = realloc(request->body, size);
		if (!body)
			return false;
		request->body = body;
		request->body_size = size;
	}
	memcpy(request->body + request->body_length, data, length);
	request->body_length += length;
	request->body[request->body_length] = '\0';
	return true;
}

static enum MHD_Result take_body(struct api_request *request, const char *data, size_t length)
{
	request->body_seen += length;
	if (request->body_seen > DISCARD_MAX)
		return MHD_NO;
	if (!request->refused && request->body_seen > API_BODY_MAX)
		request->refused = MHD_HTTP_CONTENT_TOO_LARGE;
	if (request->refused || !request->route->takes_body)
		return MHD_YES;
	return keep_body(request, data, length) ? MHD_YES : MHD_NO;
}

/* Called when the headers are there, for each part of the body, at the end, and after a resume. */
static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
			      const char *method, const char *version, const char *data,
			      size_t *length, void **state)
{
	struct api_request *request = *state;

	(void)context;
	if (!request) {
		request = calloc(1, sizeof(*request));
		if (!request)
			return MHD_NO;
		*state = request;
		request->connection = connection;
		request->url = path_of(url);
		return begin_request(request, method, version);
	}
	request->url = path_of(url);
	if (*length > 0) {
		const size_t part = *length;

		*length = 0;
		return take_body(request, data, part);
	}
	if (request->change)
		return api_change_resumed(request);
	if (request->ready.waits)
		return api_ready_resumed(request);
	return dispatch(request);
}

static void completed(void *context, struct MHD_Connection *connection, void **state,
		      enum MHD_RequestTerminationCode code)
{
	struct api_request *request = *state;

	(void)context;
	(void)connection;
	(void)code;
	if (!request)
		return;
	api_change_forget(request);
	api_ready_forget(request);
	free(request->body);
	free(request);
	*state = NULL;
}

/* ---- the daemon ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Percent-decoding in place. What is no escape, and an escaped NUL, stays as it is. */
static size_t unescape(void *context, struct MHD_Connection *connection, char *text)
{
	char *to = text;

	(void)context;
	(void)connection;
	for (const char *from = text; *from; from++) {
		const int high = *from == '%' ? hex_digit(from[1]) : -1;
		const int low = high >= 0 ? hex_digit(from[2]) : -1;

		if (low >= 0 && high + low > 0) {
			*to++ = (char)(high << 4 | low);
			from += 2;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return (size_t)(to - text);
}

static void log_daemon(void *context, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));
static void log_daemon(void *context, const char *format, va_list args)
{
	static struct log_limit limit;
	unsigned int suppressed;
	char text[256];

	(void)context;
	if (!log_allowed(&limit, 5, &suppressed))
		return;
	vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = '\0';
	log_event(LOG_LEVEL_DEBUG, "http", "text", text, "suppressed", log_number(suppressed),
		  NULL);
}

/* `listen_fd` -1: it is given its connections. */
static int start_daemon(int listen_fd)
{
	const struct MHD_OptionItem listens[] = {
		{listen_fd < 0 ? MHD_OPTION_END : MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL},
		{MHD_OPTION_END, 0, NULL},
	};
	const unsigned int without = listen_fd < 0 ? MHD_USE_NO_LISTEN_SOCKET : 0;

	errno = 0;
	daemon_ = MHD_start_daemon(
		without | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL,
		NULL, handle, NULL, MHD_OPTION_EXTERNAL_LOGGER, log_daemon, NULL, MHD_OPTION_ARRAY,
		listens, MHD_OPTION_CONNECTION_LIMIT, (unsigned int)API_CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)API_IDLE_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)API_HEADER_BYTES_MAX,
		MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_NOTIFY_CONNECTION,
		api_peers_notify, NULL, MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
		MHD_OPTION_END);
	if (!daemon_)
		return errno ? -errno : -EIO;
	return 0;
}

static int watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int api_start(const struct api_config *config)
{
	const union MHD_DaemonInfo *info;
	int err;

	api_peers_start(config->admins);
	front_fd = front_is_open() ? config->api_fd : -1;
	taking = true;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		return -errno;
	err = api_events_start();
	if (!err)
		err = stats_socket_start(config->stats_fd);
	if (!err)
		err = start_daemon(front_is_open() ? -1 : config->api_fd);
	if (!err) {
		info = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD);
		err = info ? watch(info->epoll_fd) : -EIO;
	}
	if (!err)
		err = watch(stats_socket_fd());
	if (!err)
		err = watch(api_events_fd());
	if (!err && front_fd >= 0)
		err = watch(front_fd);
	if (err)
		api_stop();
	return err;
}

void api_stop(void)
{
	if (epoll_fd < 0)
		return;
	api_events_end();
	api_change_stop();
	api_ready_stop();
	if (daemon_) {
		(void)MHD_run(daemon_); /* lets streams end rather than break */
		/* It closes a listening socket unless told to leave it alone. */
		(void)MHD_quiesce_daemon(daemon_);
		MHD_stop_daemon(daemon_);
	}
	daemon_ = NULL;
	api_events_stop();
	stats_socket_stop();
	close(epoll_fd);
	epoll_fd = -1;
}

int api_fd(void)
{
	return epoll_fd;
}

static unsigned int connection_count(void)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

	return info ? info->num_connections : 0;
}

/* ---- clients that nsgate-front hands over ---- */

static void take_while_room(void)
{
	const bool wanted = connection_count() < API_CONNECTIONS_MAX;
	struct epoll_event event = {.events = wanted ? EPOLLIN : 0, .data.fd = front_fd};

	if (front_fd >= 0 && wanted != taking &&
	    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, front_fd, &event) == 0)
		taking = wanted;
}

static void take_clients(void)
{
	static const struct sockaddr address = {.sa_family = AF_UNIX};
	unsigned int room = API_CONNECTIONS_MAX - connection_count();
	uid_t uid;
	int fd;

	for (; room > 0 && (fd = front_accept(front_fd, &uid)) >= 0; room--)
		if (api_peers_expect(fd, uid))
			/* It closes what it cannot have. */
			(void)MHD_add_connection(daemon_, fd, &address, sizeof(address));
		else
			close(fd);
}

void api_run(void)
{
	unsigned int before;

	api_change_expire();
	api_ready_expire();
	api_events_run();
	stats_socket_run();
	if (front_fd >= 0)
		take_clients();
	/*
	 * At its limit the library stops listening, and when a connection ends it listens again
	 * only in the run after: no event would cause that one.
	 */
	do {
		before = connection_count();
		api_resume_done();
		(void)MHD_run(daemon_);
	} while (connection_count() < before);
	api_peers_expect_none();
	take_while_room();
}

static int sooner(int one, int other)
{
	if (one < 0)
		return other;
	return other < 0 || one < other ? one : other;
}

int api_timeout_ms(void)
{
	MHD_UNSIGNED_LONG_LONG ms;
	int timeout = -1;

	if (api_resume_due())
		return 0;
	if (MHD_get_timeout(daemon_, &ms) == MHD_YES)
		timeout = ms > 60000 ? 60000 : (int)ms;
	timeout = sooner(timeout, api_change_timeout_ms());
	timeout = sooner(timeout, api_ready_timeout_ms());
	return sooner(timeout, stats_socket_timeout_ms());
}
