// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "broker/audit.h"
#include "broker/broker.h"
#include "clock.h"
#include "broker/follow.h"
#include "broker/held.h"
#include "ipc.h"
#include "log.h"
#include "broker/members.h"
#include "name.h"
#include "broker/opening.h"
#include "queue_number.h"
#include "broker/queue_setup.h"
#include "record.h"
#include "broker/records.h"

static int refuse(struct refusal *refusal, enum nsgate_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct refusal *refusal, enum nsgate_status status, const char *format, ...)
{
	va_list args;

	refusal->status = status;
	va_start(args, format);
	vsnprintf(refusal->text, sizeof(refusal->text), format, args);
	va_end(args);
	return -1;
}

static bool is_fd_shortage(int err)
{
	return err == -EMFILE || err == -ENFILE;
}

static int refuse_for_fds(struct refusal *refusal)
{
	return refuse(refusal, NSGATE_STATUS_FAILED,
		      "no file descriptor is left: raise the broker's LimitNOFILE (%u attached "
		      "now)",
		      attachment_count() - 1);
}

/* ---- the steps of an attach; each returns 0, or -1 with the refusal filled in ---- */

static int check_texts(const struct nsgate_msg_attach *message, struct refusal *refusal)
{
	if (!ipc_text_valid(message->name, sizeof(message->name)) || !name_valid(message->name))
		return refuse(refusal, NSGATE_STATUS_USAGE,
			      "the name is not valid: use " NAME_RULE);
	if (!ipc_text_valid(message->policy, sizeof(message->policy)) ||
	    !name_valid(message->policy))
		return refuse(refusal, NSGATE_STATUS_USAGE,
			      "the policy's name is not valid: use " NAME_RULE);
	if (!ipc_text_valid(message->target, sizeof(message->target)))
		return refuse(refusal, NSGATE_STATUS_USAGE, "the target is not printable text");
	if (message->flags & ~(uint32_t)NSGATE_ATTACH_ALL || message->reserved)
		return refuse(refusal, NSGATE_STATUS_USAGE,
			      "this nsgate-broker does not know all that is asked for: restart it, "
			      "if what asks is of a later release");
	if (message->labels[NSGATE_LABELS_MAX - 1])
		return refuse(refusal, NSGATE_STATUS_USAGE, "the labels take more than %d bytes",
			      NSGATE_LABELS_MAX);
	if (message->queue_count < 1 || message->queue_count > NSGATE_QUEUES_MAX ||
	    message->queue_first + NSGATE_FLOW_MAX * message->queue_count > 0x10000)
		return refuse(refusal, NSGATE_STATUS_USAGE,
			      "the queues are not valid: 1 to %d of them, numbered up to 65535",
			      NSGATE_QUEUES_MAX);
	return 0;
}

static int check_fds(const struct nsgate_msg_attach *message, const int *fds, unsigned int fd_count,
		     struct refusal *refusal)
{
	const char *why = NULL;

	if ((message->flags & NSGATE_ATTACH_CONTAINER) && message->target_kind != NSGATE_TARGET_PID)
		return refuse(refusal, NSGATE_STATUS_USAGE,
			      "a container is attached by the pid of its first process");
	switch ((enum nsgate_target_kind)message->target_kind) {
	case NSGATE_TARGET_PID:
		if (fd_count == 1)
			return 0;
		break;
	case NSGATE_TARGET_NETNS:
	case NSGATE_TARGET_PATH:
	case NSGATE_TARGET_SELF:
		if (fd_count != 1)
			break;
		if (ioctl(fds[0], NS_GET_NSTYPE) != CLONE_NEWNET)
			return refuse(
				refusal, NSGATE_STATUS_USAGE,
				"%s is not a network namespace: name one made by `ip netns add`, a "
				"/proc/PID/ns/net or a bind mount of it",
				message->target);
		return 0;
	case NSGATE_TARGET_HANDOFF:
		if (fd_count != 1 && fd_count != NSGATE_HANDOFF_FDS)
			break;
		if (message->queue_count != 1)
			return refuse(refusal, NSGATE_STATUS_USAGE,
				      "a handed-in socket serves one queue: leave --queues at 1");
		if (netns_fds_check_handed(fds, fd_count, &why) < 0)
			return refuse(refusal, NSGATE_STATUS_REFUSED, "the handoff is refused: %s",
				      why);
		return 0;
	}
	return refuse(refusal, NSGATE_STATUS_USAGE,
		      "the attach message carries %u descriptors, which its kind of target does "
		      "not ask for",
		      fd_count);
}

static const char *why_busy(const struct attachment *holder)
{
	switch (holder->state) {
	case ATTACHMENT_FOUND:
		return holder->recovering ? "being looked for, as it was attached before"
					  : "being attached";
	case ATTACHMENT_OPENED:
	case ATTACHMENT_OFFERED:
		return "being attached";
	case ATTACHMENT_DRAINING:
		return "still being detached";
	case ATTACHMENT_IN_FORCE:
	case ATTACHMENT_GONE:
	case ATTACHMENT_STATES:
		break;
	}
	return NULL;
}

int prepare_check_name(const struct nsgate_msg_attach *message, struct refusal *refusal)
{
	const struct attachment *holder = attachment_find(message->name);
	const char *busy;

	if (!holder || (message->flags & NSGATE_ATTACH_REPLACE && !holder->recovering))
		return 0;
	busy = why_busy(holder);
	if (busy)
		return refuse(refusal, NSGATE_STATUS_BUSY, "%s is %s: try again", message->name,
			      busy);
	return refuse(refusal, NSGATE_STATUS_FAILED,
		      "the name %s is in use: detach it first, say --replace, or choose "
		      "another with --name",
		      message->name);
}

static int explain_opening(const struct nsgate_msg_attach *message, int err,
			   struct refusal *refusal)
{
	if (err == -ESRCH)
		return refuse(refusal, NSGATE_STATUS_NOT_FOUND,
			      "%s is gone: the process ended before its namespace could be entered",
			      message->target);
	if (is_fd_shortage(err))
		return refuse_for_fds(refusal);
	return refuse(refusal, err == -EPERM ? NSGATE_STATUS_REFUSED : NSGATE_STATUS_FAILED,
		      "cannot enter the namespace of %s: %s%s", message->target, strerror(-err),
		      err == -EPERM ? ": the broker needs CAP_SYS_ADMIN, CAP_SYS_PTRACE and "
				      "CAP_NET_ADMIN when it starts"
				    : "");
}

static int identify_opened(struct attachment *attachment, const struct nsgate_msg_attach *message,
			   struct refusal *refusal)
{
	struct nsgate_ns_record *record = &attachment->record;
	struct attachment *other;
	int err = netns_fds_identify(attachment->netns.queues[0], &record->cookie, &record->inode);

	if (err)
		record->cookie = 0;
	if (is_fd_shortage(err))
		return refuse_for_fds(refusal);
	if (err) {
		return refuse(
			refusal, NSGATE_STATUS_FAILED,
			"cannot tell which namespace %s is: %s (Linux 5.14 or later is needed)",
			message->target, strerror(-err));
	}
	if (record->cookie == broker_cookie && !(message->flags & NSGATE_ATTACH_ALLOW_HOST)) {
		record->cookie = 0;
		return refuse(refusal, NSGATE_STATUS_REFUSED,
			      "%s is the host's own network namespace: a policy there can cut the "
			      "host off; "
			      "say --allow-host if that is meant",
			      message->target);
	}
	for (other = attachment_first(); other; other = other->next) {
		if (other == attachment || other->recovering || other->state == ATTACHMENT_GONE ||
		    other->record.cookie != record->cookie)
			continue;
		record->cookie = 0;
		if (other->state != ATTACHMENT_IN_FORCE)
			return refuse(refusal, NSGATE_STATUS_BUSY,
				      "%s is being attached or detached by somebody else, as %s: "
				      "try again",
				      message->target, other->record.name);
		return refuse(refusal, NSGATE_STATUS_FAILED,
			      "%s is attached already, as %s: detach that first, or rebind it with "
			      "`nsgatectl namespace policy`",
			      message->target, other->record.name);
	}
	return 0;
}

/* Return: 0; -EBUSY somebody has one of the numbers; -1 another failure; with its reason. */
static int bind_queues(struct attachment *attachment, struct refusal *refusal)
{
	struct nsgate_ns_record *record = &attachment->record;

	record->bound_at_ns = clock_ns(CLOCK_BOOTTIME);
	for (unsigned int i = 0; i < record->queue_count; i++) {
		unsigned int number = record->queue_first + i;
		int err = queue_setup(attachment->netns.queues[i], (uint16_t)number,
				      record->queue_count, broker_config.queue_length);

		if (err == -EBUSY) {
			refuse(refusal, NSGATE_STATUS_FAILED,
			       "queue %u is taken by another program in that namespace: stop it or "
			       "choose another with --queue",
			       number);
			return -EBUSY;
		}
		if (err)
			return refuse(
				refusal, NSGATE_STATUS_FAILED, "cannot bind queue %u: %s%s", number,
				strerror(-err),
				err == -EPERM
					? ": whoever opened the socket lacks CAP_NET_ADMIN there"
					: "");
	}
	return 0;
}

/*
 * Somebody may have bound the number while both daemons were away, and then gets the packets. Any
 * other number will do, as the rules follow.
 */
#define MOVE_TRIES 64

static int bind_somewhere(struct attachment *attachment, int target, struct refusal *refusal)
{
	struct nsgate_ns_record *record = &attachment->record;
	int err = bind_queues(attachment, refusal);

	for (int i = 0; err == -EBUSY && i < MOVE_TRIES; i++) {
		uint32_t random;

		if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
			break;
		record->queue_first = queue_number_choose(record->queue_count, random);
		fds_close(attachment->netns.queues,
			  NSGATE_QUEUES_MAX); /* some may be bound already */
		if (netns_fds_open(target, &attachment->netns) < 0)
			break;
		err = bind_queues(attachment, refusal);
	}
	return err ? -1 : 0;
}

static int make_counters(struct attachment *attachment, struct refusal *refusal)
{
	const struct nsgate_ns_record *record = &attachment->record;
	int err;

	attachment->shm = records_counters(record->cookie, record->queue_count);
	if (attachment->shm >= 0)
		return 0;
	err = attachment->shm;
	return refuse(refusal, NSGATE_STATUS_FAILED,
		      "cannot make the counters in %s/attached: %s%s", broker_config.runtime_dir,
		      strerror(-err), err == -ENOSPC ? ": make room on that file system" : "");
}

/* Return: 0 or -errno. */
static int watch_opened(struct attachment *attachment)
{
	int err = attachment_watch(attachment);

	return err ? err : audit_watch(attachment);
}

static void fill_record(struct nsgate_ns_record *record, const struct nsgate_msg_attach *message)
{
	record->attached_at = time(NULL);
	record->target_kind = message->target_kind;
#ifdef NSGATE_TEST_GROWN
	record->spare[0] = record->grown = NSGATE_TEST_GROWN;
#endif
	record->flags = message->flags & ~(NSGATE_ATTACH_UNSEEN | NSGATE_ATTACH_CHANGING);
	record->queue_first = message->queue_first;
	record->queue_count = message->queue_count;
	record->backend = (uint16_t)broker_features.backend;
	record->has_watch =
		message->target_kind == NSGATE_TARGET_PID &&
		!(message->flags & NSGATE_ATTACH_CONTAINER); /* they are watched apart */
	memcpy(record->policy, message->policy, sizeof(record->policy));
	memcpy(record->target, message->target, sizeof(record->target));
	memcpy(record->labels, message->labels, sizeof(record->labels));
}

int prepare_opened(struct attachment *attachment, int err, struct refusal *refusal)
{
	struct opening *opening = attachment->opening;
	const struct nsgate_msg_attach *message = &opening->message;

	fill_record(&attachment->record, message);
	if (err)
		return explain_opening(message, err, refusal);
	/* Any other target is closed with the opening: an open netns fd would pin the namespace. */
	if (attachment->record.has_watch) {
		attachment->watch = opening->target;
		opening->target = -1;
	}
	if (identify_opened(attachment, message, refusal) < 0 ||
	    bind_queues(attachment, refusal) < 0)
		return -1;
	/* Counters begin at attach; but a handoff that comes back goes on with its own. */
	if (message->target_kind != NSGATE_TARGET_HANDOFF)
		records_remove(attachment->record.cookie);
	if (make_counters(attachment, refusal) < 0)
		return -1;
	err = watch_opened(attachment);
	if (is_fd_shortage(err))
		return refuse_for_fds(refusal);
	if (err)
		return refuse(refusal, NSGATE_STATUS_FAILED, "cannot watch %s for changes: %s",
			      message->target, strerror(-err));
	return 0;
}

int prepare_check(const struct nsgate_msg_attach *message, const int *fds, unsigned int fd_count,
		  struct refusal *ret_refusal)
{
	if (check_texts(message, ret_refusal) < 0 ||
	    check_fds(message, fds, fd_count, ret_refusal) < 0)
		return -1;
	return 0;
}

static int open_restored(struct attachment *attachment, int target, struct refusal *refusal)
{
	const struct nsgate_ns_record *record = &attachment->record;
	uint64_t cookie, inode;
	int err;

	attachment->netns.queue_count = record->queue_count;
	err = netns_fds_open(target, &attachment->netns);
	if (!err)
		err = netns_fds_identify(attachment->netns.rules, &cookie, &inode);
	if (err)
		return refuse(refusal,
			      err == -EINVAL || err == -ESRCH ? NSGATE_STATUS_NOT_FOUND
							      : NSGATE_STATUS_FAILED,
			      "cannot enter what %s leads to: %s", record->target, strerror(-err));
	if (cookie != record->cookie)
		return refuse(refusal, NSGATE_STATUS_NOT_FOUND, "%s leads to another namespace now",
			      record->target);
	if (bind_somewhere(attachment, target, refusal) < 0 ||
	    make_counters(attachment, refusal) < 0)
		return -1;
	follow_name(attachment);
	err = members_load(attachment);
	if (err)
		return refuse(refusal, NSGATE_STATUS_FAILED, "cannot tell its containers: %s",
			      strerror(-err));
	err = watch_opened(attachment);
	if (err)
		return refuse(refusal, NSGATE_STATUS_FAILED, "cannot watch it: %s", strerror(-err));
	return 0;
}

int prepare_restored(struct attachment *attachment, int target, struct refusal *ret_refusal)
{
	struct nsgate_ns_record *record = &attachment->record;

	record->flags &= ~NSGATE_ATTACH_UNSEEN; /* it leads there, or nothing comes of it */
	if (target == -ENOENT || target == -ESRCH || target == -EOPNOTSUPP)
		return refuse(ret_refusal, NSGATE_STATUS_NOT_FOUND,
			      "nothing leads to %s any more: %s", record->target,
			      strerror(-target));
	if (target < 0)
		return refuse(ret_refusal, NSGATE_STATUS_FAILED, "cannot open %s: %s",
			      record->target, strerror(-target));
	if (record->has_watch)
		attachment->watch = target;
	if (open_restored(attachment, target, ret_refusal) < 0) {
		if (!record->has_watch)
			close(target);
		return -1;
	}
	if (!record->has_watch)
		close(target);
	return 0;
}

/* The queues are there: open the rest by the broker's own hand, and follow what may end. */
static int open_rest(struct attachment *attachment)
{
	struct nsgate_ns_record *record = &attachment->record;
	uint64_t cookie;
	int netns = netns_of_socket(attachment->netns.queues[0]);
	int err = netns < 0 ? netns : netns_fds_open(netns, &attachment->netns);

	fd_close(&netns);
	/* By it containers are told to be in there. */
	if (!err)
		err = netns_fds_identify(attachment->netns.rules, &cookie, &record->inode);
	if (err)
		return err;
	follow_name(attachment);
	err = members_load(attachment);
	return err ? err : watch_opened(attachment);
}

int prepare_stored(struct attachment *attachment)
{
	const struct nsgate_ns_record *record = &attachment->record;
	struct refusal refusal;

	attachment->netns.queue_count = record->queue_count;
	if (!record->has_watch)
		fd_close(&attachment->watch);
	if (make_counters(attachment, &refusal) < 0)
		return attachment->shm;
	return open_rest(attachment);
}

int prepare_adopted(struct attachment *attachment, int *fds, unsigned int fd_count)
{
	struct refusal refusal;
	int err = held_take(attachment, fds, fd_count);

	if (err)
		return err;
	/* The agent has them mapped: they stay what they are, in size, too. */
	attachment->shm = records_counters_found(attachment->record.cookie);
	if (attachment->shm == -ENOENT)
		(void)make_counters(attachment, &refusal);
	return attachment->shm < 0 ? attachment->shm : open_rest(attachment);
}
