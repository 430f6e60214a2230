// SPDX-License-Identifier: GPL-2.0-or-later
#include "record.h"

#include <string.h>

#include "ipc.h"
#include "name.h"
#include "nsgate/hook.h"
#include "nsgate/flow.h"

static bool is_zero(const uint32_t *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (words[i])
			return false;
	return true;
}

static bool bounds_valid(const struct nsgate_rules_spec *rules)
{
	return rules->hooks && rules->generation >= 1 &&
	       rules->generation <= NSGATE_GENERATION_MAX &&
	       rules->bypass_count <= NSGATE_BYPASS_MARKS_MAX;
}

bool record_rules_valid(const struct nsgate_rules_spec *rules)
{
	return bounds_valid(rules) && !(rules->hooks >> NSGATE_HOOK_MAX) &&
	       !(rules->flags & ~(uint32_t)NSGATE_RULES_ALL) &&
	       is_zero(rules->spare, sizeof(rules->spare) / sizeof(rules->spare[0]));
}

void record_rules_forget_unknown(struct nsgate_rules_spec *rules)
{
	rules->hooks &= (1U << NSGATE_HOOK_MAX) - 1;
	rules->flags &= NSGATE_RULES_ALL;
	memset(rules->spare, 0, sizeof(rules->spare));
	if (!record_rules_valid(rules))
		*rules = (struct nsgate_rules_spec){.generation = 0};
}

/* None yet, all zero; or such as can be in force, by this release or a later one. */
static bool in_force_valid(const struct nsgate_rules_spec *rules)
{
	return (!rules->generation && !rules->hooks && !rules->flags) || bounds_valid(rules);
}

bool record_valid(const struct nsgate_ns_record *record)
{
	return ipc_text_valid(record->name, sizeof(record->name)) && name_valid(record->name) &&
	       ipc_text_valid(record->policy, sizeof(record->policy)) &&
	       name_valid(record->policy) &&
	       ipc_text_valid(record->target, sizeof(record->target)) &&
	       !record->labels[NSGATE_LABELS_MAX - 1] && record->queue_count >= 1 &&
	       record->queue_count <= NSGATE_QUEUES_MAX &&
	       record->queue_first + NSGATE_FLOW_MAX * record->queue_count <= 0x10000 &&
	       record->has_watch <= 1 &&
	       (record->backend == NSGATE_BACKEND_NFT_QUEUE ||
		record->backend == NSGATE_BACKEND_NFT_XT) &&
	       in_force_valid(&record->rules);
}

unsigned int record_fd_count(const struct nsgate_ns_record *record)
{
	return (unsigned int)NSGATE_NSFD_FIXED + record->has_watch + record->queue_count;
}
