// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/recover.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "broker/agent_link.h"
#include "broker/attach.h"
#include "broker/custody.h"
#include "broker/enforce.h"
#include "broker/fdstore.h"
#include "ipc.h"
#include "log.h"
#include "loop.h"
#include "broker/owed.h"
#include "broker/place.h"
#include "broker/prepare.h"
#include "broker/records.h"
#include "timer.h"

#define AGAIN_FIRST_MS 1000
#define AGAIN_LAST_MS 60000

/*
 * Where memory or descriptors were short for taking over what was attached before, its packets
 * wait, and nobody else would come back to it: it is tried again, less and less often.
 */
static void do_again(struct timer *timer);

static struct {
	struct timer timer;
	int delay_ms;
	bool restore; /* what the records say */
	bool adopt;   /* what the agent holds: it tells a new connection */
	bool offer;   /* what the agent refused: the attachments that say so */
} again = {.timer.due = do_again};

static void try_again(bool *what)
{
	*what = true;
	if (timer_is_set(&again.timer))
		return;
	again.delay_ms = again.delay_ms ? 2 * again.delay_ms : AGAIN_FIRST_MS;
	if (again.delay_ms > AGAIN_LAST_MS)
		again.delay_ms = AGAIN_LAST_MS;
	timer_set(&again.timer, loop_now_ms() + again.delay_ms);
}

/*
 * What the agent that is connected holds and could not be made ours. Its record must not be
 * restored: the queues are taken, and the rules would lead to others. Where there are more, nothing
 * is restored until they are fewer.
 */
#define UNADOPTED_MAX 64

static struct {
	uint64_t cookies[UNADOPTED_MAX];
	unsigned int count; /* UNADOPTED_MAX + 1: more than have room */
} unadopted;

static void adopt_later(uint64_t cookie)
{
	if (unadopted.count < UNADOPTED_MAX)
		unadopted.cookies[unadopted.count] = cookie;
	if (unadopted.count <= UNADOPTED_MAX)
		unadopted.count++;
	try_again(&again.adopt);
}

static bool is_unadopted(uint64_t cookie)
{
	for (unsigned int i = 0; i < unadopted.count && i < UNADOPTED_MAX; i++)
		if (unadopted.cookies[i] == cookie)
			return true;
	return unadopted.count > UNADOPTED_MAX;
}

void recover_agent_lost(void)
{
	unadopted.count = 0; /* the next one tells everything anew */
	again.adopt = false;
}

/* ---- from the fd store, before any agent is there ---- */

static void restore_stored(const struct nsgate_ns_record *record)
{
	struct attachment *attachment;
	int err;

	if (!fdstore_has(record->cookie))
		return;
	attachment = attachment_new(attach_orphaned, enforce_links);
	if (!attachment)
		return;
	err = prepare_stored(attachment, record);
	if (err) {
		log_event(LOG_LEVEL_WARNING, "fdstore.unused", "netns", record->name, "error",
			  log_errno(err), NULL);
		attachment_free(attachment);
		return;
	}
	attachment->state = ATTACHMENT_IN_FORCE;
	enforce_record(attachment);
	log_event(LOG_LEVEL_INFO, "restored", "netns", record->name, "from", "fdstore", NULL);
}

void recover_stored(void)
{
	records_each(restore_stored);
	/* Where an agent runs it connects at once; where none does, what may pass passes soon. */
	if (attachment_first())
		enforce_agent_lost();
}

/* ---- what the agent holds ---- */

/* The agent goes on; nobody can change its rules, and the operator must know. */
static void adopt_failed(const struct nsgate_ns_record *record, int err)
{
	log_event(LOG_LEVEL_ERROR, "adopt.failed", "netns", record->name, "error", log_errno(err),
		  NULL);
	adopt_later(record->cookie);
}

#define DISOWNED_MAX 4096 /* at once: an agent can make up more than it can hold */
#define DISOWNED_LINES 5  /* log lines a second */

/*
 * Nobody attached it, or it was detached and a broker that died could not tell the agent so. What
 * the agent says it was is not taken for it.
 */
static void disown(uint64_t cookie)
{
	static struct log_limit limit;
	unsigned int suppressed = 0;

	if (log_allowed(&limit, DISOWNED_LINES, &suppressed))
		log_event(LOG_LEVEL_WARNING, "adopt.unknown", "cookie", log_number((int64_t)cookie),
			  "why",
			  "the agent holds what is not on record: it is told to let go of it",
			  "suppressed", suppressed ? log_number(suppressed) : NULL, NULL);
	if (owed_count() < DISOWNED_MAX)
		owed_add(cookie, 0);
}

/* Return: is it on record, so that it may become ours? Else all is said and done. */
static bool find_record(uint64_t cookie, struct nsgate_ns_record *ret_own)
{
	const int err = records_load(cookie, ret_own);

	if (err == -ENOENT || err == -EBADMSG)
		disown(cookie);
	else if (err)
		adopt_later(cookie);
	return !err;
}

void recover_failed(uint64_t cookie, int err)
{
	struct nsgate_ns_record own;

	if (!owed_has(cookie) && find_record(cookie, &own))
		adopt_failed(&own, err);
}

static void adopt(const struct nsgate_ns_record *own, int *fds, unsigned int fd_count)
{
	struct attachment *attachment = attachment_new(attach_orphaned, enforce_links);
	int err;

	if (!attachment) {
		fds_close(fds, fd_count);
		adopt_later(own->cookie);
		return;
	}
	err = prepare_adopted(attachment, own, fds, fd_count);
	if (err) {
		attachment_free(attachment);
		adopt_failed(own, err);
		return;
	}
	attachment->state = ATTACHMENT_IN_FORCE;
	attachment->todo |= TODO_LINKS;
	if (own->rules.generation)
		enforce_record(attachment);
	fdstore_keep(attachment);
	log_event(LOG_LEVEL_INFO, "adopted", "netns", own->name, NULL);
}

void recover_adopt(uint64_t cookie, int *fds, unsigned int fd_count)
{
	struct nsgate_ns_record own;

	if (!owed_has(cookie) &&	       /* detached, and the agent has not heard it yet */
	    !attachment_find_cookie(cookie) && /* ours already: it only lost its connection */
	    find_record(cookie, &own))
		adopt(&own, fds, fd_count);
	else
		fds_close(fds, fd_count);
}

/* ---- the rest, by the records ---- */

/* A record whose namespace is being looked for. */
struct search {
	struct search *next;
	struct place_question question;
	struct nsgate_ns_record record;
};

static struct search *searches;

bool recover_seeks(const char *name)
{
	const struct search *search = searches;

	while (search && strcmp(search->record.name, name) != 0)
		search = search->next;
	return search != NULL;
}

static bool is_ours(const struct nsgate_ns_record *record)
{
	return attachment_find_cookie(record->cookie) || attachment_find(record->name) ||
	       is_unadopted(record->cookie);
}

static void not_restored(const struct nsgate_ns_record *record, const struct refusal *refusal)
{
	log_event(LOG_LEVEL_WARNING, "restore.failed", "netns", record->name, "why", refusal->text,
		  NULL);
	/* A handoff brings its namespace back itself, and then wants its counters. */
	if (refusal->status != NSGATE_STATUS_NOT_FOUND) {
		try_again(&again.restore);
	} else if (record->target_kind != NSGATE_TARGET_HANDOFF) {
		records_remove(record->cookie);
		custody_forget(record->cookie);
	}
}

static void restore(const struct nsgate_ns_record *record, int target)
{
	struct refusal refusal = {.status = NSGATE_STATUS_OK};
	struct attachment *attachment = attachment_new(attach_orphaned, enforce_links);

	if (!attachment) {
		fd_close(&target);
		try_again(&again.restore);
		return;
	}
	if (prepare_restored(attachment, record, target, &refusal) < 0) {
		not_restored(record, &refusal);
		attachment_free(attachment);
		return;
	}
	attachment->state = ATTACHMENT_IN_FORCE;
	enforce_record(attachment);
	if (attachment->record.queue_first != record->queue_first)
		enforce_queue_moved(attachment, record->queue_first);
	fdstore_keep(attachment);
	log_event(LOG_LEVEL_INFO, "restored", "netns", record->name, NULL);
	attachment_offer(attachment);
}

static void found(struct place_question *question, int target)
{
	struct search *search = loop_owner(question, struct search, question);
	struct search **at = &searches;

	while (*at != search)
		at = &(*at)->next;
	*at = search->next;
	if (!is_ours(&search->record))
		restore(&search->record, target);
	else
		fd_close(&target);
	free(search);
}

static void search_for(const struct nsgate_ns_record *record)
{
	struct search *search;

	if (is_ours(record))
		return;
	search = calloc(1, sizeof(*search));
	if (!search) {
		try_again(&again.restore);
		return;
	}
	search->next = searches;
	searches = search;
	search->record = *record;
	place_ask(&search->question, &search->record, found);
}

/* What the agent holds was adopted by now; the rest, only records remember. */
static void restore_all(void)
{
	const bool busy = searches != NULL; /* those would be found twice */
	int err = busy ? 0 : records_each(search_for);

	if (err)
		log_event(LOG_LEVEL_WARNING, "restore.failed", "error", log_errno(err), NULL);
	if (err || busy)
		try_again(&again.restore);
}

void recover_rest(void)
{
	static bool restored;

	if (!restored) {
		restore_all();
		restored = !unadopted.count;
	}
	if (!timer_is_set(&again.timer))
		again.delay_ms = 0;
}

/* ---- again ---- */

void recover_refused(struct attachment *attachment)
{
	attachment->refused = true;
	try_again(&again.offer);
}

static void offer_refused(void)
{
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next) {
		if (attachment->refused && attachment->state == ATTACHMENT_IN_FORCE)
			attachment_offer(attachment);
		attachment->refused = false;
	}
}

static void do_again(struct timer *timer)
{
	bool adopt = again.adopt, restores = again.restore;

	if (!attach_agent_here()) { /* it is looked at when there is one */
		timer_set(timer, loop_now_ms() + again.delay_ms);
		return;
	}
	again.adopt = again.restore = again.offer = false;
	offer_refused();
	if (restores)
		restore_all();
	if (adopt)
		agent_link_renew();
	else if (!timer_is_set(&again.timer))
		again.delay_ms = 0;
}
