// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "ipc.h"
#include "listen_fds.h"
#include "log.h"
#include "loop.h"
#include "notify.h"

/*
 * MAX_ARG_STRLEN of linux/binfmts.h, the longest string that a program can be started with, less
 * room for the variable's name and for those of the listening sockets.
 */
#define NAMES_MAX (128 * 1024 - 1024)
#define NAME_BYTES 24 /* a cookie, a dot, "q15", NUL; or the colon instead of it */

/* A datagram that waits for room. */
struct datagram {
	struct datagram *next;
	int fd; /* a dup; -1: none */
	char text[80];
};

static struct datagram *outbox, **outbox_end = &outbox;
static struct loop_source room = {.fd = -1};
static size_t names_length; /* of the environment variable to come */
static struct log_limit full_limit;

/* ---- what systemd is told ---- */

static void outbox_drop(void)
{
	struct datagram *datagram = outbox;

	outbox = datagram->next;
	if (!outbox)
		outbox_end = &outbox;
	fd_close(&datagram->fd);
	free(datagram);
}

static void log_failed(const char *text, int err)
{
	log_event(LOG_LEVEL_WARNING, "fdstore.failed", "said", text, "error", log_errno(err), NULL);
}

static void outbox_flush(void)
{
	while (outbox) {
		int err = notify_send_fd(outbox->text, outbox->fd);

		if (err == -EAGAIN)
			return;
		if (err)
			log_failed(outbox->text, err);
		outbox_drop();
	}
	loop_remove(&room);
}

static void room_ready(struct loop_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	outbox_flush();
}

/* Return: 0 or -errno. */
static int outbox_add(const char *text, int fd)
{
	struct datagram *datagram = calloc(1, sizeof(*datagram));

	if (!datagram)
		return -ENOMEM;
	snprintf(datagram->text, sizeof(datagram->text), "%s", text);
	datagram->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	room.ready = room_ready;
	if ((fd >= 0 && datagram->fd < 0) ||
	    (room.fd < 0 && loop_add(&room, notify_fd(), EPOLLOUT) < 0)) {
		fd_close(&datagram->fd);
		free(datagram);
		return -EMFILE;
	}
	*outbox_end = datagram;
	outbox_end = &datagram->next;
	return 0;
}

static void tell_systemd(const char *text, int fd)
{
	int err = outbox ? -EAGAIN : notify_send_fd(text, fd);

	if (err == -EAGAIN)
		err = outbox_add(text, fd);
	if (err)
		log_failed(text, err);
}

/* ---- names ---- */

static size_t name_of(char name[NAME_BYTES], uint64_t cookie, char kind, unsigned int index)
{
	if (kind == 'q')
		return 1 + (size_t)snprintf(name, NAME_BYTES, "%" PRIx64 ".q%u", cookie, index);
	return 1 + (size_t)snprintf(name, NAME_BYTES, "%" PRIx64 ".%c", cookie, kind);
}

static void store_fd(uint64_t cookie, char kind, unsigned int index, int fd)
{
	char name[NAME_BYTES], text[80];

	names_length += name_of(name, cookie, kind, index);
	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	tell_systemd(text, fd);
}

static void unstore_fd(uint64_t cookie, char kind, unsigned int index)
{
	char name[NAME_BYTES], text[80];

	names_length -= name_of(name, cookie, kind, index);
	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	tell_systemd(text, -1);
}

/* ---- what was passed at start ---- */

static struct attachment *find_or_make(uint64_t cookie)
{
	struct attachment *attachment = attachment_find_recovering(cookie);

	if (!attachment)
		attachment = attachment_new();
	if (!attachment)
		return NULL;
	attachment->recovering = true;
	attachment->record.cookie = cookie;
	return attachment;
}

static int *place_of(struct attachment *attachment, char kind, unsigned int index)
{
	switch (kind) {
	case 'r':
		return &attachment->netns.rules;
	case 'w':
		return &attachment->watch;
	default:
		return &attachment->netns.queues[index];
	}
}

static uint32_t bit_of(char kind, unsigned int index)
{
	return kind == 'r' ? FDSTORE_RULES : kind == 'w' ? FDSTORE_WATCH : FDSTORE_QUEUE << index;
}

static bool take_passed(const char *name, int fd)
{
	uint64_t cookie;
	unsigned int index = 0;
	char kind, again[NAME_BYTES];
	struct attachment *attachment;
	int *place;

	if (sscanf(name, "%" SCNx64 ".%c%u", &cookie, &kind, &index) < 2 || !strchr("rwq", kind) ||
	    index >= NSGATE_QUEUES_MAX)
		return false;
	name_of(again, cookie, kind, index);
	if (strcmp(name, again) != 0)
		return false;
	attachment = find_or_make(cookie);
	place = attachment ? place_of(attachment, kind, index) : NULL;
	if (!place || *place >= 0)
		return false;
	*place = fd;
	attachment->stored |= bit_of(kind, index);
	names_length += strlen(name) + 1;
	return true;
}

void fdstore_take(void)
{
	listen_fds_each(take_passed);
}

/* systemd was told these names by us, and by nobody else; but to look costs little. */
bool fdstore_is_of(int fd, uint64_t cookie)
{
	uint64_t found, inode;
	const char *why;

	return netns_fds_check_handed(&fd, 1, &why) == 0 &&
	       netns_fds_identify(fd, &found, &inode) == 0 && found == cookie;
}

int fdstore_check(const struct attachment *attachment)
{
	const struct nsgate_ns_record *record = &attachment->record;

	if (attachment->netns.rules < 0 || (record->has_watch && attachment->watch < 0))
		return -ENOENT;
	if (!fdstore_is_of(attachment->netns.rules, record->cookie))
		return -ESTALE;
	for (unsigned int i = 0; i < record->queue_count; i++) {
		if (attachment->netns.queues[i] < 0)
			return -ENOENT;
		if (!fdstore_is_of(attachment->netns.queues[i], record->cookie))
			return -ESTALE;
	}
	return 0;
}

/* ---- attachments ---- */

static bool has_room(const struct attachment *attachment)
{
	unsigned int fds = attachment->netns.queue_count + 1 + (attachment->watch >= 0);
	unsigned int suppressed;

	if (names_length + fds * NAME_BYTES <= NAMES_MAX)
		return true;
	if (log_allowed(&full_limit, 1, &suppressed))
		log_event(LOG_LEVEL_WARNING, "fdstore.full", "netns", attachment->record.name,
			  "why",
			  "the names would not fit into the environment of the next broker: what "
			  "waits in its queue is lost if both daemons die",
			  NULL);
	return false;
}

static void store_one(struct attachment *attachment, char kind, unsigned int index, int fd)
{
	store_fd(attachment->record.cookie, kind, index, fd);
	attachment->stored |= bit_of(kind, index);
}

void fdstore_keep(struct attachment *attachment)
{
	if (attachment->stored || notify_fd() < 0 || !has_room(attachment))
		return;
	store_one(attachment, 'r', 0, attachment->netns.rules);
	if (attachment->watch >= 0)
		store_one(attachment, 'w', 0, attachment->watch);
	for (unsigned int i = 0; i < attachment->netns.queue_count; i++)
		store_one(attachment, 'q', i, attachment->netns.queues[i]);
}

void fdstore_drop(struct attachment *attachment)
{
	const uint64_t cookie = attachment->record.cookie;

	if (attachment->stored & FDSTORE_RULES)
		unstore_fd(cookie, 'r', 0);
	if (attachment->stored & FDSTORE_WATCH)
		unstore_fd(cookie, 'w', 0);
	for (unsigned int i = 0; i < NSGATE_QUEUES_MAX; i++)
		if (attachment->stored & (uint32_t)FDSTORE_QUEUE << i)
			unstore_fd(cookie, 'q', i);
	attachment->stored = 0;
}

void fdstore_close(void)
{
	loop_remove(&room);
	while (outbox) {
		(void)notify_send_fd(outbox->text, outbox->fd);
		outbox_drop();
	}
}
