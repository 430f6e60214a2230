// SPDX-License-Identifier: GPL-2.0-or-later
#include "enforce.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"
#include "conntrack.h"
#include "log.h"
#include "loop.h"
#include "nsgate/shm.h"
#include "queue_setup.h"
#include "record.h"
#include "records.h"
#include "rules.h"

/* How the reason begins by which such a namespace is degraded. */
#define RULES_OWED_TEXT "the rules could not be installed"

/*
 * Generations are few and come round: a flow that slept through all of them must not wake up known
 * to a policy that never judged it; nor may one that an earlier attachment left. Free in a
 * namespace without flows; else a walk of the table.
 */
static void forget_before_reuse(struct holding *holding, uint32_t generation)
{
	uint32_t before = holding->record.rules.generation;
	int err;

	if (generation < before)
		holding->record.wrapped = 1;
	if (generation == before || (before && !holding->record.wrapped))
		return;
	err = before ? conntrack_forget(holding->kit.rules, generation)
		     : conntrack_forget_all(holding->kit.rules);
	if (err)
		log_event(LOG_LEVEL_WARNING, "forget.failed", "netns", holding->record.name,
			  "error", log_errno(err), NULL);
}

static struct rules_queues queues_of(const struct nsgate_ns_record *record)
{
	return (struct rules_queues){
		.backend = (enum nsgate_backend)record->backend,
		.owned = broker_features.owned_tables,
		.first = record->queue_first,
		.count = record->queue_count,
	};
}

int enforce_install(int rules_fd, const struct nsgate_ns_record *record,
		    const struct nsgate_rules_spec *spec)
{
	const struct rules_queues queues = queues_of(record);

	return record_rules_valid(spec) ? rules_install(rules_fd, &queues, spec) : -EINVAL;
}

/* ---- rules that could not be installed ---- */

#define RETRY_MS 1000

static int64_t retry_at_ms; /* 0: nothing is owed */

static void rules_owe(struct holding *holding, int error)
{
	if (!retry_at_ms)
		retry_at_ms = loop_now_ms() + RETRY_MS;
	if (holding->rules_owed)
		return;
	holding->rules_owed = true;
	log_event(LOG_LEVEL_ERROR, "rules.failed", "netns", holding->record.name, "error",
		  log_errno(error), NULL);
	if (holding->degraded[0])
		return;
	snprintf(holding->degraded, sizeof(holding->degraded),
		 RULES_OWED_TEXT ": %s; it is tried again", strerror(-error));
	holding->todo |= TODO_STATE;
}

static void rules_paid(struct holding *holding)
{
	if (!holding->rules_owed)
		return;
	holding->rules_owed = false;
	log_event(LOG_LEVEL_INFO, "rules.healed", "netns", holding->record.name, NULL);
	if (strncmp(holding->degraded, RULES_OWED_TEXT, strlen(RULES_OWED_TEXT)) != 0)
		return;
	holding->degraded[0] = '\0';
	holding->todo |= TODO_STATE;
}

void enforce_record(struct holding *holding)
{
	const struct nsgate_rules_spec spec = holding->record.rules;
	int err = enforce_rules(holding, &spec);

	if (err)
		rules_owe(holding, err);
}

static void retry_all(void)
{
	retry_at_ms = 0;
	for (struct holding *holding = holding_first(); holding; holding = holding->next)
		if (holding->rules_owed && holding->state == HOLDING_IN_FORCE && !holding->opened)
			enforce_record(holding);
}

/* ---- the rules ---- */

int enforce_rules(struct holding *holding, const struct nsgate_rules_spec *spec)
{
	int err;

	if (record_rules_valid(spec))
		forget_before_reuse(holding, spec->generation);
	err = enforce_install(holding->kit.rules, &holding->record, spec);
	if (err)
		return err;
	(void)rules_changed(holding->kit.rules, &holding->ruleset);
	rules_paid(holding);
	holding->record.rules = *spec;
	err = records_save(&holding->record);
	if (err) /* it only matters if both daemons die */
		log_event(LOG_LEVEL_WARNING, "record.failed", "netns", holding->record.name,
			  "error", log_errno(err), NULL);
	return 0;
}

/*
 * The queue outlives the agent, so packets wait for the next one. Where the policy says open, they
 * wait only this long: enough for a restart, short for a connection.
 */
#define AGENT_GRACE_MS 1000

static int64_t open_at_ms; /* 0: an agent is there, or all that may be open is */

/* Let pass what waits, and count it where the agent counts: nobody writes there now. */
static void release(struct holding *holding, unsigned int i)
{
	const off_t at = (off_t)(i * sizeof(struct shm_queue) +
				 offsetof(struct shm_queue, control.released));
	uint64_t released = 0;
	int waited = queue_release(holding->kit.queues[i],
				   (uint16_t)(holding->record.queue_first + i), holding->kit.proc);

	if (waited <= 0 || pread(holding->shm, &released, sizeof(released), at) != sizeof(released))
		return;
	released += (uint64_t)waited;
	if (pwrite(holding->shm, &released, sizeof(released), at) != sizeof(released))
		log_event(LOG_LEVEL_WARNING, "release.uncounted", "netns", holding->record.name,
			  "packets", log_number(waited), NULL);
}

static int let_pass(struct holding *holding)
{
	const struct rules_queues queues = queues_of(&holding->record);

	return rules_open(holding->kit.rules, &queues, &holding->record.rules);
}

static void open_without_agent(void)
{
	open_at_ms = 0;
	for (struct holding *holding = holding_first(); holding; holding = holding->next) {
		if (holding->state != HOLDING_IN_FORCE || holding->opened ||
		    !(holding->record.rules.flags & NSGATE_RULES_BYPASS))
			continue;
		if (let_pass(holding) < 0) {
			open_at_ms = loop_now_ms() + RETRY_MS;
			continue;
		}
		holding->opened = true;
		for (unsigned int i = 0; i < holding->kit.queue_count; i++)
			release(holding, i);
		log_event(LOG_LEVEL_WARNING, "opened", "netns", holding->record.name, "why",
			  "no agent, and the policy's on_agent_down is open", NULL);
	}
}

/* The agent serves it again: what the rules say counts. */
static void close_again(struct holding *holding)
{
	if (!holding->opened)
		return;
	holding->opened = false;
	enforce_record(holding);
	if (!holding->rules_owed)
		log_event(LOG_LEVEL_INFO, "closed", "netns", holding->record.name, NULL);
}

/*
 * Where tables cannot be owned, root inside the namespace can flush them. Whatever changes there
 * raises the number of its rule set; ours are then put back, whether it was they or not.
 */
#define AUDIT_MS 500

static int64_t audit_at_ms;

static void audit(struct holding *holding)
{
	if (holding->state != HOLDING_IN_FORCE || holding->opened ||
	    !holding->record.rules.generation ||
	    rules_changed(holding->kit.rules, &holding->ruleset) <= 0)
		return;
	enforce_record(holding);
	if (!holding->rules_owed)
		log_event(LOG_LEVEL_WARNING, "repaired", "netns", holding->record.name, "why",
			  "somebody changed nftables rules there, and this kernel has no owned "
			  "tables",
			  NULL);
}

static void audit_all(void)
{
	audit_at_ms = loop_now_ms() + AUDIT_MS;
	for (struct holding *holding = holding_first(); holding; holding = holding->next)
		audit(holding);
}

void enforce_agent_lost(void)
{
	open_at_ms = loop_now_ms() + AGENT_GRACE_MS;
}

void enforce_agent_back(void)
{
	open_at_ms = 0;
	for (struct holding *holding = holding_first(); holding; holding = holding->next)
		close_again(holding);
}

static bool audits(void)
{
	return !broker_features.owned_tables && holding_count() > 0;
}

static int left_ms(int64_t at_ms)
{
	int64_t left = at_ms - loop_now_ms();

	return left > 0 ? (int)left : 0;
}

int enforce_timeout_ms(void)
{
	int open = open_at_ms ? left_ms(open_at_ms) : -1;
	int next_audit = audits() ? left_ms(audit_at_ms) : -1;
	int retry = retry_at_ms ? left_ms(retry_at_ms) : -1;

	return loop_nearest(open, loop_nearest(next_audit, retry));
}

void enforce_tick(void)
{
	if (open_at_ms && open_at_ms <= loop_now_ms())
		open_without_agent();
	if (retry_at_ms && retry_at_ms <= loop_now_ms())
		retry_all();
	if (audits() && audit_at_ms <= loop_now_ms())
		audit_all();
}
