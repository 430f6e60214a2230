// SPDX-License-Identifier: GPL-2.0-or-later
#include "ipc.h"
#include "fdmsg.h"
#include "grow.h"
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LISTEN_BACKLOG 128
#define ACCEPT_PAUSE_NS 10000000L
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* asm-generic/socket.h, since Linux 6.16; refused before */
#endif

static_assert(NSGATE_NSFD_MAX <= FDMSG_FDS_MAX, "descriptors of one message");

/*
 * How long a message was when it first was, which never changes, and how long it is. Of one that
 * asks for something an end that is not known is part of the question: -E2BIG. Else it is ignored.
 */
static const struct shape {
	uint16_t least;
	bool asks;
	size_t size;
} shapes[NSGATE_MSG_MAX] = {
	[NSGATE_MSG_HELLO] = {24, false, sizeof(struct nsgate_msg_hello)},
	[NSGATE_MSG_REPLY] = {536, false, sizeof(struct nsgate_msg_reply)},
	[NSGATE_MSG_ATTACH] = {1440, true, sizeof(struct nsgate_msg_attach)},
	[NSGATE_MSG_DETACH] = {80, true, sizeof(struct nsgate_msg_detach)},
	[NSGATE_MSG_PROBE] = {16, false, sizeof(struct nsgate_msg_plain)},
	[NSGATE_MSG_FEATURES] = {40, false, sizeof(struct nsgate_msg_features)},
	[NSGATE_MSG_NS_ADD] = {1656, false, sizeof(struct nsgate_msg_ns)},
	[NSGATE_MSG_NS_HELD] = {1656, false, sizeof(struct nsgate_msg_ns)},
	[NSGATE_MSG_HELD_END] = {16, false, sizeof(struct nsgate_msg_plain)},
	[NSGATE_MSG_NS_RULES] = {200, true, sizeof(struct nsgate_msg_ns_rules)},
	[NSGATE_MSG_NS_REMOVE] = {24, false, sizeof(struct nsgate_msg_ns_remove)},
	[NSGATE_MSG_NS_LINKS] = {32, false, offsetof(struct nsgate_msg_ns_links, links)},
	[NSGATE_MSG_NS_STATE] = {544, false, sizeof(struct nsgate_msg_ns_state)},
	[NSGATE_MSG_LEAVE] = {272, true, sizeof(struct nsgate_msg_leave)},
	[NSGATE_MSG_NS_TAMPER] = {544, false, sizeof(struct nsgate_msg_ns_tamper)},
	[NSGATE_MSG_PROBE_STRICT] = {16, false, sizeof(struct nsgate_msg_plain)},
	[NSGATE_MSG_PING] = {16, false, sizeof(struct nsgate_msg_plain)},
};
#define LINK_LEAST 20 /* of a link in NS_LINKS */

static int unix_address(const char *path, struct sockaddr_un *ret)
{
	size_t length = strlen(path);

	if (length >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	memcpy(ret->sun_path, path, length);
	return 0;
}

static void limit_sending(int fd, int timeout_ms)
{
	const struct timeval limit = {.tv_sec = timeout_ms / 1000,
				      .tv_usec = timeout_ms % 1000 * 1000L};

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* connects, too */
}

int ipc_connect_within(const char *path, int type, int timeout_ms)
{
	struct sockaddr_un address;
	int fd, err = unix_address(path, &address);

	if (err)
		return err;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (timeout_ms)
		limit_sending(fd, timeout_ms);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == EINTR)
			continue;
		err = timeout_ms && errno == EAGAIN ? -ETIMEDOUT : -errno;
		close(fd);
		return err;
	}
	return fd;
}

int ipc_connect(const char *path, int type)
{
	return ipc_connect_within(path, type, 0);
}

int ipc_accept(int listener)
{
	int err, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		return fd;
	err = -errno;
	/* Whoever waits goes on waiting, and so the socket stays readable: do not spin. */
	if (err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -ENOBUFS)
		nanosleep(&(const struct timespec){.tv_nsec = ACCEPT_PAUSE_NS}, NULL);
	return err;
}

/* A socket file that nobody listens on is a leftover of a process that was killed. */
static int remove_dead_socket(const char *path, int type)
{
	int fd = ipc_connect(path, type);

	if (fd >= 0)
		close(fd);
	if (fd >= 0 || fd == -EAGAIN) /* EAGAIN: more wait already than it lets wait */
		return -EADDRINUSE;
	if (fd == -ENOENT)
		return 0;
	if (fd != -ECONNREFUSED)
		return fd;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int ipc_pass_rights(int fd, bool pass)
{
	const int value = pass;

	return setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* Where no room is given for them, a message that is left in place says so. */
int ipc_brings_rights(int fd, uint32_t *ret_id)
{
	struct nsgate_msg_header header = {.id = 0};
	struct iovec part = {.iov_base = &header, .iov_len = sizeof(header)};
	struct msghdr datagram = {.msg_iov = &part, .msg_iovlen = 1};
	ssize_t length;

	/* That the other side left something unread is told once, before what it has sent. */
	do
		length = recvmsg(fd, &datagram, MSG_PEEK | MSG_DONTWAIT);
	while (length < 0 && (errno == EINTR || errno == ECONNRESET));
	if (length < 0)
		return -errno;
	*ret_id = header.magic == NSGATE_PROTO_MAGIC ? header.id : 0;
	return length > 0 && datagram.msg_flags & MSG_CTRUNC;
}

int ipc_listen(const char *path, int type, mode_t mode, uid_t owner, gid_t group)
{
	struct sockaddr_un address;
	mode_t mask;
	int fd, err = unix_address(path, &address);

	if (err)
		return err;
	err = remove_dead_socket(path, type);
	if (err)
		return err;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0777); /* nobody gets in before owner and mode are right */
	err = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (err)
		goto fail;
	if (type == SOCK_STREAM)
		(void)ipc_pass_rights(fd, false);
	if (chown(path, owner, group) < 0 || chmod(path, mode) < 0 ||
	    listen(fd, LISTEN_BACKLOG) < 0) {
		err = -errno;
		unlink(path);
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return err;
}

int ipc_peer(int fd, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid)
{
	struct ucred credentials;
	socklen_t length = sizeof(credentials);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0)
		return -errno;
	*ret_uid = credentials.uid;
	*ret_gid = credentials.gid;
	*ret_pid = credentials.pid;
	return 0;
}

int ipc_peer_check(int fd, const char *dir, uid_t *ret_uid)
{
	struct stat st;
	uid_t uid = (uid_t)-1;
	gid_t gid;
	pid_t pid;
	int err = ipc_peer(fd, &uid, &gid, &pid);

	if (err)
		return err;
	if (uid == 0 || uid == geteuid() || (stat(dir, &st) == 0 && st.st_uid == uid))
		return 0;
	*ret_uid = uid;
	return -EACCES;
}

size_t ipc_length(enum nsgate_msg_type type)
{
	return (unsigned int)type < NSGATE_MSG_MAX ? shapes[type].size : 0;
}

void ipc_header(struct nsgate_msg_header *header, enum nsgate_msg_type type, uint32_t id)
{
	*header = (struct nsgate_msg_header){
		.magic = NSGATE_PROTO_MAGIC,
		.version = NSGATE_PROTO_VERSION,
		.type = (uint16_t)type,
		.length = (uint32_t)ipc_length(type),
		.id = id,
	};
}

int ipc_send(int fd, const struct nsgate_msg_header *message, const int *fds, unsigned int fd_count)
{
	return fdmsg_send(fd, message, message->length, fds, fd_count);
}

/* Have each link be as long as ours are. Return: 0 or -EBADMSG. */
static int fit_links(struct nsgate_msg_ns_links *links)
{
	const size_t at = offsetof(struct nsgate_msg_ns_links, links), ours = sizeof(*links->links);
	const size_t theirs = links->link_size, count = links->count;
	unsigned char *first = (unsigned char *)links + at;

	if (count > NSGATE_LINKS_MAX || theirs < LINK_LEAST ||
	    links->header.length != at + count * theirs)
		return -EBADMSG;
	/* Those that grow are moved from the last on, and those that shrink from the first. */
	for (size_t done = 0; done < count && ours != theirs; done++) {
		const size_t i = ours < theirs ? done : count - 1 - done;

		memmove(first + i * ours, first + i * theirs, ours < theirs ? ours : theirs);
		if (ours > theirs)
			memset(first + i * ours + theirs, 0, ours - theirs);
	}
	links->link_size = (uint32_t)ours;
	links->header.length = (uint32_t)(at + count * ours);
	return 0;
}

/* Return: 0, -EBADMSG not a message of ours, -E2BIG it asks for what we do not know. */
static int message_fit(union nsgate_msg *message, size_t received)
{
	const struct nsgate_msg_header *header = &message->header;
	const struct shape *shape;
	int err;

	if (received < sizeof(*header) || header->magic != NSGATE_PROTO_MAGIC ||
	    header->version != NSGATE_PROTO_VERSION || header->length != received ||
	    !header->type || header->type >= NSGATE_MSG_MAX)
		return -EBADMSG;
	shape = &shapes[header->type];
	if (header->type == NSGATE_MSG_NS_LINKS)
		return received < shape->least ? -EBADMSG : fit_links(&message->ns_links);
	err = grow_to_ours(message, received, shape->least, shape->size);
	return err == -E2BIG && !shape->asks ? 0 : err;
}

int ipc_receive(int fd, union nsgate_msg *ret, int *ret_fds, unsigned int fds_max,
		unsigned int *ret_fd_count)
{
	struct fdmsg about;
	int fit, err = fdmsg_receive(fd, ret, sizeof(*ret), ret_fds, fds_max, 0, &about);

	if (err)
		return err;
	fit = about.cut || about.surplus ? -EBADMSG : message_fit(ret, about.length);
	if (!fit && !about.fds_lost) {
		*ret_fd_count = about.fd_count;
		return 0;
	}
	fds_close(ret_fds, about.fd_count);
	if (!about.length)
		return -ENOTCONN;
	return fit ? fit : -EMFILE;
}

int ipc_ask(int fd, const struct nsgate_msg_header *message, const int *fds, unsigned int fd_count,
	    union nsgate_msg *ret, int timeout_ms)
{
	const int err = ipc_send(fd, message, fds, fd_count);

	return err ? err : ipc_await(fd, message->id, ret, timeout_ms);
}

int ipc_await(int fd, uint32_t id, union nsgate_msg *ret, int timeout_ms)
{
	int64_t deadline = loop_now_ms() + timeout_ms;
	unsigned int none;
	int err;

	for (;;) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		int n = poll(&ready, 1, loop_left_ms(deadline));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0)
			continue;
		err = ipc_receive(fd, ret, NULL, 0, &none);
		if (err && err != -EAGAIN)
			return err;
		if (!err && ret->header.id == id)
			return 0;
	}
}

void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void fds_close(int *fds, unsigned int count)
{
	for (unsigned int i = 0; fds && i < count; i++)
		fd_close(&fds[i]);
}

bool ipc_text_valid(const char *text, size_t size)
{
	size_t length = strnlen(text, size);

	if (length == size)
		return false;
	for (size_t i = 0; i < length; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return true;
}

bool ipc_reply_valid(const struct nsgate_msg_reply *reply)
{
	return reply->status <= NSGATE_STATUS_BUSY &&
	       ipc_text_valid(reply->text, sizeof(reply->text));
}
