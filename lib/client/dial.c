// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/dial.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "ipc.h"
#include "loop.h"
#include "options.h"
#include "client/patience.h"

#define DAEMON "nsgate-broker"

/* A detach lasts 3 s at most, an attach 5 s. */
#define BUSY_MS 6000
#define BUSY_PAUSE_NS 20000000L

static enum nsgate_status no_code_for_busy(enum nsgate_status status)
{
	return status == NSGATE_STATUS_BUSY ? NSGATE_STATUS_FAILED : status;
}

static enum nsgate_status check_peer(const char *runtime_dir, int fd, struct failure *fail)
{
	uid_t uid;
	int err = ipc_peer_check(fd, runtime_dir, &uid);

	if (err == 0)
		return NSGATE_STATUS_OK;
	if (err != -EACCES)
		return failure_connect(fail, runtime_dir, DIAL_BROKER_SOCKET, DAEMON, err);
	return failure_set(fail, NSGATE_STATUS_REFUSED,
			   "%s/%s: uid %u answers there, neither root nor you; check who may write "
			   "to that directory",
			   runtime_dir, DIAL_BROKER_SOCKET, (unsigned int)uid);
}

/* An exchange failed at the level of messages. */
static enum nsgate_status broken(struct failure *fail, int error)
{
	switch (-error) {
	case EBADMSG:
		return failure_set(
			fail, NSGATE_STATUS_FAILED,
			"%s: not a message of this version; install all of nsgate from one release",
			DIAL_BROKER_SOCKET);
	case EAGAIN:
	case ETIMEDOUT:
		return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
				   "%s: no answer in time from " DAEMON "; look at its log, or "
				   "restart it",
				   DIAL_BROKER_SOCKET);
	case ENOTCONN:
	case ECONNRESET:
	case EPIPE:
		return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
				   "%s: the connection was closed before the answer; look at the "
				   "log of " DAEMON,
				   DIAL_BROKER_SOCKET);
	default:
		return failure_set(fail, NSGATE_STATUS_FAILED, "%s: %s; look at the log of " DAEMON,
				   DIAL_BROKER_SOCKET, strerror(-error));
	}
}

/* The status and text of a REPLY. */
static enum nsgate_status outcome(const struct nsgate_msg_reply *reply, struct failure *fail)
{
	if (reply->status == NSGATE_STATUS_OK)
		return NSGATE_STATUS_OK;
	if (!ipc_text_valid(reply->text, sizeof(reply->text)) || reply->text[0] == '\0')
		failure_set(fail, NSGATE_STATUS_FAILED,
			    "%s: refused without a reason; look at the log of " DAEMON,
			    DIAL_BROKER_SOCKET);
	else
		failure_set(fail, NSGATE_STATUS_FAILED, "%s", reply->text);
	return reply->status <= NSGATE_STATUS_BUSY ? reply->status : NSGATE_STATUS_FAILED;
}

static enum nsgate_status exchange_hello(int fd, int timeout_ms, struct failure *fail)
{
	struct nsgate_msg_hello hello = {.pid = (uint32_t)getpid()};
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	union nsgate_msg answer;
	unsigned int none;
	int err, n;

	ipc_header(&hello.header, NSGATE_MSG_HELLO, 0);
	err = ipc_send(fd, &hello.header, NULL, 0);
	if (err != 0 && err != -EPIPE) /* closed already: its parting words may be there to read */
		return broken(fail, err);
	do
		n = poll(&ready, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return broken(fail, n == 0 ? -ETIMEDOUT : -errno);
	err = ipc_receive(fd, &answer, NULL, 0, &none);
	if (err != 0)
		return broken(fail, err);
	if (answer.header.type == NSGATE_MSG_REPLY)
		return no_code_for_busy(outcome(&answer.reply, fail));
	return answer.header.type == NSGATE_MSG_HELLO ? NSGATE_STATUS_OK : broken(fail, -EBADMSG);
}

enum nsgate_status dial_broker(const char *runtime_dir, int *ret_fd, struct failure *fail)
{
	char path[NSGATE_TARGET_MAX];
	enum nsgate_status status;
	int fd, err;

	err = options_path(runtime_dir, DIAL_BROKER_SOCKET, path, sizeof(path));
	fd = err != 0 ? err : ipc_connect_within(path, SOCK_SEQPACKET, patience_ms());
	if (fd < 0)
		return failure_connect(fail, runtime_dir, DIAL_BROKER_SOCKET, DAEMON, fd);

	status = check_peer(runtime_dir, fd, fail);
	if (status == NSGATE_STATUS_OK)
		status = exchange_hello(fd, patience_ms(), fail);
	if (status != NSGATE_STATUS_OK) {
		fd_close(&fd);
		return status;
	}
	*ret_fd = fd;
	return NSGATE_STATUS_OK;
}

/* Where the broker listens that this connection leads to. */
static bool broker_path(int fd, char ret[sizeof(((struct sockaddr_un *)0)->sun_path) + 1])
{
	struct sockaddr_un address = {.sun_family = AF_UNSPEC};
	socklen_t length = sizeof(address);

	if (getpeername(fd, (struct sockaddr *)&address, &length) < 0 ||
	    length <= offsetof(struct sockaddr_un, sun_path) || !address.sun_path[0])
		return false;
	snprintf(ret, sizeof(address.sun_path) + 1, "%.*s", (int)sizeof(address.sun_path),
		 address.sun_path);
	return true;
}

/* Does the broker go on, while one answer of it does not come? Asked by another connection. */
static bool broker_lives(int fd, int timeout_ms)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	struct failure ignored = {0};
	bool lives = false;
	int other;

	if (timeout_ms <= 0 || !broker_path(fd, path))
		return false;
	other = ipc_connect_within(path, SOCK_SEQPACKET, timeout_ms);
	if (other >= 0)
		lives = exchange_hello(other, timeout_ms, &ignored) == NSGATE_STATUS_OK;
	fd_close(&other);
	failure_free(&ignored);
	return lives;
}

/* The broker waits for the agent, or has much to do. */
static enum nsgate_status too_long(struct failure *fail)
{
	return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
			   "%s: no answer in time, though " DAEMON " is alive: nsgate-agent may "
			   "not answer it; look at both logs, or wait longer with --timeout. It "
			   "may be done later: see nsgatectl ls",
			   DIAL_BROKER_SOCKET);
}

/* As dial_ask(), but BUSY is told from FAILED. */
static enum nsgate_status ask(int fd, const struct nsgate_msg_header *message, const int *fds,
			      unsigned int fd_count, enum nsgate_msg_type wanted,
			      union nsgate_msg *ret, struct failure *fail)
{
	const int64_t until = loop_now_ms() + patience_long_ms();
	int err = ipc_ask(fd, message, fds, fd_count, ret, patience_ms());
	enum nsgate_status status;

	/* Its kernel takes no descriptors from us: it says why, if asked without. */
	if (err == -EPERM && fd_count)
		err = ipc_ask(fd, message, NULL, 0, ret, patience_ms());
	/* What an attach or a detach does may take long; a broker that hangs is not waited for. */
	while (err == -ETIMEDOUT && loop_now_ms() < until && broker_lives(fd, patience_ms()))
		err = ipc_await(fd, message->id, ret, patience_ms());
	if (err == -ETIMEDOUT && broker_lives(fd, PATIENCE_SIGN_MS))
		return too_long(fail);
	if (err != 0)
		return broken(fail, err);
	if (ret->header.type == NSGATE_MSG_REPLY) {
		status = outcome(&ret->reply, fail);
		if (status != NSGATE_STATUS_OK || wanted == NSGATE_MSG_REPLY)
			return status;
	}
	return ret->header.type == wanted ? NSGATE_STATUS_OK : broken(fail, -EBADMSG);
}

enum nsgate_status dial_ask(int fd, const struct nsgate_msg_header *message, const int *fds,
			    unsigned int fd_count, enum nsgate_msg_type wanted,
			    union nsgate_msg *ret, struct failure *fail)
{
	return no_code_for_busy(ask(fd, message, fds, fd_count, wanted, ret, fail));
}

enum nsgate_status dial_once(const char *runtime_dir, const struct nsgate_msg_header *message,
			     const int *fds, unsigned int fd_count, struct failure *fail)
{
	const struct timespec pause = {.tv_nsec = BUSY_PAUSE_NS};
	int64_t until = loop_now_ms() + BUSY_MS;
	union nsgate_msg answer;
	enum nsgate_status status;
	int fd = -1;

	status = dial_broker(runtime_dir, &fd, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	for (;;) {
		status = ask(fd, message, fds, fd_count, NSGATE_MSG_REPLY, &answer, fail);
		if (status != NSGATE_STATUS_BUSY || loop_now_ms() > until || patience_ms() == 0)
			break;
		nanosleep(&pause, NULL);
	}
	fd_close(&fd);
	return no_code_for_busy(status);
}
