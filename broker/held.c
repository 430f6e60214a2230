// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/held.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "ipc.h"
#include "broker/members.h"
#include "record.h"
#include "broker/place.h"

static bool is_pidfd(int fd)
{
	/* fs/pidfs.c; before Linux 6.9 kernel/fork.c */
	static const char *const names[] = {"pidfd:[", "anon_inode:[pidfd]"};
	char link[64], name[64];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, name, sizeof(name) - 1);
	if (length < 0)
		return false;
	name[length] = '\0';
	return strncmp(name, names[0], strlen(names[0])) == 0 || strcmp(name, names[1]) == 0;
}

static int check_queue(int fd, uint64_t wanted)
{
	const char *why;
	uint64_t cookie = 0, inode;
	int err = netns_fds_check_handed(&fd, 1, &why);

	if (!err)
		err = netns_fds_identify(fd, &cookie, &inode);
	return !err && cookie != wanted ? -EINVAL : err;
}

static int check_held(const struct nsgate_ns_record *own, const int *fds, unsigned int fd_count)
{
	const unsigned int first_queue = NSGATE_NSFD_FIXED + own->has_watch;

	if (fd_count < record_fd_count(own))
		return -EINVAL;
	if (own->cookie == broker_cookie && !(own->flags & NSGATE_ATTACH_ALLOW_HOST))
		return -EPERM;
	if (own->has_watch && !is_pidfd(fds[NSGATE_NSFD_FIXED]))
		return -EINVAL;
	for (unsigned int i = first_queue; i < record_fd_count(own); i++) {
		const int err = check_queue(fds[i], own->cookie);

		if (err)
			return err;
	}
	return 0;
}

/*
 * A pidfd of a process that has ended would end the attachment. So the number that it was attached
 * by comes first: it is the process that is meant where that is in the namespace.
 */
static int choose_watch(const struct nsgate_ns_record *own, int *held)
{
	int found = place_process(own);

	if (found >= 0 && members_is_inside(found, own->inode)) {
		fd_close(held);
		return found;
	}
	if (found >= 0)
		close(found);
	found = *held;
	*held = -1;
	return found;
}

int held_take(struct attachment *attachment, int *fds, unsigned int fd_count)
{
	const struct nsgate_ns_record *own = &attachment->record;
	const int err = check_held(own, fds, fd_count);
	const unsigned int known = record_fd_count(own);
	unsigned int n = NSGATE_NSFD_FIXED;

	if (err) {
		fds_close(fds, fd_count);
		return err;
	}
	fds_close(fds + known, fd_count - known); /* of a later release */
	/* What can be opened anew is, as the agent could have put anything in its place. */
	fd_close(&fds[NSGATE_NSFD_SHM]);
	fd_close(&fds[NSGATE_NSFD_PROC]);
	fd_close(&fds[NSGATE_NSFD_AUX]);
	if (own->has_watch)
		attachment->watch = choose_watch(own, &fds[n++]);
	attachment->netns.queue_count = own->queue_count;
	for (unsigned int i = 0; i < own->queue_count; i++)
		attachment->netns.queues[i] = fds[n++];
	return 0;
}
