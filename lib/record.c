// SPDX-License-Identifier: GPL-2.0-or-later
#include "record.h"

#include "ipc.h"
#include "name.h"

bool record_valid(const struct nsgate_ns_record *record)
{
	return ipc_text_valid(record->name, sizeof(record->name)) && name_valid(record->name) &&
	       ipc_text_valid(record->policy, sizeof(record->policy)) &&
	       name_valid(record->policy) &&
	       ipc_text_valid(record->target, sizeof(record->target)) &&
	       !record->labels[NSGATE_LABELS_MAX - 1] && record->queue_count >= 1 &&
	       record->queue_count <= NSGATE_QUEUES_MAX && record->has_watch <= 1;
}

unsigned int record_fd_count(const struct nsgate_ns_record *record)
{
	return (unsigned int)NSGATE_NSFD_FIXED + record->has_watch + record->queue_count;
}
