// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * A client and the agent's end of a socket pair are two sides. Bytes go from one to the other as
 * fast as the other takes them, and wait where they came from, in the kernel: nothing is kept here.
 * So what is next is looked at in place (MSG_PEEK), sent, and then taken away. That is also how
 * descriptors are found, as looking at them says that there was no room for them (MSG_CTRUNC).
 * They are never received, neither to be kept nor to be closed: to close one can take as long as
 * its sender likes. The connection that they wait in is closed by a child (fd_discard.h).
 *
 * Everything that is closed is looked through to its end first, when nothing more can come.
 *
 * Out-of-band data would pass unseen; SO_OOBINLINE makes it bytes like others.
 *
 * epoll reports edges, and each report has both directions moved until nothing more moves. EPOLLOUT
 * is asked for where a side was full.
 */
#include "front/relay.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "fd_discard.h"
#include "log.h"

#define CHUNK 65536
#define ROUNDS 16	  /* chunks of one client before it is another one's turn */
#define LOOKS 64	  /* chunks that are looked at before a connection is closed */
#define PATIENCE_MS 30000 /* with a client that does not read, once the agent has closed */
#define RETRY_MS 1000
#define TRAPS_LOGGED 1 /* a second */

enum side { CLIENT, AGENT, SIDES };

struct relay {
	int fds[SIDES];	     /* CLIENT -1: a free place */
	bool ended[SIDES];   /* nothing more comes from it */
	bool hung_up[SIDES]; /* it takes nothing more, either */
	bool full[SIDES];    /* and EPOLLOUT is asked for */
	bool more;	     /* there is, but it was another one's turn */
	bool trapped;	     /* descriptors wait in the client's connection */
	uid_t uid;
	int64_t moved_ms; /* when the client last took something */
};

/* Those of api.sock, then those of stats.sock. */
static struct relay relays[RELAYS];
static int epoll_fd;
static char chunk[CHUNK];

static const struct {
	unsigned int first, end;
} places[NSGATE_FRONT_MAX] = {
	[NSGATE_FRONT_API] = {0, NSGATE_API_CLIENTS_MAX},
	[NSGATE_FRONT_STATS] = {NSGATE_API_CLIENTS_MAX, RELAYS},
};

static int64_t now_ms(void)
{
	return (int64_t)(clock_ns(CLOCK_MONOTONIC) / 1000000);
}

/* ---- bytes ---- */

enum moved {
	MOVED_SOME,
	MOVED_NONE, /* nothing is there */
	MOVED_FULL, /* no room there */
	MOVED_END,  /* and nothing will be */
	MOVED_TRAP, /* descriptors */
};

/* What is next from there, up to CHUNK bytes. @ret_length: of it, where it is MOVED_SOME. */
static enum moved look(int fd, size_t *ret_length)
{
	struct iovec part = {.iov_base = chunk, .iov_len = sizeof(chunk)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	ssize_t length;

	/* That the other side left something unread is told once. */
	do
		length = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
	while (length < 0 && (errno == EINTR || errno == ECONNRESET));
	if (length < 0)
		return errno == EAGAIN ? MOVED_NONE : MOVED_END;
	if (message.msg_flags & MSG_CTRUNC)
		return MOVED_TRAP;
	*ret_length = (size_t)length;
	return length ? MOVED_SOME : MOVED_END;
}

/* Take away what was looked at. */
static void take(int fd, size_t length)
{
	while (length > 0) {
		const ssize_t taken = recv(fd, chunk, length, MSG_DONTWAIT);

		if (taken < 0 && errno == EINTR)
			continue;
		if (taken <= 0)
			return;
		length -= (size_t)taken;
	}
}

static enum moved move(int from, int to)
{
	size_t length;
	const enum moved found = look(from, &length);
	ssize_t sent;

	if (found != MOVED_SOME)
		return found;
	do
		sent = send(to, chunk, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN ? MOVED_FULL : MOVED_END; /* nobody takes it */
	take(from, (size_t)sent);
	return MOVED_SOME;
}

/* ---- the end of a client ---- */

/* Nothing more can come. Return: descriptors are there, or so much that it was not all looked at */
static bool may_be_trap(int fd)
{
	size_t length;

	for (unsigned int i = 0; i < LOOKS; i++) {
		const enum moved found = look(fd, &length);

		if (found != MOVED_SOME)
			return found == MOVED_TRAP;
		take(fd, length);
	}
	return true;
}

static void log_trap(const struct relay *relay)
{
	static struct log_limit limit;
	unsigned int suppressed;

	if (log_allowed(&limit, TRAPS_LOGGED, &suppressed))
		log_event(LOG_LEVEL_WARNING, "api.descriptors", "uid", log_number(relay->uid),
			  "why", "who sends descriptors is cut off", "suppressed",
			  suppressed ? log_number(suppressed) : NULL, NULL);
}

/* A child that cannot be made now is tried for again. */
static void discard(struct relay *relay)
{
	if (fd_discard(relay->fds[CLIENT]) == 0)
		relay->fds[CLIENT] = -1;
}

/* A child may hold copies, for a moment: epoll forgets only what it is told to forget. */
static void forget(struct relay *relay, enum side side)
{
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, relay->fds[side], NULL);
}

static void finish(struct relay *relay)
{
	forget(relay, AGENT);
	if (relay->fds[AGENT] >= 0)
		close(relay->fds[AGENT]);
	relay->fds[AGENT] = -1;
	forget(relay, CLIENT);
	shutdown(relay->fds[CLIENT], SHUT_RDWR);
	if (!relay->trapped)
		relay->trapped = may_be_trap(relay->fds[CLIENT]);
	if (relay->trapped) {
		log_trap(relay);
		discard(relay);
		return;
	}
	close(relay->fds[CLIENT]);
	relay->fds[CLIENT] = -1;
}

/* ---- a client ---- */

static bool is_free(const struct relay *relay)
{
	return relay->fds[CLIENT] < 0;
}

static bool is_served(const struct relay *relay)
{
	return !is_free(relay) && relay->fds[AGENT] >= 0;
}

/* The agent has closed, and the client has yet to read. */
static bool is_late(const struct relay *relay)
{
	return is_served(relay) && relay->hung_up[AGENT];
}

static int watch(struct relay *relay, enum side side, int how)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (relay->full[side] ? EPOLLOUT : 0),
		.data.u32 = (uint32_t)(relay - relays) * SIDES + side,
	};

	return epoll_ctl(epoll_fd, how, relay->fds[side], &event);
}

static void set_full(struct relay *relay, enum side side, bool full)
{
	if (relay->full[side] == full)
		return;
	relay->full[side] = full;
	(void)watch(relay, side, EPOLL_CTL_MOD);
}

static void move_from(struct relay *relay, enum side from)
{
	const enum side to = from == CLIENT ? AGENT : CLIENT;
	enum moved moved = MOVED_SOME;
	unsigned int rounds = 0;

	while (moved == MOVED_SOME && rounds++ < ROUNDS) {
		moved = move(relay->fds[from], relay->fds[to]);
		if (moved == MOVED_SOME && to == CLIENT)
			relay->moved_ms = now_ms();
	}
	set_full(relay, to, moved == MOVED_FULL);
	relay->more |= moved == MOVED_SOME;
	relay->trapped |= moved == MOVED_TRAP;
	relay->ended[from] = moved == MOVED_END;
	if (moved == MOVED_END && from == CLIENT)
		shutdown(relay->fds[AGENT], SHUT_WR);
}

/* The agent says its last word last. */
static bool is_over(const struct relay *relay)
{
	return relay->trapped || relay->ended[AGENT] ||
	       (relay->ended[CLIENT] && relay->hung_up[CLIENT]);
}

static void serve(struct relay *relay)
{
	relay->more = false;
	for (enum side from = CLIENT; from < SIDES; from++)
		if (!relay->ended[from] && !relay->trapped)
			move_from(relay, from);
	if (is_over(relay))
		finish(relay);
}

void relay_start(int fd)
{
	epoll_fd = fd;
	for (unsigned int i = 0; i < RELAYS; i++)
		relays[i].fds[CLIENT] = relays[i].fds[AGENT] = -1;
}

/* Return: a free place, else the one of whom the agent has done with for longest, else NULL. */
static struct relay *place_for(enum nsgate_front_kind kind)
{
	struct relay *late = NULL;

	for (unsigned int i = places[kind].first; i < places[kind].end; i++) {
		if (is_free(&relays[i]))
			return &relays[i];
		if (is_late(&relays[i]) && (!late || relays[i].moved_ms < late->moved_ms))
			late = &relays[i];
	}
	return late;
}

bool relay_has_place(enum nsgate_front_kind kind)
{
	return place_for(kind) != NULL;
}

bool relay_make_place(enum nsgate_front_kind kind)
{
	struct relay *relay = place_for(kind);

	if (relay && !is_free(relay))
		finish(relay);
	return relay && is_free(relay);
}

void relay_add(enum nsgate_front_kind kind, int client, int agent, uid_t uid)
{
	struct relay *relay = place_for(kind);

	*relay = (struct relay){.fds = {client, agent}, .uid = uid, .moved_ms = now_ms()};
	if (watch(relay, CLIENT, EPOLL_CTL_ADD) < 0 || watch(relay, AGENT, EPOLL_CTL_ADD) < 0)
		finish(relay);
}

void relay_event(unsigned int source, uint32_t events)
{
	struct relay *relay = &relays[source / SIDES];

	if (!is_served(relay))
		return;
	relay->hung_up[source % SIDES] |= !!(events & (EPOLLHUP | EPOLLERR));
	serve(relay);
}

static int sooner(int one, int64_t other)
{
	return one < 0 || other < one ? (int)other : one;
}

int relay_tick(void)
{
	const int64_t now = now_ms();
	int next = -1;

	for (unsigned int i = 0; i < RELAYS; i++) {
		struct relay *relay = &relays[i];

		if (is_served(relay) && relay->more)
			serve(relay);
		if (is_late(relay) && now - relay->moved_ms >= PATIENCE_MS)
			finish(relay);
		if (!is_free(relay) && !is_served(relay))
			discard(relay);
		if (!is_free(relay) && !is_served(relay))
			next = sooner(next, RETRY_MS);
		else if (is_served(relay) && relay->more)
			next = 0;
		else if (is_late(relay))
			next = sooner(next, PATIENCE_MS - (now - relay->moved_ms));
	}
	return next;
}

void relay_flush(void)
{
	for (unsigned int i = 0; i < RELAYS; i++)
		if (is_served(&relays[i]) && !relays[i].ended[AGENT])
			move_from(&relays[i], AGENT);
}
