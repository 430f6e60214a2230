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

/* What was passed of one namespace and is not claimed yet. */
struct stored {
	struct stored *next;
	uint64_t cookie;
	int rules, watch;
	int queues[NSGATE_QUEUES_MAX];
};

/* A datagram that waits for room. */
struct saying {
	struct saying *next;
	int fd; /* a dup; -1: none */
	char text[80];
};

static struct stored *stored;
static struct saying *sayings, **sayings_end = &sayings;
static struct loop_source room = {.fd = -1};
static size_t names_length; /* of the environment variable to come */
static struct log_limit full_limit;

/* ---- saying it ---- */

static void forget_saying(void)
{
	struct saying *saying = sayings;

	sayings = saying->next;
	if (!sayings)
		sayings_end = &sayings;
	fd_close(&saying->fd);
	free(saying);
}

static void failed(const char *text, int err)
{
	log_event(LOG_LEVEL_WARNING, "fdstore.failed", "said", text, "error", log_errno(err), NULL);
}

static void flush(void)
{
	while (sayings) {
		int err = notify_send_fd(sayings->text, sayings->fd);

		if (err == -EAGAIN)
			return;
		if (err)
			failed(sayings->text, err);
		forget_saying();
	}
	loop_remove(&room);
}

static void room_ready(struct loop_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	flush();
}

/* Return: 0 or -errno. */
static int say_later(const char *text, int fd)
{
	struct saying *saying = calloc(1, sizeof(*saying));

	if (!saying)
		return -ENOMEM;
	snprintf(saying->text, sizeof(saying->text), "%s", text);
	saying->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	room.ready = room_ready;
	if ((fd >= 0 && saying->fd < 0) ||
	    (room.fd < 0 && loop_add(&room, notify_fd(), EPOLLOUT) < 0)) {
		fd_close(&saying->fd);
		free(saying);
		return -EMFILE;
	}
	*sayings_end = saying;
	sayings_end = &saying->next;
	return 0;
}

static void say(const char *text, int fd)
{
	int err = sayings ? -EAGAIN : notify_send_fd(text, fd);

	if (err == -EAGAIN)
		err = say_later(text, fd);
	if (err)
		failed(text, err);
}

/* ---- names ---- */

static size_t name_of(char name[NAME_BYTES], uint64_t cookie, char kind, unsigned int index)
{
	if (kind == 'q')
		return 1 + (size_t)snprintf(name, NAME_BYTES, "%" PRIx64 ".q%u", cookie, index);
	return 1 + (size_t)snprintf(name, NAME_BYTES, "%" PRIx64 ".%c", cookie, kind);
}

static void store(uint64_t cookie, char kind, unsigned int index, int fd)
{
	char name[NAME_BYTES], text[80];

	names_length += name_of(name, cookie, kind, index);
	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	say(text, fd);
}

static void unstore(uint64_t cookie, char kind, unsigned int index)
{
	char name[NAME_BYTES], text[80];

	names_length -= name_of(name, cookie, kind, index);
	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	say(text, -1);
}

/* ---- what was passed at start ---- */

static struct stored *stored_of(uint64_t cookie)
{
	struct stored *entry = stored;

	while (entry && entry->cookie != cookie)
		entry = entry->next;
	return entry;
}

static struct stored *stored_new(uint64_t cookie)
{
	struct stored *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->cookie = cookie;
	entry->rules = entry->watch = -1;
	for (unsigned int i = 0; i < NSGATE_QUEUES_MAX; i++)
		entry->queues[i] = -1;
	entry->next = stored;
	stored = entry;
	return entry;
}

static int *place_of(struct stored *entry, char kind, unsigned int index)
{
	switch (kind) {
	case 'r':
		return &entry->rules;
	case 'w':
		return &entry->watch;
	default:
		return &entry->queues[index];
	}
}

static bool take(const char *name, int fd)
{
	uint64_t cookie;
	unsigned int index = 0;
	char kind, again[NAME_BYTES];
	struct stored *entry;
	int *place;

	if (sscanf(name, "%" SCNx64 ".%c%u", &cookie, &kind, &index) < 2 || !strchr("rwq", kind) ||
	    index >= NSGATE_QUEUES_MAX)
		return false;
	name_of(again, cookie, kind, index);
	if (strcmp(name, again) != 0)
		return false;
	entry = stored_of(cookie);
	if (!entry)
		entry = stored_new(cookie);
	place = entry ? place_of(entry, kind, index) : NULL;
	if (!place || *place >= 0)
		return false;
	*place = fd;
	names_length += strlen(name) + 1;
	return true;
}

void fdstore_take(void)
{
	listen_fds_each(take);
}

bool fdstore_has(uint64_t cookie)
{
	return stored_of(cookie) != NULL;
}

/* systemd was told these names by us, and by nobody else; but to look costs little. */
static bool is_of(int fd, uint64_t cookie)
{
	uint64_t found, inode;
	const char *why;

	return netns_fds_check_handed(&fd, 1, &why) == 0 &&
	       netns_fds_identify(fd, &found, &inode) == 0 && found == cookie;
}

static int check_whole(const struct stored *entry, const struct nsgate_ns_record *record)
{
	if (entry->rules < 0 || (record->has_watch && entry->watch < 0))
		return -ENOENT;
	if (!is_of(entry->rules, record->cookie))
		return -ESTALE;
	for (unsigned int i = 0; i < record->queue_count; i++) {
		if (entry->queues[i] < 0)
			return -ENOENT;
		if (!is_of(entry->queues[i], record->cookie))
			return -ESTALE;
	}
	return 0;
}

static void stored_free(struct stored *entry)
{
	struct stored **at = &stored;

	while (*at != entry)
		at = &(*at)->next;
	*at = entry->next;
	fd_close(&entry->rules);
	fd_close(&entry->watch);
	fds_close(entry->queues, NSGATE_QUEUES_MAX);
	free(entry);
}

static int steal(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

int fdstore_claim(struct attachment *attachment, const struct nsgate_ns_record *record)
{
	struct stored *entry = stored_of(record->cookie);
	int err = entry ? check_whole(entry, record) : -ENOENT;

	if (err)
		return err;
	attachment->netns.rules = steal(&entry->rules);
	if (record->has_watch)
		attachment->watch = steal(&entry->watch);
	attachment->netns.queue_count = record->queue_count;
	for (unsigned int i = 0; i < record->queue_count; i++)
		attachment->netns.queues[i] = steal(&entry->queues[i]);
	attachment->stored = true;
	stored_free(entry);
	return 0;
}

int fdstore_claim_rules(uint64_t cookie)
{
	const struct stored *entry = stored_of(cookie);

	if (!entry || entry->rules < 0 || !is_of(entry->rules, cookie))
		return -1;
	return fcntl(entry->rules, F_DUPFD_CLOEXEC, 0);
}

static void forget(struct stored *entry)
{
	if (entry->rules >= 0)
		unstore(entry->cookie, 'r', 0);
	if (entry->watch >= 0)
		unstore(entry->cookie, 'w', 0);
	for (unsigned int i = 0; i < NSGATE_QUEUES_MAX; i++)
		if (entry->queues[i] >= 0)
			unstore(entry->cookie, 'q', i);
	stored_free(entry);
}

void fdstore_forget_rest(void)
{
	while (stored)
		forget(stored);
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

void fdstore_keep(struct attachment *attachment)
{
	uint64_t cookie = attachment->record.cookie;
	struct stored *leftover;

	if (attachment->stored || notify_fd() < 0)
		return;
	leftover = stored_of(cookie);
	if (leftover) /* other sockets, of an earlier attachment or of half of this one */
		forget(leftover);
	if (!has_room(attachment))
		return;
	store(cookie, 'r', 0, attachment->netns.rules);
	if (attachment->watch >= 0)
		store(cookie, 'w', 0, attachment->watch);
	for (unsigned int i = 0; i < attachment->netns.queue_count; i++)
		store(cookie, 'q', i, attachment->netns.queues[i]);
	attachment->stored = true;
}

void fdstore_drop(struct attachment *attachment)
{
	uint64_t cookie = attachment->record.cookie;

	if (!attachment->stored)
		return;
	unstore(cookie, 'r', 0);
	if (attachment->watch >= 0)
		unstore(cookie, 'w', 0);
	for (unsigned int i = 0; i < attachment->netns.queue_count; i++)
		unstore(cookie, 'q', i);
	attachment->stored = false;
}

void fdstore_close(void)
{
	loop_remove(&room);
	while (sayings) {
		(void)notify_send_fd(sayings->text, sayings->fd);
		forget_saying();
	}
	while (stored)
		stored_free(stored);
}
