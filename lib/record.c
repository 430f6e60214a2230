// SPDX-License-Identifier: GPL-2.0-or-later
#include "record.h"

#include "ipc.h"
#include "name.h"
#include "nsgate/hook.h"
#include "nsgate/flow.h"

bool record_rules_valid(const struct nsgate_rules_spec *rules)
{
	const uint32_t flags = NSGATE_RULES_BYPASS | NSGATE_RULES_OFFLOAD | NSGATE_RULES_STRICT |
			       NSGATE_RULES_OVERLOAD | NSGATE_RULES_DENIED | NSGATE_RULES_CONSUMERS;

	return rules->hooks && !(rules->hooks >> NSGATE_HOOK_MAX) && !(rules->flags & ~flags) &&
	       rules->generation >= 1 && rules->generation <= NSGATE_GENERATION_MAX &&
	       rules->bypass_count <= NSGATE_BYPASS_MARKS_MAX;
}

/* None yet, all zero; or such as can be in force. */
static bool in_force_valid(const struct nsgate_rules_spec *rules)
{
	return (!rules->generation && !rules->hooks && !rules->flags) || record_rules_valid(rules);
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
