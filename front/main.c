// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * nsgate-front stands between nsgate-agent and whoever connects to api.sock and stats.sock, on
 * kernels that cannot keep strangers' descriptors out of these (SO_PASSRIGHTS, Linux 6.16). The
 * agent has CAP_NET_ADMIN. A netlink socket of the host's namespace that reaches it, were it taken
 * over, is the right to change that namespace. This process has no capability, and the agent holds
 * no socket over which anybody but root and this process could send it one.
 *
 * It accepts, tells the agent who it is with one end of a socket pair, and from then on moves bytes
 * (relay.h), which mean nothing to it. It allocates nothing and ends with the agent.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fdmsg.h"
#include "front/confine.h"
#include "front/relay.h"
#include "log.h"
#include "nsgate/front.h"

#define EVENTS_AT_ONCE 64
#define ACCEPTED_AT_ONCE 16
#define PAUSE_NS 10000000L

/* epoll's data, behind those of relays */
#define LISTENER_SOURCE RELAY_SOURCES
#define AGENT_SOURCE (LISTENER_SOURCE + NSGATE_FRONT_MAX)

static int epoll_fd;
static bool listening[NSGATE_FRONT_MAX];

static int listener_of(enum nsgate_front_kind kind)
{
	return NSGATE_FRONT_FD + (int)kind;
}

static int agent_of(enum nsgate_front_kind kind)
{
	return NSGATE_FRONT_FD + NSGATE_FRONT_MAX + (int)kind;
}

static int set_source(int fd, uint32_t events, unsigned int source, int how)
{
	struct epoll_event event = {.events = events, .data.u32 = source};

	return epoll_ctl(epoll_fd, how, fd, &event);
}

/* ---- clients ---- */

/* Return: one end of a connection, the other end of which the agent has now; -1. */
static int hand_over(enum nsgate_front_kind kind, uid_t uid)
{
	const struct nsgate_front_client client = {.uid = uid};
	int err, pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	err = fdmsg_send(agent_of(kind), &client, sizeof(client), &pair[1], 1);
	close(pair[1]);
	if (!err)
		return pair[0];
	close(pair[0]);
	return -1;
}

static uid_t uid_of(int fd)
{
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t length = sizeof(peer);

	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
	return peer.uid;
}

/* Return: whether there may be one more. */
static bool accept_one(enum nsgate_front_kind kind)
{
	const int fd = accept4(listener_of(kind), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	const int one = 1;
	uid_t uid;

	if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		/* Whoever waits goes on waiting, and so the socket stays readable: do not spin. */
		nanosleep(&(const struct timespec){.tv_nsec = PAUSE_NS}, NULL);
	if (fd < 0)
		return false;
	uid = uid_of(fd);
	(void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one));
	relay_add(kind, fd, hand_over(kind, uid), uid);
	return true;
}

static void accept_some(enum nsgate_front_kind kind)
{
	for (unsigned int i = 0; i < ACCEPTED_AT_ONCE; i++)
		if (!relay_make_place(kind) || !accept_one(kind))
			return;
}

static void listen_while_room(enum nsgate_front_kind kind)
{
	const bool wanted = relay_has_place(kind);

	if (wanted != listening[kind] && set_source(listener_of(kind), wanted ? EPOLLIN : 0,
						    LISTENER_SOURCE + kind, EPOLL_CTL_MOD) == 0)
		listening[kind] = wanted;
}

/* ---- the process ---- */

static void turn(void)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	const int timeout = relay_tick();
	bool knocked[NSGATE_FRONT_MAX] = {false};
	int count;

	for (enum nsgate_front_kind kind = 0; kind < NSGATE_FRONT_MAX; kind++)
		listen_while_room(kind);
	count = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, timeout);
	for (int i = 0; i < count; i++) {
		const unsigned int source = events[i].data.u32;

		if (source >= AGENT_SOURCE) {
			relay_flush();
			_exit(0);
		}
		if (source >= LISTENER_SOURCE)
			knocked[source - LISTENER_SOURCE] = true;
		else
			relay_event(source, events[i].events);
	}
	/* After them: an event of one who is gone must not be taken for one of the next there. */
	for (enum nsgate_front_kind kind = 0; kind < NSGATE_FRONT_MAX; kind++)
		if (knocked[kind])
			accept_some(kind);
}

static void start(void)
{
	signal(SIGINT, SIG_IGN); /* the agent has last words */
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* children are nobody's to wait for */
	(void)syscall(SYS_close_range, agent_of(NSGATE_FRONT_MAX), ~0U, 0);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die(1, "epoll: %s", strerror(errno));
	relay_start(epoll_fd);
	for (enum nsgate_front_kind kind = 0; kind < NSGATE_FRONT_MAX; kind++) {
		/* Of the agent nothing is read: that it has ended comes unasked. */
		if (set_source(agent_of(kind), 0, AGENT_SOURCE + kind, EPOLL_CTL_ADD) < 0 ||
		    set_source(listener_of(kind), EPOLLIN, LISTENER_SOURCE + kind, EPOLL_CTL_ADD) <
			    0)
			die(1, "to be started by nsgate-agent, and by nobody else");
		listening[kind] = true;
	}
}

int main(int argc, char **argv)
{
	int err;

	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("nsgate-front %s\n", NSGATE_VERSION);
		return 0;
	}
	log_setup("nsgate-front", LOG_LEVEL_INFO);
	if (argc != 3)
		die(1, "to be started by nsgate-agent, and by nobody else");
	start();
	err = confine_front((uid_t)strtoul(argv[1], NULL, 10), (gid_t)strtoul(argv[2], NULL, 10));
	if (err)
		die(1, "cannot give up privileges: %s", strerror(-err));
	for (;;)
		turn();
}
