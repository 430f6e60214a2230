// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/recover.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/enforce.h"
#include "broker/enter.h"
#include "broker/fdstore.h"
#include "ipc.h"
#include "log.h"
#include "loop.h"
#include "broker/place.h"
#include "broker/prepare.h"
#include "broker/records.h"
#include "broker/release.h"
#include "timer.h"

#define AGAIN_FIRST_MS 1000
#define AGAIN_LAST_MS 60000

/*
 * Where memory or descriptors were short for taking over what was attached before, its packets
 * wait, and nobody else would come back to it: it is tried again, less and less often.
 */
static void retry_recovery(struct timer *timer);

static struct {
	struct timer timer;
	int delay_ms;
	bool restore; /* what the records say */
	bool adopt;   /* what the agent holds: it tells a new connection */
	bool offer;   /* what the agent refused: the attachments that say so */
	bool held;    /* the agent is to tell anew what it holds */
} again = {.timer.due = retry_recovery};

static void recover_later(bool *what)
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
 * The agent that is connected holds a namespace for which there was no memory here: nothing is
 * restored, as its queues are taken.
 */
static bool unlisted_held;

/* All have been read. */
static bool records_listed;

static void adopt_later(struct attachment *attachment)
{
	if (attachment)
		attachment->with_agent = true;
	else
		unlisted_held = true;
	recover_later(&again.adopt);
}

bool recover_wants_held(void)
{
	const bool wanted = again.held;

	again.held = false;
	return wanted;
}

static void forget_held(void)
{
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		attachment->with_agent = false;
	unlisted_held = false;
}

void recover_agent_lost(void)
{
	forget_held(); /* the next one tells everything anew */
	again.adopt = again.held = false;
}

/* ---- what is found ---- */

static void list_record(const struct nsgate_ns_record *record)
{
	struct attachment *attachment = attachment_find_recovering(record->cookie);

	if (attachment_find_cookie(record->cookie) || (attachment && attachment->on_record))
		return;
	if (!attachment)
		attachment = attachment_new();
	if (!attachment) {
		records_listed = false;
		return;
	}
	attachment->recovering = attachment->on_record = true;
	attachment->record = *record;
}

static int list_records(void)
{
	int err;

	records_listed = true;
	err = records_each(list_record);
	if (err)
		records_listed = false;
	return err;
}

/* What was opened of it comes to nothing; but what owns its table goes on to. */
static void back_to_found(struct attachment *attachment, const struct nsgate_ns_record *record)
{
	int rules = attachment->netns.rules;

	if (rules >= 0 && !fdstore_is_of(rules, record->cookie))
		fd_close(&rules);
	attachment->netns.rules = -1;
	release_descriptors(attachment);
	attachment->netns.rules = rules;
	attachment->netns.queue_count = 0;
	attachment->record = *record;
}

/* Of what systemd kept nothing is of use any more but what owns the table. */
static void forget_stored(struct attachment *attachment)
{
	fdstore_drop(attachment);
	fds_close(attachment->netns.queues, NSGATE_QUEUES_MAX);
	fd_close(&attachment->watch);
}

void recover_forget(uint64_t cookie)
{
	struct attachment *attachment = attachment_find_recovering(cookie);

	if (!attachment)
		return;
	fdstore_drop(attachment);
	release(attachment);
}

void recover_lend_rules(struct attachment *attachment)
{
	struct attachment *found = attachment_find_recovering(attachment->record.cookie);

	if (!found || found->netns.rules < 0)
		return;
	fd_close(&attachment->netns.rules);
	attachment->netns.rules = found->netns.rules;
	attachment->table = found->table;
	found->netns.rules = -1;
}

bool recover_return_rules(struct attachment *attachment)
{
	struct attachment *found = attachment_find_recovering(attachment->record.cookie);

	if (!found)
		return false;
	if (found->netns.rules < 0) {
		found->netns.rules = attachment->netns.rules;
		attachment->netns.rules = -1;
	}
	(void)records_save(&found->record); /* it may have been removed */
	return true;
}

/* ---- from the fd store, and the rules of the rest, before any agent is there ---- */

static void restore_stored(struct attachment *attachment)
{
	const struct nsgate_ns_record record = attachment->record;
	const int incomplete = fdstore_check(attachment);
	const int err = incomplete ? incomplete : prepare_stored(attachment);

	if (err)
		log_event(LOG_LEVEL_WARNING, "fdstore.unused", "netns", record.name, "error",
			  log_errno(err), NULL);
	if (err && !incomplete)
		back_to_found(attachment, &record);
	if (err)
		return;
	attachment_move(attachment, ATTACHMENT_IN_FORCE);
	enforce_record(attachment);
	log_event(LOG_LEVEL_INFO, "restored", "netns", record.name, "from", "fdstore", NULL);
}

static int install_rules(struct attachment *attachment, const struct netns_fds *netns)
{
	struct links *links = links_open(netns->route);
	struct rules_links list = {.count = 0};
	int err;

	if (!links)
		return -errno;
	list.list = links_list(links, &list.count);
	err = enforce_install(netns->rules, &attachment->record, &list, &attachment->table);
	links_close(links);
	return err;
}

static void log_not_owned(const struct attachment *attachment, int err)
{
	log_event(LOG_LEVEL_WARNING, "custody.failed", "netns", attachment->record.name, "error",
		  log_errno(err), NULL);
}

/* Put the record's rules in force in the namespace that it names, and keep a socket for them. */
static void own_table(struct place_question *question, int target)
{
	struct attachment *attachment = loop_owner(question, struct attachment, look);
	struct netns_fds netns = NETNS_FDS_NONE; /* no queues: the agent may have them */
	uint64_t cookie, inode;
	int err = target < 0 ? target : netns_fds_open(target, &netns);

	fd_close(&target);
	if (!err)
		err = netns_fds_identify(netns.rules, &cookie, &inode);
	if (!err && cookie != attachment->record.cookie)
		err = -ESTALE;
	if (!err)
		err = install_rules(attachment, &netns);
	if (err) {
		log_not_owned(attachment, err);
	} else {
		attachment->netns.rules = netns.rules;
		netns.rules = -1;
	}
	netns_fds_close(&netns);
}

static void look_for_table(struct attachment *attachment)
{
	fd_close(&attachment->netns.rules);
	place_ask(&attachment->look, &attachment->record, own_table);
}

/* By what systemd kept; links that came meanwhile follow when it is in force. */
static void own_stored_table(struct attachment *attachment)
{
	const struct rules_links none = {.count = 0};
	int err = enforce_install(attachment->netns.rules, &attachment->record, &none,
				  &attachment->table);

	if (err)
		log_not_owned(attachment, err);
}

void recover_begin(void)
{
	int err = list_records();

	if (err)
		log_event(LOG_LEVEL_WARNING, "custody.failed", "error", log_errno(err), NULL);
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (attachment->on_record && attachment->stored)
			restore_stored(attachment);
	/* Where an agent runs it connects at once; where none does, what may pass passes soon. */
	if (attachment_count())
		enforce_agent_lost();
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next) {
		if (!attachment->recovering || !attachment->on_record)
			continue;
		if (attachment->netns.rules >= 0 &&
		    fdstore_is_of(attachment->netns.rules, attachment->record.cookie))
			own_stored_table(attachment);
		else
			look_for_table(attachment);
	}
	/* Before any agent connects. All are looked for at once: one that hangs is waited for once.
	 */
	enter_wait();
	enter_tick();
}

/* ---- what the agent holds ---- */

/* The agent goes on; nobody can change its rules, and the operator must know. */
static void adopt_failed(struct attachment *attachment, int err)
{
	log_event(LOG_LEVEL_ERROR, "adopt.failed", "netns", attachment->record.name, "error",
		  log_errno(err), NULL);
	adopt_later(attachment);
}

#define DISOWNED_MAX 4096 /* at once: an agent can make up more than it can hold */
#define DISOWNED_LINES 5  /* log lines a second */

static unsigned int count_gone(void)
{
	unsigned int count = 0;

	for (const struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		count += attachment->state == ATTACHMENT_GONE;
	return count;
}

/*
 * Nobody attached it, or it was detached and a broker that died could not tell the agent so. What
 * the agent says it was is not taken for it.
 */
static void disown(uint64_t cookie)
{
	static struct log_limit limit;
	unsigned int suppressed = 0;
	struct attachment *attachment;

	if (log_allowed(&limit, DISOWNED_LINES, &suppressed))
		log_event(LOG_LEVEL_WARNING, "adopt.unknown", "cookie", log_number((int64_t)cookie),
			  "why",
			  "the agent holds what is not on record: it is told to let go of it",
			  "suppressed", suppressed ? log_number(suppressed) : NULL, NULL);
	attachment = count_gone() < DISOWNED_MAX ? attachment_new() : NULL;
	if (!attachment)
		return;
	attachment->record.cookie = cookie;
	release_to_gone(attachment, false);
}

/* Return: NULL: it is not on record, so it may not become ours, and all is said and done. */
static struct attachment *find_recorded(uint64_t cookie)
{
	struct attachment *attachment = attachment_find_recovering(cookie);
	struct nsgate_ns_record record;
	int err;

	if (attachment && attachment->on_record)
		return attachment;
	err = records_load(cookie, &record);
	if (!err)
		list_record(&record);
	attachment = err ? NULL : attachment_find_recovering(cookie);
	if (err == -ENOENT || err == -EBADMSG)
		disown(cookie);
	else if (!attachment)
		adopt_later(NULL);
	return attachment;
}

void recover_failed(uint64_t cookie, int err)
{
	struct attachment *attachment = attachment_find_gone(cookie) ? NULL : find_recorded(cookie);

	if (attachment)
		adopt_failed(attachment, err);
}

static void adopt_held(struct attachment *attachment, int *fds, unsigned int fd_count)
{
	const struct nsgate_ns_record own = attachment->record;
	int err;

	place_forget(&attachment->look);
	attachment->searched = false;
	forget_stored(attachment);
	err = prepare_adopted(attachment, fds, fd_count);
	if (err) {
		back_to_found(attachment, &own);
		adopt_failed(attachment, err);
		return;
	}
	attachment_move(attachment, ATTACHMENT_IN_FORCE);
	attachment->todo |= TODO_LINKS;
	if (own.rules.generation)
		enforce_record(attachment);
	fdstore_keep(attachment);
	log_event(LOG_LEVEL_INFO, "adopted", "netns", own.name, NULL);
}

void recover_adopt(uint64_t cookie, int *fds, unsigned int fd_count)
{
	struct attachment *attachment = NULL;

	if (!attachment_find_gone(cookie) && /* detached, and the agent has not heard it yet */
	    !attachment_find_cookie(cookie)) /* ours already: it only lost its connection */
		attachment = find_recorded(cookie);
	if (attachment)
		adopt_held(attachment, fds, fd_count);
	else
		fds_close(fds, fd_count);
}

/* ---- the rest, by the records ---- */

/* Another has its namespace or its name. */
static bool is_superseded(const struct attachment *attachment)
{
	for (const struct attachment *other = attachment_first(); other; other = other->next)
		if (!other->recovering && other->state != ATTACHMENT_GONE &&
		    (other->record.cookie == attachment->record.cookie ||
		     strcmp(other->record.name, attachment->record.name) == 0))
			return true;
	return false;
}

static void not_restored(struct attachment *attachment, const struct refusal *refusal)
{
	const struct nsgate_ns_record *record = &attachment->record;

	log_event(LOG_LEVEL_WARNING, "restore.failed", "netns", record->name, "why", refusal->text,
		  NULL);
	/* A handoff brings its namespace back itself, and then wants its counters. */
	if (refusal->status != NSGATE_STATUS_NOT_FOUND) {
		attachment->searched = false;
		recover_later(&again.restore);
	} else if (record->target_kind != NSGATE_TARGET_HANDOFF) {
		records_remove(record->cookie);
		recover_forget(record->cookie);
	}
}

static void restore_found(struct attachment *attachment, int target)
{
	const struct nsgate_ns_record record = attachment->record;
	struct refusal refusal = {.status = NSGATE_STATUS_OK};

	if (prepare_restored(attachment, target, &refusal) < 0) {
		back_to_found(attachment, &record);
		not_restored(attachment, &refusal);
		return;
	}
	attachment_move(attachment, ATTACHMENT_IN_FORCE);
	enforce_record(attachment);
	if (attachment->record.queue_first != record.queue_first)
		enforce_queue_moved(attachment, record.queue_first);
	fdstore_keep(attachment);
	log_event(LOG_LEVEL_INFO, "restored", "netns", record.name, NULL);
	attachment_offer(attachment);
}

static void place_found(struct place_question *question, int target)
{
	struct attachment *attachment = loop_owner(question, struct attachment, look);

	if (is_superseded(attachment) || attachment->with_agent || unlisted_held) {
		attachment->searched = false;
		fd_close(&target);
	} else {
		restore_found(attachment, target);
	}
}

/* What the agent holds was adopted by now; the rest, only records remember. */
static void restore_all(void)
{
	int err = records_listed ? 0 : list_records();

	if (err)
		log_event(LOG_LEVEL_WARNING, "restore.failed", "error", log_errno(err), NULL);
	if (!records_listed)
		recover_later(&again.restore);
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next) {
		if (!attachment->recovering || !attachment->on_record || attachment->searched ||
		    attachment->with_agent || unlisted_held || is_superseded(attachment))
			continue;
		attachment->searched = true;
		place_ask(&attachment->look, &attachment->record, place_found);
	}
}

void recover_rest(void)
{
	struct attachment *next;

	for (struct attachment *attachment = attachment_first(); attachment; attachment = next) {
		next = attachment->next;
		if (!attachment->recovering)
			continue;
		forget_stored(attachment);
		if (!attachment->on_record) /* nobody has claimed it */
			release(attachment);
	}
	restore_all();
	if (!timer_is_set(&again.timer))
		again.delay_ms = 0;
}

/* ---- again ---- */

void recover_refused(struct attachment *attachment)
{
	attachment->refused = true;
	recover_later(&again.offer);
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

static void retry_recovery(struct timer *timer)
{
	bool adopt = again.adopt, restores = again.restore;

	if (!broker_agent_here) { /* it is looked at when there is one */
		timer_set(timer, loop_now_ms() + again.delay_ms);
		return;
	}
	again.adopt = again.restore = again.offer = false;
	offer_refused();
	if (restores)
		restore_all();
	if (adopt)
		again.held = true;
	else if (!timer_is_set(&again.timer))
		again.delay_ms = 0;
}
