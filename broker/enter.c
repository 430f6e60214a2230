// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/enter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fdmsg.h"
#include "ipc.h"
#include "loop.h"
#include "program.h"

#define PATIENCE_MS (NSGATE_ENTER_KERNEL_MS + 1000) /* it tells by itself what took too long */
/*
 * In the loop others wait, and so does the watchdog of systemd (10 s): all that is asked in one
 * turn waits no longer than this, until nsgate-enter answers again.
 */
#define LOOP_PATIENCE_MS 4000

static struct loop_source peer = {.fd = -1};
static uint32_t last_id;
static void (*tell_gone)(void); /* once it is in the loop */
static bool waits_for_room;
static bool hangs; /* it has not answered in time, and nothing since */

/* ---- the process ---- */

static void run_program(const char *path, int fd) __attribute__((noreturn));

static void run_program(const char *path, int fd)
{
	char name[] = "nsgate-enter";
	char *argv[] = {name, NULL};

	if (fd != NSGATE_ENTER_FD)
		(void)dup2(fd, NSGATE_ENTER_FD);
	else
		(void)fcntl(fd, F_SETFD, 0);
	(void)syscall(SYS_close_range, NSGATE_ENTER_FD + 1, ~0U, 0);
	execv(path, argv);
	_exit(127);
}

int enter_start(void)
{
	char path[PATH_MAX];
	int pair[2], err = program_find("nsgate-enter", path, sizeof(path));
	pid_t pid;

	if (err)
		return err;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		run_program(path, pair[1]);
	err = pid < 0 ? -errno : 0;
	close(pair[1]);
	if (err)
		close(pair[0]);
	else
		peer.fd = pair[0];
	if (!err && fcntl(peer.fd, F_SETFL, O_NONBLOCK) < 0)
		err = -errno;
	return err;
}

void enter_stop(void)
{
	int fd = peer.fd;

	if (tell_gone)
		loop_remove(&peer);
	fd_close(&fd);
}

/* ---- questions ---- */

static struct enter_pending *pendings;

static void enlist_question(struct enter_pending *pending)
{
	struct enter_pending **at = &pendings;

	while (*at)
		at = &(*at)->next;
	pending->next = NULL;
	*at = pending;
}

static void unlist_question(struct enter_pending *pending)
{
	struct enter_pending **at = &pendings;

	while (*at != pending)
		at = &(*at)->next;
	*at = pending->next;
	pending->state = ENTER_IDLE;
}

static void conclude_question(struct enter_pending *pending, int err)
{
	pending->state = ENTER_ANSWERED;
	pending->err = err;
}

/* Return: false: the socket is full. */
static bool send_question(struct enter_pending *pending)
{
	static struct nsgate_enter_request request;
	const struct enter_question *question = &pending->question;
	const char *path = question->path ? question->path : "";
	int err;

	request = (struct nsgate_enter_request){
		.id = ++last_id,
		.op = question->op,
		.queues = question->queues,
		.want = question->want,
		.mask = question->mask,
	};
	if (snprintf(request.path, sizeof(request.path), "%s", path) >= (int)sizeof(request.path)) {
		conclude_question(pending, -ENAMETOOLONG);
		return true;
	}
	err = fdmsg_send(peer.fd, &request, sizeof(request), &question->fd, question->fd >= 0);
	if (err == -EAGAIN)
		return false;
	pending->id = request.id;
	pending->state = ENTER_SENT;
	if (err)
		conclude_question(pending, err);
	return true;
}

/* Send what is not sent yet. Return: false: the socket took not all of it. */
static bool send_questions(void)
{
	bool full = false;

	for (struct enter_pending *pending = pendings; pending && !full; pending = pending->next)
		if (pending->state == ENTER_UNSENT)
			full = !send_question(pending);
	if (tell_gone && full != waits_for_room &&
	    loop_change(&peer, full ? EPOLLIN | EPOLLOUT : EPOLLIN) == 0)
		waits_for_room = full;
	return !full;
}

static struct enter_pending *find_sent(uint32_t id)
{
	struct enter_pending *pending = pendings;

	while (pending && !(pending->state == ENTER_SENT && pending->id == id))
		pending = pending->next;
	return pending;
}

/* Receive an answer for whom it may concern. Return: 0; -EAGAIN none is there; -errno. */
static int take_answer(void)
{
	struct enter_result result;
	struct enter_pending *pending;
	struct fdmsg about;
	int err = fdmsg_receive(peer.fd, &result.answer, sizeof(result.answer), result.fds,
				NSGATE_ENTER_FDS_MAX, MSG_DONTWAIT, &about);

	if (err)
		return err;
	if (!about.length)
		return -ENOTCONN;
	hangs = false;
	result.fd_count = about.fd_count;
	pending = about.length == sizeof(result.answer) ? find_sent(result.answer.id) : NULL;
	err = about.cut || about.surplus ? -EBADMSG : result.answer.error;
	if (about.fds_lost && !err)
		err = -EMFILE;
	if (err || !pending) { /* a child that was late after all */
		fds_close(result.fds, result.fd_count);
		result.fd_count = 0;
	}
	if (!pending)
		return 0;
	pending->result = result;
	conclude_question(pending, err);
	return 0;
}

/* Return: 0; -ECONNRESET nsgate-enter has ended; -errno where memory is too short to receive. */
static int take_answers(void)
{
	int err;

	do
		err = take_answer();
	while (!err);
	if (err == -EAGAIN)
		return 0;
	return err == -ENOTCONN || err == -EPIPE ? -ECONNRESET : err;
}

/* Wait for something to come until `deadline`. Return: 0 or -errno. */
static int wait_once(bool for_room, int64_t deadline)
{
	struct pollfd ready = {.fd = peer.fd, .events = for_room ? POLLIN | POLLOUT : POLLIN};

	if (poll(&ready, 1, loop_left_ms(deadline)) == 0)
		return -ETIMEDOUT;
	if (ready.revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))
		return take_answers();
	return 0;
}

static bool is_unanswered(const struct enter_pending *one)
{
	const struct enter_pending *pending = pendings;

	if (one)
		return one->state != ENTER_ANSWERED;
	while (pending && pending->state == ENTER_ANSWERED)
		pending = pending->next;
	return pending != NULL;
}

/* Wait for the answer to one question, or to all (NULL), each of these in its turn. */
static void wait_for(struct enter_pending *one, int patience_ms)
{
	int64_t deadline = loop_now_ms() + patience_ms;
	int err = 0;

	while (!err && is_unanswered(one)) {
		const bool full = !send_questions();

		if (is_unanswered(one))
			err = wait_once(full, deadline);
		if (!one)
			deadline = loop_now_ms() + patience_ms;
	}
	for (struct enter_pending *pending = pendings; err && pending; pending = pending->next)
		if ((!one || pending == one) && pending->state != ENTER_ANSWERED)
			conclude_question(pending, err);
	hangs = err == -ETIMEDOUT;
}

int enter_call(const struct enter_question *question, struct enter_result *ret)
{
	struct enter_pending pending = {.question = *question, .state = ENTER_UNSENT};

	enlist_question(&pending);
	wait_for(&pending, !tell_gone ? PATIENCE_MS : hangs ? 0 : LOOP_PATIENCE_MS);
	unlist_question(&pending);
	*ret = pending.result;
	return pending.err;
}

void enter_ask(struct enter_pending *pending, const struct enter_question *question,
	       void (*done)(struct enter_pending *pending, int err, struct enter_result *result))
{
	pending->question = *question;
	pending->done = done;
	pending->state = ENTER_UNSENT;
	pending->result.fd_count = 0; /* those of an answer before are somebody's by now */
	enlist_question(pending);
	(void)send_questions();
}

void enter_answer(struct enter_pending *pending, int fd,
		  void (*done)(struct enter_pending *pending, int err, struct enter_result *result))
{
	pending->done = done;
	pending->result.fds[0] = fd;
	pending->result.fd_count = fd >= 0;
	conclude_question(pending, fd < 0 ? fd : 0);
	enlist_question(pending);
}

void enter_wait(void)
{
	wait_for(NULL, PATIENCE_MS);
}

void enter_forget(struct enter_pending *pending)
{
	if (pending->state == ENTER_IDLE)
		return;
	if (pending->state == ENTER_ANSWERED)
		fds_close(pending->result.fds, pending->result.fd_count);
	unlist_question(pending);
}

/* ---- the loop ---- */

static struct enter_pending *find_answered(void)
{
	struct enter_pending *pending = pendings;

	while (pending && pending->state != ENTER_ANSWERED)
		pending = pending->next;
	return pending;
}

int enter_timeout_ms(void)
{
	return find_answered() ? 0 : -1;
}

void enter_tick(void)
{
	struct enter_pending *pending;

	while ((pending = find_answered())) {
		struct enter_result result = pending->result;

		unlist_question(pending);
		pending->done(pending, pending->err, &result);
	}
}

static void peer_ready(struct loop_source *source, uint32_t events)
{
	(void)source;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && take_answers() == -ECONNRESET)
		tell_gone();
	else
		(void)send_questions();
}

int enter_watch(void (*gone)(void))
{
	const int fd = peer.fd;
	int err;

	peer.ready = peer_ready;
	peer.fd = -1;
	err = loop_add(&peer, fd, EPOLLIN);
	peer.fd = fd;
	if (!err)
		tell_gone = gone;
	return err;
}
