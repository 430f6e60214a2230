// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/custody.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/enforce.h"
#include "broker/enter.h"
#include "broker/fdstore.h"
#include "ipc.h"
#include "broker/netns_fds.h"
#include "log.h"
#include "loop.h"
#include "broker/place.h"
#include "broker/records.h"

struct charge {
	struct charge *next;
	uint64_t cookie;
	int rules;
	enum custody_state state;
};

static struct charge *charges;

static int install_for(const struct netns_fds *netns, const struct nsgate_ns_record *record,
		       enum custody_state *ret_state)
{
	struct links *links = links_open(netns->route);
	struct rules_links list = {.count = 0};
	int err;

	if (!links)
		return -errno;
	list.list = links_list(links, &list.count);
	err = enforce_install(netns->rules, record, &list, ret_state);
	links_close(links);
	return err;
}

/*
 * Put the record's rules in force in the namespace that it names.
 * Return: a socket for rules there, or -errno.
 */
static int install(const struct nsgate_ns_record *record, int target, enum custody_state *ret_state)
{
	struct netns_fds netns = NETNS_FDS_NONE; /* no queues: the agent may have them */
	uint64_t cookie, inode;
	int rules, err = target < 0 ? target : netns_fds_open(target, &netns);

	if (!err)
		err = netns_fds_identify(netns.rules, &cookie, &inode);
	if (!err && cookie != record->cookie)
		err = -ESTALE;
	if (!err)
		err = install_for(&netns, record, ret_state);
	rules = netns.rules;
	if (!err)
		netns.rules = -1;
	netns_fds_close(&netns);
	return err ? err : rules;
}

/*
 * The same by a socket out of the fd store; links that came meanwhile follow when it is held.
 * Return: -ENOENT where the store has none.
 */
static int install_stored(const struct nsgate_ns_record *record, enum custody_state *ret_state)
{
	const struct rules_links none = {.count = 0};
	int rules = fdstore_claim_rules(record->cookie);
	int err;

	if (rules < 0)
		return -ENOENT;
	err = enforce_install(rules, record, &none, ret_state);
	if (err)
		close(rules);
	return err ? err : rules;
}

static void take_failed(const struct nsgate_ns_record *record, int err)
{
	log_event(LOG_LEVEL_WARNING, "custody.failed", "netns", record->name, "error",
		  log_errno(err), NULL);
}

/* A record whose namespace is being looked for. */
struct search {
	struct place_question question;
	struct nsgate_ns_record record;
	struct charge *charge;
};

/* `rules`: a socket, now the charge's, or -errno. */
static void take(struct charge *charge, const struct nsgate_ns_record *record, int rules)
{
	if (rules < 0) {
		take_failed(record, rules);
		free(charge);
		return;
	}
	charge->rules = rules;
	charge->next = charges;
	charges = charge;
}

static void found(struct place_question *question, int target)
{
	struct search *search = loop_owner(question, struct search, question);

	take(search->charge, &search->record,
	     install(&search->record, target, &search->charge->state));
	fd_close(&target);
	free(search);
}

static void look_for(const struct nsgate_ns_record *record)
{
	struct charge *charge;
	struct search *search;
	int rules;

	if (attachment_find_cookie(record->cookie)) /* whole, from the fd store */
		return;
	charge = calloc(1, sizeof(*charge));
	search = calloc(1, sizeof(*search));
	if (!charge || !search) {
		free(charge);
		free(search);
		take_failed(record, -ENOMEM);
		return;
	}
	charge->cookie = record->cookie;
	rules = install_stored(record, &charge->state);
	if (rules != -ENOENT) {
		take(charge, record, rules);
		free(search);
		return;
	}
	search->record = *record;
	search->charge = charge;
	place_ask(&search->question, &search->record, found);
}

void custody_take_all(void)
{
	int err = records_each(look_for);

	if (err)
		log_event(LOG_LEVEL_WARNING, "custody.failed", "error", log_errno(err), NULL);
	/* Before any agent connects. All are looked for at once: one that hangs is waited for once.
	 */
	enter_wait();
	enter_tick();
}

int custody_release(uint64_t cookie, enum custody_state *ret_state)
{
	for (struct charge **at = &charges; *at; at = &(*at)->next) {
		struct charge *charge = *at;
		int rules = charge->rules;

		if (charge->cookie != cookie)
			continue;
		*ret_state = charge->state;
		*at = charge->next;
		free(charge);
		return rules;
	}
	return fdstore_claim_rules(cookie); /* without a record */
}

void custody_forget(uint64_t cookie)
{
	enum custody_state state;
	int rules = custody_release(cookie, &state);

	fd_close(&rules);
}

void custody_close(void)
{
	while (charges)
		custody_forget(charges->cookie);
}
