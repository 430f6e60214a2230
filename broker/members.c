// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/members.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/enter.h"
#include "ipc.h"
#include "log.h"
#include "broker/records.h"

struct member {
	struct member *next;
	struct attachment *attachment;
	struct loop_source source; /* the pidfd; -1: it has ended */
	struct record_member record;
};

/* ---- processes ---- */

/* What passes says nothing about a process. */
static bool is_shortage(int err)
{
	return err == -ENOMEM || err == -EMFILE || err == -ENFILE || err == -ENOBUFS ||
	       err == -EBUSY || err == -ETIMEDOUT || err == -ECONNRESET;
}

/*
 * The process of a pidfd: its pid in this program's own pid namespace (`ret_pid` may be NULL) and
 * the inode of its network namespace. No two living namespaces share an inode, and those that are
 * attached live. Return: 0; -ESRCH it has ended; -errno.
 */
static int look_at(int pidfd, pid_t *ret_pid, uint64_t *ret_inode)
{
	const struct enter_question question = {.op = NSGATE_ENTER_PROCESS, .fd = pidfd};
	struct enter_result result;
	int err = enter_call(&question, &result);

	if (err)
		return err;
	if (!result.answer.number)
		return -ESRCH;
	if (ret_pid)
		*ret_pid = result.answer.number;
	*ret_inode = result.answer.inode;
	return 0;
}

bool members_is_inside(int pidfd, uint64_t inode)
{
	uint64_t found = 0;

	return look_at(pidfd, NULL, &found) == 0 && found == inode;
}

/*
 * Return: a pidfd; -ESRCH where that process is no longer in that namespace; -errno where memory
 * or descriptors are too short to tell.
 */
static int open_recorded(const struct record_member *record, uint64_t inode)
{
	int err, pidfd = (int)syscall(SYS_pidfd_open, record->pid, 0);
	uint64_t found = 0;

	if (pidfd < 0)
		return is_shortage(-errno) ? -errno : -ESRCH;
	err = look_at(pidfd, NULL, &found);
	if (!err && found == inode)
		return pidfd;
	close(pidfd);
	return is_shortage(err) ? err : -ESRCH;
}

/* ---- the list of an attachment ---- */

static struct member *find_member(const struct attachment *attachment, const char *container)
{
	struct member *member = attachment->members;

	while (member && strcmp(member->record.container, container) != 0)
		member = member->next;
	return member;
}

static void save_members(const struct attachment *attachment)
{
	struct record_member list[MEMBERS_MAX];
	size_t count = 0;
	int err;

	for (const struct member *member = attachment->members; member && count < MEMBERS_MAX;
	     member = member->next)
		list[count++] = member->record;
	err = records_save_members(attachment->record.cookie, list, count);
	if (err) /* it only matters if this broker dies */
		log_event(LOG_LEVEL_WARNING, "record.failed", "netns", attachment->record.name,
			  "error", log_errno(err), NULL);
}

static void stop_watching(struct member *member)
{
	int fd = member->source.fd;

	loop_remove(&member->source);
	fd_close(&fd);
	member->source.fd = -1;
}

static void drop_member(struct member *member)
{
	struct member **at = &member->attachment->members;

	while (*at != member)
		at = &(*at)->next;
	*at = member->next;
	stop_watching(member);
	free(member);
}

static bool is_last_that_counts(const struct member *member)
{
	const struct attachment *attachment = member->attachment;

	return (attachment->record.flags & NSGATE_ATTACH_CONTAINER) &&
	       attachment->members == member && !member->next;
}

static void member_ended(struct loop_source *source, uint32_t events)
{
	struct member *member = loop_owner(source, struct member, source);
	struct attachment *attachment = member->attachment;

	(void)events;
	log_event(LOG_LEVEL_INFO, "member.ended", "netns", attachment->record.name, "container",
		  member->record.container, NULL);
	if (is_last_that_counts(member)) {
		stop_watching(member);
		attachment_ended(attachment);
		return;
	}
	drop_member(member);
	save_members(attachment);
}

/* `pidfd` is taken over. Return: 0 or -errno. */
static int enlist_member(struct attachment *attachment, const struct record_member *record,
			 int pidfd)
{
	struct member *member = calloc(1, sizeof(*member));
	struct member **at = &attachment->members;
	int err = member ? 0 : -ENOMEM;

	if (member) {
		member->source.ready = member_ended;
		err = loop_add(&member->source, pidfd, EPOLLIN);
	}
	if (err) {
		close(pidfd);
		free(member);
		return err;
	}
	member->attachment = attachment;
	member->record = *record;
	while (*at)
		at = &(*at)->next;
	*at = member;
	return 0;
}

/* ---- what others ask ---- */

bool members_request(const struct nsgate_msg_attach *message, int pidfd, struct member_request *ret)
{
	static const char key[] = NSGATE_LABEL_CONTAINER "=";
	const char *label = message->labels;
	const char *end = label + sizeof(message->labels) - 1;

	if (*end != '\0')
		return false;
	for (; label < end && *label; label += strlen(label) + 1) {
		const char *value = label + sizeof(key) - 1;

		if (strncmp(label, key, sizeof(key) - 1) != 0)
			continue;
		*ret = (struct member_request){value, message->policy, pidfd};
		return *value && strlen(value) < NSGATE_ID_MAX &&
		       ipc_text_valid(value, NSGATE_ID_MAX);
	}
	return false;
}

int members_find_attachment(int pidfd, struct attachment **ret)
{
	uint64_t inode = 0;
	int err = look_at(pidfd, NULL, &inode);

	if (err)
		return err;
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next) {
		if (attachment_is_current(attachment) && attachment->record.inode == inode) {
			*ret = attachment;
			return 0;
		}
	}
	return -ENOENT;
}

struct attachment *members_find(const char *container)
{
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (find_member(attachment, container))
			return attachment;
	return NULL;
}

const char *members_policy(const struct attachment *attachment)
{
	/* What was asked for: by now people may have bound the namespace to another. */
	return attachment->members ? attachment->members->record.policy : attachment->record.policy;
}

int members_add(struct attachment *attachment, const struct member_request *request)
{
	struct record_member record = {.magic = RECORDS_MEMBER_MAGIC, .size = sizeof(record)};
	unsigned int count = 0;
	uint64_t inode;
	pid_t pid;
	int err, pidfd;

	if (find_member(attachment, request->container))
		return 0;
	for (const struct member *member = attachment->members; member; member = member->next)
		count++;
	if (count == MEMBERS_MAX)
		return -ENOSPC;
	err = look_at(request->pidfd, &pid, &inode);
	if (err)
		return err;
	pidfd = fcntl(request->pidfd, F_DUPFD_CLOEXEC, 0);
	if (pidfd < 0)
		return -errno;
	record.pid = pid;
	snprintf(record.container, sizeof(record.container), "%s", request->container);
	snprintf(record.policy, sizeof(record.policy), "%s", request->policy);
	err = enlist_member(attachment, &record, pidfd);
	if (!err)
		save_members(attachment);
	return err;
}

bool members_remove(struct attachment *attachment, const char *container)
{
	struct member *member = find_member(attachment, container);

	if (!member)
		return false;
	if (is_last_that_counts(member))
		return true;
	drop_member(member);
	save_members(attachment);
	return false;
}

int members_load(struct attachment *attachment)
{
	struct record_member list[MEMBERS_MAX];
	int err = 0, count = records_load_members(attachment->record.cookie, list, MEMBERS_MAX);

	if (count < 0)
		return count;
	for (int i = 0; !err && i < count; i++) {
		int pidfd = open_recorded(&list[i], attachment->record.inode);

		if (pidfd >= 0)
			err = enlist_member(attachment, &list[i], pidfd);
		else if (pidfd != -ESRCH)
			err = pidfd;
	}
	if (!err && count)
		save_members(attachment);
	return err;
}

int members_open_any(const struct nsgate_ns_record *record)
{
	struct record_member list[MEMBERS_MAX];
	int count = records_load_members(record->cookie, list, MEMBERS_MAX);
	int err = count < 0 ? count : -ESRCH;

	for (int i = 0; i < count; i++) {
		int pidfd = open_recorded(&list[i], record->inode);

		if (pidfd >= 0)
			return pidfd;
		if (pidfd != -ESRCH)
			err = pidfd;
	}
	return err;
}

void members_free(struct attachment *attachment)
{
	for (struct member *member = attachment->members, *next; member; member = next) {
		next = member->next;
		stop_watching(member);
		free(member);
	}
	attachment->members = NULL;
}
