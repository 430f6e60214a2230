// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/enforce.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/conntrack.h"
#include "log.h"
#include "loop.h"
#include "nsgate/shm.h"
#include "nsgate/table.h"
#include "broker/queue_setup.h"
#include "record.h"
#include "broker/records.h"
#include "broker/nft/rules.h"
#include "timer.h"

/*
 * Generations are few and come round: a flow that slept through all of them must not wake up known
 * to a policy that never judged it; nor may one that an earlier attachment left. Free in a
 * namespace without flows; else a walk of the table.
 */
static void forget_before_reuse(struct attachment *attachment, uint32_t generation)
{
	uint32_t before = attachment->record.rules.generation;
	int err;

	if (generation < before)
		attachment->record.wrapped = 1;
	if (generation == before || (before && !attachment->record.wrapped))
		return;
	err = before ? conntrack_forget(attachment->netns.rules, generation)
		     : conntrack_forget_all(attachment->netns.rules);
	if (err)
		log_event(LOG_LEVEL_WARNING, "forget.failed", "netns", attachment->record.name,
			  "error", log_errno(err), NULL);
}

static struct rules_queues queues_of(const struct nsgate_ns_record *record,
				     const struct rules_links *links)
{
	return (struct rules_queues){
		.backend = (enum nsgate_backend)record->backend,
		.owned = broker_features.owned_tables,
		.fib = broker_features.fib,
		.cookie = record->cookie,
		.first = record->queue_first,
		.count = record->queue_count,
		.links = *links,
	};
}

/* @ret_generation: as struct rules_queues has it, where tables cannot be owned; NULL: no matter */
static int install_spec(int rules_fd, const struct nsgate_ns_record *record,
			const struct nsgate_rules_spec *spec, const struct rules_links *links,
			uint32_t *ret_generation)
{
	struct rules_queues queues = queues_of(record, links);

	if (!queues.owned)
		queues.ret_generation = ret_generation;
	if (!record_rules_valid(spec))
		return -EINVAL;
	if (spec->flags & NSGATE_RULES_STRICT && !broker_features.guard)
		return -ENOSYS;
	return rules_install(rules_fd, &queues, spec);
}

/*
 * A predecessor may have emptied the rules itself, as no agent was there and the policy is open, or
 * have died while it changed them; it deletes no table.
 */
static bool was_changed(const struct nsgate_ns_record *record, uint64_t before, uint64_t after)
{
	return before == RULES_PRINT_NONE ||
	       (before != after && !(record->rules.flags & NSGATE_RULES_BYPASS) &&
		!(record->flags & NSGATE_ATTACH_CHANGING));
}

int enforce_install(int rules_fd, const struct nsgate_ns_record *record,
		    const struct rules_links *links, enum table_found *ret_state)
{
	uint64_t before = 0, after = 0;
	int err = rules_print(rules_fd, &before);

	if (!err)
		err = install_spec(rules_fd, record, &record->rules, links, NULL);
	if (!err)
		err = rules_print(rules_fd, &after);
	if (!err)
		*ret_state = was_changed(record, before, after) ? TABLE_MENDED : TABLE_INTACT;
	return err;
}

static struct rules_links known_links(const struct attachment *attachment)
{
	struct rules_links links = {.count = 0};

	links.list = links_list(attachment->links, &links.count);
	return links;
}

#define RETRY_MS 1000

static void retry_all(struct timer *timer);

static struct timer retry = {.due = retry_all}; /* set: rules or a record are owed */

static void save_record(struct attachment *attachment)
{
	unsigned int suppressed;
	int err = records_save(&attachment->record);

	attachment->unsaved = err != 0;
	if (!err)
		return;
	/* It only matters if this broker dies. */
	if (!timer_is_set(&retry))
		timer_set(&retry, loop_now_ms() + RETRY_MS);
	if (log_allowed(&attachment->unsaved_limit, 1, &suppressed))
		log_event(LOG_LEVEL_WARNING, "record.failed", "netns", attachment->record.name,
			  "error", log_errno(err), "why", "it is tried again", NULL);
}

/* `spec`: the rules to come; NULL: those that there are. */
static void note_change(const struct attachment *attachment, const struct nsgate_rules_spec *spec)
{
	struct nsgate_ns_record record = attachment->record;

	/* The first ones: who dies now has left rules that only a record leads to. */
	if (!record.rules.generation && spec && record_rules_valid(spec))
		record.rules = *spec;
	if (!record.rules.generation) /* nothing is on record */
		return;
	record.flags |= NSGATE_ATTACH_CHANGING;
	(void)records_save(&record); /* a false alarm at worst */
}

void enforce_changing(const struct attachment *attachment)
{
	note_change(attachment, NULL);
}

/* ---- tampering ---- */

#define TAMPER_LINES 5 /* log lines a second */
#define TELL_MS 500    /* between two messages to the agent about one namespace */

static void tell_all(struct timer *timer);

static struct timer tell = {.due = tell_all}; /* set: something is still to be told */

/* What comes too soon is told later, in one with what comes meanwhile. All of it is counted. */
static void tell_tamper(struct attachment *attachment)
{
	const int64_t now = loop_now_ms();

	attachment->untold = attachment->tell_ms > now;
	if (attachment->untold) {
		timer_set_by(&tell, attachment->tell_ms);
		return;
	}
	attachment->tell_ms = now + TELL_MS;
	attachment->todo |= TODO_TAMPER;
}

static void tell_all(struct timer *timer)
{
	(void)timer;
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		if (attachment->untold)
			tell_tamper(attachment);
}

static void note_tamper(struct attachment *attachment, enum nsgate_tamper kind, const char *event,
			const char *what)
{
	unsigned int suppressed = 0;

	attachment->record.repairs++;
	save_record(attachment);
	attachment->tamper = kind;
	snprintf(attachment->tampered, sizeof(attachment->tampered), "%s", what);
	tell_tamper(attachment);
	if (log_allowed(&attachment->tamper_limit, TAMPER_LINES, &suppressed))
		log_event(LOG_LEVEL_WARNING, event, "netns", attachment->record.name, "why", what,
			  "suppressed", suppressed ? log_number(suppressed) : NULL, NULL);
}

void enforce_queue_moved(struct attachment *attachment, uint16_t before)
{
	char what[NSGATE_TEXT_MAX];

	snprintf(
		what, sizeof(what),
		"another program there took queue %u while nsgate was away: packets go to queue %u "
		"now",
		before, attachment->record.queue_first);
	note_tamper(attachment, NSGATE_TAMPER_QUEUE, "queue.moved", what);
}

/* "inet nsgate-1a2b3c4d" */
static void name_table(char text[32], const char *family, uint32_t number)
{
	char name[NSGATE_TABLE_NAME_MAX];

	nsgate_table_name(name, number);
	snprintf(text, 32, "%s %s", family, name);
}

/* Somebody there can own a table of our name; then ours has another one. */
static void note_tables(struct attachment *attachment)
{
	struct nsgate_ns_record *record = &attachment->record;
	struct rules_table_numbers now;
	char what[NSGATE_TEXT_MAX], inet[32], netdev[32];

	if (rules_table_numbers(attachment->netns.rules, &now) < 0 ||
	    (now.inet == record->table_inet && now.netdev == record->table_netdev))
		return;
	record->table_inet = now.inet;
	record->table_netdev = now.netdev;
	name_table(inet, "inet", now.inet);
	name_table(netdev, "netdev", now.netdev);
	snprintf(what, sizeof(what), "%s: the rules are in %s and %s now",
		 now.inet || now.netdev ? "another program there owns a table of that name"
					: "the names of the tables are free again",
		 inet, netdev);
	note_tamper(attachment, NSGATE_TAMPER_TABLE, "table.moved", what);
}

/* ---- rules that could not be installed ---- */

static void rules_owe(struct attachment *attachment, int error)
{
	if (!timer_is_set(&retry))
		timer_set(&retry, loop_now_ms() + RETRY_MS);
	if (attachment->rules_owed)
		return;
	attachment->rules_owed = error;
	log_event(LOG_LEVEL_ERROR, "rules.failed", "netns", attachment->record.name, "error",
		  log_errno(error), NULL);
	attachment_update_degraded(attachment);
}

static void rules_paid(struct attachment *attachment)
{
	if (!attachment->rules_owed)
		return;
	attachment->rules_owed = 0;
	log_event(LOG_LEVEL_INFO, "rules.healed", "netns", attachment->record.name, NULL);
	attachment_update_degraded(attachment);
}

void enforce_record(struct attachment *attachment)
{
	const struct nsgate_ns_record record = attachment->record;
	const enum table_found found = attachment->table;
	uint64_t before = 1, after = 1;
	int err = 0;

	if (found == TABLE_UNSEEN)
		err = rules_print(attachment->netns.rules, &before);
	if (!err)
		err = enforce_rules(attachment, &record.rules);
	if (!err && found == TABLE_UNSEEN)
		(void)rules_print(attachment->netns.rules, &after);
	if (err)
		rules_owe(attachment, err);
	else if (record.table_inet != attachment->record.table_inet ||
		 record.table_netdev != attachment->record.table_netdev)
		return; /* that has been told */
	else if (was_changed(&record, before, after) || found == TABLE_MENDED)
		note_tamper(attachment, NSGATE_TAMPER_RULES, "repaired",
			    "the rules were changed while no nsgate-broker ran, or are those of "
			    "another release; they are right again");
}

static void retry_all(struct timer *timer)
{
	(void)timer;
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next) {
		if (attachment->rules_owed && attachment->state == ATTACHMENT_IN_FORCE &&
		    !attachment->opened)
			enforce_record(attachment);
		if (attachment->unsaved && attachment->state != ATTACHMENT_DRAINING &&
		    attachment->state != ATTACHMENT_GONE)
			save_record(attachment);
	}
}

/* ---- the rules ---- */

/*
 * What the rules that were just installed look like can only be read afterwards. It is theirs if
 * nobody changed anything from that change, of which `generation` came, to the end of the reading.
 */
static void note_rules(struct attachment *attachment, uint32_t generation)
{
	const int fd = attachment->netns.rules;

	attachment->ruleset = generation;
	attachment->noted = rules_print(fd, &attachment->print) == 0 && generation &&
			    rules_changed(fd, &generation) == 0;
}

/*
 * Where anybody there may change the rules, they are installed again until they have been looked
 * at. Where somebody changes rules all the time that comes to nothing: the next audit begins anew.
 */
#define NOTE_TRIES 3

static int install_noted(struct attachment *attachment, const struct nsgate_rules_spec *spec,
			 bool *ret_tampered)
{
	const struct rules_links links = known_links(attachment);
	uint64_t before = 0;

	for (int i = 0; i < NOTE_TRIES; i++) {
		uint32_t generation = 0;
		int err = install_spec(attachment->netns.rules, &attachment->record, spec, &links,
				       &generation);

		if (err || broker_features.owned_tables)
			return err;
		note_rules(attachment, generation);
		if (attachment->noted) {
			*ret_tampered = i > 0 && attachment->print != before;
			return 0;
		}
		before = attachment->print;
	}
	return 0;
}

#define TAMPERED                                                                                   \
	"somebody there changed the rules, which this kernel cannot forbid; they are right again"

int enforce_rules(struct attachment *attachment, const struct nsgate_rules_spec *spec)
{
	const bool changes = memcmp(spec, &attachment->record.rules, sizeof(*spec)) != 0;
	bool tampered = false;
	int err;

	if (record_rules_valid(spec))
		forget_before_reuse(attachment, spec->generation);
	if (changes)
		note_change(attachment, spec);
	err = install_noted(attachment, spec, &tampered);
	if (err && changes && attachment->record.rules.generation)
		save_record(attachment);
	if (err)
		return err;
	attachment->record.flags &= ~(uint32_t)NSGATE_ATTACH_CHANGING;
	attachment->table = TABLE_INTACT;
	rules_paid(attachment);
	attachment->record.rules = *spec;
	note_tables(attachment);
	save_record(attachment);
	if (tampered)
		note_tamper(attachment, NSGATE_TAMPER_RULES, "repaired", TAMPERED);
	return 0;
}

bool enforce_audit(struct attachment *attachment)
{
	uint64_t now;

	if (attachment->state != ATTACHMENT_IN_FORCE || attachment->opened ||
	    !attachment->record.rules.generation ||
	    rules_changed(attachment->netns.rules, &attachment->ruleset) <= 0)
		return false;
	if (attachment->noted && rules_print(attachment->netns.rules, &now) == 0 &&
	    now == attachment->print)
		return false;
	enforce_record(attachment);
	if (!attachment->rules_owed)
		note_tamper(attachment, NSGATE_TAMPER_RULES, "repaired", TAMPERED);
	return true;
}

/*
 * Only what nobody else can have changed may be added to: else what somebody there did to the rest
 * would be taken for ours.
 */
void enforce_links(struct attachment *attachment)
{
	const struct rules_links links = known_links(attachment);
	int err;

	if (attachment->state != ATTACHMENT_IN_FORCE ||
	    !(attachment->record.rules.flags & NSGATE_RULES_STRICT))
		return;
	if (!broker_features.owned_tables && !attachment->opened) {
		if (!enforce_audit(attachment))
			enforce_record(attachment);
		return;
	}
	err = rules_follow_links(attachment->netns.rules, &links);
	if (err)
		rules_owe(attachment, err);
}

/*
 * The queue outlives the agent, so packets wait for the next one. Where the policy says open, they
 * wait only this long: enough for a restart, short for a connection.
 */
#define AGENT_GRACE_MS 1000

static void open_without_agent(struct timer *timer);

/* Not set: an agent is there, or all that may be open is. */
static struct timer open_timer = {.due = open_without_agent};

/* Where the agent counts: nobody writes there now. Return: 0 or -errno. */
static int count_released(const struct attachment *attachment, unsigned int i, uint64_t packets)
{
	struct shm_layout layout;
	uint64_t released = 0;
	off_t at;
	int err = records_counters_layout(attachment->shm, attachment->record.queue_count, &layout);

	if (err)
		return err;
	at = (off_t)i * layout.size + (off_t)offsetof(struct shm_queue, control.released);
	if (pread(attachment->shm, &released, sizeof(released), at) != sizeof(released))
		return -EIO;
	released += packets;
	return pwrite(attachment->shm, &released, sizeof(released), at) == sizeof(released) ? 0
											    : -EIO;
}

/* Let pass what waits. */
static void release_queue(struct attachment *attachment, unsigned int i)
{
	int waited = queue_release(attachment->netns.queues[i],
				   (uint16_t)(attachment->record.queue_first + i),
				   attachment->record.queue_count, attachment->netns.proc);

	if (waited < 0)
		log_event(LOG_LEVEL_ERROR, "release.failed", "netns", attachment->record.name,
			  "error", log_errno(waited), "why",
			  "what waits in the queue waits for an agent", NULL);
	if (waited > 0 && count_released(attachment, i, (uint64_t)waited) < 0)
		log_event(LOG_LEVEL_WARNING, "release.uncounted", "netns", attachment->record.name,
			  "packets", log_number(waited), NULL);
}

static int let_pass(struct attachment *attachment)
{
	const struct rules_links links = known_links(attachment);
	const struct rules_queues queues = queues_of(&attachment->record, &links);

	return rules_open(attachment->netns.rules, &queues, &attachment->record.rules);
}

/* Until then its packets wait as if the policy said closed; nobody but the log can be told. */
static void open_later(struct attachment *attachment, int err)
{
	timer_set(&open_timer, loop_now_ms() + RETRY_MS);
	if (!attachment->open_failed)
		log_event(LOG_LEVEL_ERROR, "open.failed", "netns", attachment->record.name, "error",
			  log_errno(err), "why",
			  "no agent, and the policy's on_agent_down is open, but packets wait: it "
			  "is tried again",
			  NULL);
	attachment->open_failed = true;
}

static void open_without_agent(struct timer *timer)
{
	int err;

	(void)timer;
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next) {
		if (attachment->state != ATTACHMENT_IN_FORCE || attachment->opened ||
		    !(attachment->record.rules.flags & NSGATE_RULES_BYPASS))
			continue;
		err = let_pass(attachment);
		if (err) {
			open_later(attachment, err);
			continue;
		}
		attachment->open_failed = false;
		attachment->opened = true;
		for (unsigned int i = 0; i < attachment->netns.queue_count; i++)
			release_queue(attachment, i);
		log_event(LOG_LEVEL_WARNING, "opened", "netns", attachment->record.name, "why",
			  "no agent, and the policy's on_agent_down is open", NULL);
	}
}

/* The agent serves it again: what the rules say counts. */
static void close_again(struct attachment *attachment)
{
	attachment->open_failed = false;
	if (!attachment->opened)
		return;
	attachment->opened = false;
	enforce_record(attachment);
	if (!attachment->rules_owed)
		log_event(LOG_LEVEL_INFO, "closed", "netns", attachment->record.name, NULL);
}

void enforce_agent_lost(void)
{
	timer_set(&open_timer, loop_now_ms() + AGENT_GRACE_MS);
}

void enforce_agent_back(void)
{
	timer_clear(&open_timer);
	for (struct attachment *attachment = attachment_first(); attachment;
	     attachment = attachment->next)
		close_again(attachment);
}
