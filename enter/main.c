// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * nsgate-enter is the one process that may enter network namespaces. nsgate-broker starts it,
 * before it gives up its own right to, with one end of a socket (nsgate/enter.h), and is the only
 * one that can ask. It keeps nothing between requests. Each is served by a child made for it, which
 * answers and ends; the parent reads requests, ends children that take too long, and says so in
 * their place. It never waits for a child: one that the kernel does not let go of (a file system
 * that hangs) keeps a place until it does.
 *
 * It ends when the broker does. Nothing is allocated after the start.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "enter/confine.h"
#include "fdmsg.h"
#include "enter/ops.h"

#define CHILDREN_MAX 64

struct child {
	pid_t pid; /* 0: a free place */
	int pidfd;
	uint32_t id;
	int64_t deadline_ms;
	bool ended; /* its answer is given, and it was told to go */
};

static struct child children[CHILDREN_MAX];

static int64_t now_ms(void)
{
	return (int64_t)(clock_ns(CLOCK_MONOTONIC) / 1000000);
}

/* ---- messages ---- */

/* Return: 0, or -errno: -ENOTCONN the broker has ended; -EBADMSG it is none of ours. */
static int receive(struct nsgate_enter_request *ret, int *ret_fd)
{
	struct fdmsg about;
	int fd = -1,
	    err = fdmsg_receive(NSGATE_ENTER_FD, ret, sizeof(*ret), &fd, 1, MSG_DONTWAIT, &about);

	if (err)
		return err;
	if (about.length == sizeof(*ret) && !about.cut && !about.surplus && !about.fds_lost) {
		*ret_fd = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	return about.length ? -EBADMSG : -ENOTCONN;
}

static int answer(const struct ops_result *result)
{
	return fdmsg_send(NSGATE_ENTER_FD, &result->answer, sizeof(result->answer), result->fds,
			  result->fd_count);
}

static void answer_error(uint32_t id, int err)
{
	const struct ops_result result = {.answer = {.id = id, .error = err}};

	/* A broker that does not take it has ended, or will look at it no more. */
	(void)answer(&result);
}

/* ---- children ---- */

static void run_child(const struct nsgate_enter_request *request, int fd) __attribute__((noreturn));

static void run_child(const struct nsgate_enter_request *request, int fd)
{
	struct ops_result result;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	ops_serve(request, fd, &result);
	_exit(answer(&result) < 0 ? 1 : 0); /* the parent then says that something failed */
}

static struct child *free_place(void)
{
	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		if (!children[i].pid)
			return &children[i];
	return NULL;
}

/* Return: 0 or -errno. */
static int start_child(struct child *child, const struct nsgate_enter_request *request, int fd)
{
	int err;

	child->id = request->id;
	child->ended = false;
	child->deadline_ms = now_ms() + nsgate_enter_deadline_ms(request->op);
	child->pid = fork();
	if (child->pid == 0)
		run_child(request, fd);
	if (child->pid < 0) {
		err = -errno;
		child->pid = 0;
		return err;
	}
	child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
	if (child->pidfd >= 0)
		return 0;
	err = -errno;
	while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR) /* it was to be quick */
		;
	child->pid = 0;
	return err;
}

static void serve(void)
{
	static struct nsgate_enter_request request;
	struct child *child;
	int fd = -1, err = receive(&request, &fd);

	if (err == -ENOTCONN)
		_exit(0);
	if (err) /* a broker that is not of this build has nobody to ask */
		return;
	child = free_place();
	err = child ? start_child(child, &request, fd) : -EBUSY;
	if (err)
		answer_error(request.id, err);
	if (fd >= 0)
		close(fd);
}

/* The child's place is free again once it has ended. */
static void reap(struct child *child)
{
	int status;

	if (waitpid(child->pid, &status, WNOHANG) <= 0)
		return;
	if (!child->ended && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
		answer_error(child->id, -EIO);
	close(child->pidfd);
	child->pid = 0;
}

static void end(struct child *child)
{
	(void)syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL, 0);
	answer_error(child->id, -ETIMEDOUT);
	child->ended = true;
}

/* Milliseconds until the next child is to be ended; -1: none is. */
static int end_late(void)
{
	const int64_t now = now_ms();
	int64_t nearest = -1;

	for (unsigned int i = 0; i < CHILDREN_MAX; i++) {
		struct child *child = &children[i];

		if (!child->pid || child->ended)
			continue;
		if (child->deadline_ms <= now)
			end(child);
		else if (nearest < 0 || child->deadline_ms - now < nearest)
			nearest = child->deadline_ms - now;
	}
	return (int)nearest;
}

/*
 * Requests are taken while there are places. Where all are taken by children that will not go,
 * there is nobody to wait for.
 */
static bool takes_requests(void)
{
	bool hopeless = true;

	for (unsigned int i = 0; i < CHILDREN_MAX; i++) {
		if (!children[i].pid)
			return true;
		hopeless = hopeless && children[i].ended;
	}
	return hopeless;
}

static void step(void)
{
	struct pollfd ready[1 + CHILDREN_MAX];
	struct child *of[1 + CHILDREN_MAX];
	const int timeout = end_late();
	nfds_t count = 1;

	ready[0] = (struct pollfd){.fd = NSGATE_ENTER_FD, .events = takes_requests() ? POLLIN : 0};
	for (unsigned int i = 0; i < CHILDREN_MAX; i++) {
		if (!children[i].pid)
			continue;
		ready[count] = (struct pollfd){.fd = children[i].pidfd, .events = POLLIN};
		of[count++] = &children[i];
	}
	if (poll(ready, count, timeout) <= 0)
		return;
	for (nfds_t i = 1; i < count; i++)
		if (ready[i].revents)
			reap(of[i]);
	if (ready[0].revents & (POLLERR | POLLHUP) && !(ready[0].revents & POLLIN))
		_exit(0);
	if (ready[0].revents & POLLIN)
		serve();
}

static bool is_started_by_broker(void)
{
	int type;
	socklen_t length = sizeof(type);

	return getsockopt(NSGATE_ENTER_FD, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
	       type == SOCK_SEQPACKET;
}

int main(int argc, char **argv)
{
	static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
	int err;

	if (argc > 1 && strcmp(argv[1], "--version") == 0)
		return puts("nsgate-enter " NSGATE_VERSION) < 0;
	if (argc > 1 || !is_started_by_broker()) {
		fputs("nsgate-enter: this is a part of nsgate-broker, which starts it: run "
		      "nsgate-broker\n",
		      stderr);
		return 2;
	}
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN); /* it ends with the broker */
	err = confine_enter();
	if (err) {
		fprintf(stderr, "nsgate-enter: cannot give up privileges: %s\n", strerror(-err));
		return 1;
	}
	for (;;)
		step();
}
