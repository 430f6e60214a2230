// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Each reader has a ring of bytes. Events go in as whole lines; libmicrohttpd takes bytes out as
 * the socket accepts them. An empty ring suspends the connection, the next line resumes it. When
 * a line does not fit, it and all that follow are lost and counted until the ring has been read
 * empty; then the reader is told how many, in the place where they would have been.
 *
 * libmicrohttpd does not look at a suspended connection, so a reader that goes away unnoticed
 * would keep its place. Their sockets are watched here for the hang-up alone.
 */
#include "agent/api/events.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/api/api.h"
#include "agent/api/json.h"
#include "agent/api/peers.h"
#include "agent/api/request.h"
#include "agent/json_writer.h"
#include "name.h"
#include "agent/ns/ns.h"
#include "policy/policy.h"

#define RING_BYTES 65536 /* of one reader: about 200 events */
#define LINE_BYTES_MAX 4096
#define LOST_LINE_MAX 64
#define BLOCK_BYTES 16384
#define ANY_VERDICT (-1)
#define WOULD_DROP POLICY_VERDICT_MAX /* of an audit: accepted, but for that */

static const char *const verdict_names[] = {
	[POLICY_VERDICT_ACCEPT] = "accept", [POLICY_VERDICT_DROP] = "drop",
	[POLICY_VERDICT_REJECT] = "reject", [POLICY_VERDICT_QUEUE] = "queue",
	[WOULD_DROP] = "would_drop",
};
#define VERDICTS (POLICY_VERDICT_MAX + 1)
static_assert(sizeof(verdict_names) / sizeof(*verdict_names) == VERDICTS, "a name for each");

struct stream {
	struct stream *next;
	struct MHD_Connection *connection;
	int fd;			     /* the connection's */
	char netns[NSGATE_NAME_MAX]; /* only this one; "": all */
	int verdict;		     /* enum policy_verdict, WOULD_DROP or ANY_VERDICT */
	size_t start, used;	     /* of the ring */
	uint64_t lost;
	bool suspended, over;
	char ring[RING_BYTES];
};

static struct stream *streams;
static unsigned int stream_count;
static int epoll_fd = -1;

/* ---- one reader ---- */

static void wake(struct stream *stream)
{
	if (!stream->suspended)
		return;
	stream->suspended = false;
	api_resume(stream->connection);
}

static void ring_put(struct stream *stream, const char *data, size_t length)
{
	const size_t at = (stream->start + stream->used) % RING_BYTES;
	const size_t first = length < RING_BYTES - at ? length : RING_BYTES - at;

	memcpy(stream->ring + at, data, first);
	memcpy(stream->ring, data + first, length - first);
	stream->used += length;
}

static size_t ring_take(struct stream *stream, char *data, size_t length)
{
	size_t first;

	if (length > stream->used)
		length = stream->used;
	first = length < RING_BYTES - stream->start ? length : RING_BYTES - stream->start;
	memcpy(data, stream->ring + stream->start, first);
	memcpy(data + first, stream->ring, length - first);
	stream->start = (stream->start + length) % RING_BYTES;
	stream->used -= length;
	return length;
}

static void stream_put(struct stream *stream, const char *line, size_t length)
{
	if (stream->lost > 0 || length > RING_BYTES - stream->used) {
		stream->lost++;
		return;
	}
	ring_put(stream, line, length);
	wake(stream);
}

static void put_lost(struct stream *stream)
{
	char line[LOST_LINE_MAX];
	const int length = snprintf(line, sizeof(line), "{\"event\":\"lost\",\"count\":%llu}\n",
				    (unsigned long long)stream->lost);

	stream->lost = 0;
	ring_put(stream, line, (size_t)length);
}

/* libmicrohttpd asks for bytes. */
static ssize_t stream_read(void *context, uint64_t position, char *buffer, size_t size)
{
	struct stream *stream = context;

	(void)position;
	if (stream->over)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (stream->used == 0 && stream->lost > 0)
		put_lost(stream);
	if (stream->used == 0) {
		stream->suspended = true;
		MHD_suspend_connection(stream->connection);
		return 0;
	}
	return (ssize_t)ring_take(stream, buffer, size);
}

static void stream_free(void *context)
{
	struct stream *stream = context;
	struct stream **link = &streams;

	while (*link != stream)
		link = &(*link)->next;
	*link = stream->next;
	stream_count--;
	if (epoll_fd >= 0)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, stream->fd, NULL);
	free(stream);
}

static int watch(struct stream *stream)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(stream->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct epoll_event event = {.events = 0, .data.ptr = stream}; /* EPOLLHUP always comes */

	if (!info)
		return -EINVAL;
	stream->fd = info->connect_fd;
	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, stream->fd, &event) < 0 ? -errno : 0;
}

/* Return: whether the filters are as they should be. */
static bool read_filters(const struct api_request *request, struct stream *stream)
{
	const char *netns = api_query(request, "netns");
	const char *verdict = api_query(request, "verdict");

	stream->verdict = ANY_VERDICT;
	if (netns && !name_valid(netns))
		return false;
	if (netns)
		snprintf(stream->netns, sizeof(stream->netns), "%s", netns);
	if (!verdict)
		return true;
	for (int i = 0; i < VERDICTS; i++)
		if (strcmp(verdict, verdict_names[i]) == 0)
			stream->verdict = i;
	return stream->verdict != ANY_VERDICT;
}

static enum MHD_Result answer_stream(struct api_request *request, struct stream *stream)
{
	struct MHD_Response *response;
	enum MHD_Result result;

	stream->next = streams;
	streams = stream;
	stream_count++;
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, stream_read,
						     stream, stream_free);
	if (!response) {
		stream_free(stream);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
				      "application/x-ndjson");
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	/* A stream may be silent for long. */
	(void)MHD_set_connection_option(request->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
	result = MHD_queue_response(request->connection, MHD_HTTP_OK, response);
	MHD_destroy_response(response);
	return result;
}

enum MHD_Result api_get_events(struct api_request *request)
{
	const unsigned int kept = api_peers_may_change(request->connection) ? 0 : API_STREAMS_KEPT;
	struct stream *stream;

	if (stream_count >= API_STREAMS_MAX - kept)
		return api_problem(request, MHD_HTTP_SERVICE_UNAVAILABLE, "too-many-streams",
				   "%u readers of events are connected, the most there can be",
				   stream_count);
	stream = calloc(1, sizeof(*stream));
	if (!stream)
		return MHD_NO;
	stream->connection = request->connection;
	if (!read_filters(request, stream)) {
		free(stream);
		return api_problem(request, MHD_HTTP_BAD_REQUEST, "filter-bad",
				   "netns is the name of a namespace; verdict is one of accept, "
				   "drop, reject, queue, would_drop");
	}
	if (watch(stream) < 0) {
		free(stream);
		return MHD_NO;
	}
	return answer_stream(request, stream);
}

/* ---- events ---- */

static bool wanted(const struct stream *stream, const char *netns, int verdict)
{
	if (stream->over || (stream->netns[0] && (!netns || strcmp(stream->netns, netns) != 0)))
		return false;
	if (stream->verdict == ANY_VERDICT || stream->verdict == verdict)
		return true;
	return verdict == WOULD_DROP && stream->verdict == POLICY_VERDICT_ACCEPT; /* so it was */
}

static bool is_wanted(const char *netns, int verdict)
{
	for (const struct stream *stream = streams; stream; stream = stream->next)
		if (wanted(stream, netns, verdict))
			return true;
	return false;
}

/* Takes the writer's content. */
static void put_line(struct jw *w, const char *netns, int verdict)
{
	size_t length = 0;
	char *line;

	jw_close(w, '}');
	jw_text(w, "\n", 1);
	line = jw_take(w, &length);
	for (struct stream *stream = streams; stream; stream = stream->next) {
		if (!wanted(stream, netns, verdict))
			continue;
		if (line)
			stream_put(stream, line, length);
		else
			stream->lost++;
	}
	free(line);
}

static void begin_line(struct jw *w, const char *kind, int64_t seconds, long nanoseconds)
{
	char time_text[API_TIME_MAX];

	api_time(seconds, nanoseconds, time_text);
	jw_init(w, LINE_BYTES_MAX);
	jw_open(w, NULL, '{');
	jw_string(w, "event", kind);
	jw_string(w, "time", time_text);
}

static const char *rule_name(const struct ns *ns, const struct event *event)
{
	const struct policy_info *info = ns->policy ? policy_info(ns->policy) : NULL;

	if (event->rule == POLICY_RULE_DEFAULT)
		return "default";
	if (!info || event->generation != ns->generation || event->rule < 0 ||
	    (size_t)event->rule >= info->rule_count)
		return NULL;
	return info->rules[event->rule].name;
}

static const char *protocol_name(uint8_t protocol, char ret[4])
{
	switch (protocol) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_ICMP:
		return "icmp";
	case IPPROTO_ICMPV6:
		return "icmpv6";
	case IPPROTO_SCTP:
		return "sctp";
	default:
		snprintf(ret, 4, "%u", protocol);
		return ret;
	}
}

static void write_headers(struct jw *w, const struct event *event)
{
	char address[INET6_ADDRSTRLEN], number[4];
	const bool v6 = event->family == AF_INET6;

	if (event->direction < SHM_DIRECTION_MAX)
		jw_string(w, "direction", api_direction_names[event->direction]);
	if (!v6 && event->family != AF_INET)
		return; /* malformed: nothing is known */
	jw_string(w, "family", v6 ? "ipv6" : "ipv4");
	jw_string(w, "protocol", protocol_name(event->protocol, number));
	jw_string(w, "src", inet_ntop(event->family, event->src.bytes, address, sizeof(address)));
	jw_string(w, "dst", inet_ntop(event->family, event->dst.bytes, address, sizeof(address)));
	if (event->has_ports) {
		jw_uint(w, "sport", event->sport);
		jw_uint(w, "dport", event->dport);
	}
	if (event->protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		jw_uint(w, "icmp_type", event->icmp_type);
		jw_uint(w, "icmp_code", event->icmp_code);
	}
}

void api_event_packet(const struct event *event)
{
	const struct ns *ns = streams ? ns_find_cookie(event->cookie) : NULL;
	const int verdict = event->would_drop ? (int)WOULD_DROP : event->verdict;
	struct jw w;

	if (!ns || event->verdict >= POLICY_VERDICT_MAX || !is_wanted(ns->record.name, verdict))
		return;
	begin_line(&w, "packet", (int64_t)(event->time_ns / 1000000000),
		   (long)(event->time_ns % 1000000000));
	jw_string(&w, "netns", ns->record.name);
	jw_string(&w, "policy", ns->record.policy);
	jw_uint(&w, "generation", event->generation);
	jw_string(&w, "rule", rule_name(ns, event));
	jw_string(&w, "verdict", verdict_names[verdict]);
	if (event->would_drop)
		jw_bool(&w, "would_drop", true);
	write_headers(&w, event);
	jw_uint(&w, "length", event->length);
	put_line(&w, ns->record.name, verdict);
}

void api_event_note(const char *kind, const char *netns, const char *detail)
{
	struct timespec now;
	struct jw w;

	if (!is_wanted(netns, ANY_VERDICT))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	begin_line(&w, kind, now.tv_sec, now.tv_nsec);
	if (netns)
		jw_string(&w, "netns", netns);
	if (detail)
		jw_string(&w, "detail", detail);
	put_line(&w, netns, ANY_VERDICT);
}

/* ---- all readers ---- */

int api_events_start(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return epoll_fd < 0 ? -errno : 0;
}

static void end_stream(struct stream *stream)
{
	stream->over = true;
	wake(stream);
}

void api_events_end(void)
{
	for (struct stream *stream = streams; stream; stream = stream->next)
		end_stream(stream);
}

void api_events_stop(void)
{
	if (epoll_fd >= 0)
		close(epoll_fd);
	epoll_fd = -1;
}

int api_events_fd(void)
{
	return epoll_fd;
}

void api_events_run(void)
{
	struct epoll_event events[API_STREAMS_MAX];
	const int count = epoll_wait(epoll_fd, events, API_STREAMS_MAX, 0);

	for (int i = 0; i < count; i++) {
		struct stream *stream = events[i].data.ptr;

		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, stream->fd, NULL);
		end_stream(stream);
	}
}
