// SPDX-License-Identifier: GPL-2.0-or-later
#include "custody.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "enforce.h"
#include "fdstore.h"
#include "ipc.h"
#include "kit.h"
#include "log.h"
#include "records.h"
#include "restore.h"

struct charge {
	struct charge *next;
	uint64_t cookie;
	int rules;
};

static struct charge *charges;

/* Return: a socket for rules inside the recorded namespace, or -errno. */
static int open_rules(const struct nsgate_ns_record *record)
{
	struct kit kit = KIT_NONE; /* no queues: the agent may have them */
	uint64_t cookie, inode;
	int rules, target = restore_target(record);
	int err = target < 0 ? target : kit_open(target, &kit);

	if (target >= 0)
		close(target);
	if (!err)
		err = kit_identify(kit.rules, &cookie, &inode);
	if (!err && cookie != record->cookie)
		err = -ESTALE;
	rules = kit.rules;
	if (!err)
		kit.rules = -1;
	kit_close(&kit);
	return err ? err : rules;
}

static void take(const struct nsgate_ns_record *record)
{
	struct charge *charge = holding_find_cookie(record->cookie)
					? NULL /* whole, from the fd store */
					: calloc(1, sizeof(*charge));
	int err = 0;

	if (!charge)
		return;
	charge->cookie = record->cookie;
	charge->rules = fdstore_claim_rules(record->cookie);
	if (charge->rules < 0)
		charge->rules = open_rules(record);
	if (charge->rules >= 0)
		err = enforce_install(charge->rules, record, &record->rules);
	if (charge->rules < 0 || err) {
		log_event(LOG_LEVEL_WARNING, "custody.failed", "netns", record->name, "error",
			  log_errno(err ? err : charge->rules), NULL);
		fd_close(&charge->rules);
		free(charge);
		return;
	}
	charge->next = charges;
	charges = charge;
}

void custody_take_all(void)
{
	records_each(take);
}

int custody_release(uint64_t cookie)
{
	for (struct charge **at = &charges; *at; at = &(*at)->next) {
		struct charge *charge = *at;
		int rules = charge->rules;

		if (charge->cookie != cookie)
			continue;
		*at = charge->next;
		free(charge);
		return rules;
	}
	return fdstore_claim_rules(cookie); /* without a record */
}

void custody_close(void)
{
	while (charges)
		close(custody_release(charges->cookie));
}
