// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/api/json.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/json_writer.h"
#include "agent/ns/ns.h"
#include "nsgate/hook.h"
#include "nsgate/table.h"
#include "policy/policy.h"
#include "agent/store/store.h"

const char *const api_direction_names[] = {
	[SHM_DIRECTION_IN] = "in",
	[SHM_DIRECTION_OUT] = "out",
	[SHM_DIRECTION_FORWARD] = "forward",
};
static_assert(sizeof(api_direction_names) / sizeof(*api_direction_names) == SHM_DIRECTION_MAX,
	      "a name for each");

const char *api_backend_name(uint16_t backend)
{
	switch (backend) {
	case NSGATE_BACKEND_NFT_QUEUE:
		return "nft-queue";
	case NSGATE_BACKEND_NFT_XT:
		return "nft-xt";
	default:
		return "none";
	}
}

void api_time(int64_t seconds, long nanoseconds, char ret[API_TIME_MAX])
{
	const time_t time = seconds;
	struct tm tm;
	size_t used = 0;

	if (gmtime_r(&time, &tm))
		used = strftime(ret, API_TIME_MAX - 9, "%Y-%m-%dT%H:%M:%S", &tm);
	if (nanoseconds >= 0)
		snprintf(ret + used, API_TIME_MAX - used, ".%06ldZ", nanoseconds / 1000 % 1000000);
	else
		snprintf(ret + used, API_TIME_MAX - used, "Z");
}

void api_write_hooks(struct jw *w, const char *key, uint32_t hooks)
{
	jw_open(w, key, '[');
	for (unsigned int i = 0; i < NSGATE_HOOK_MAX; i++)
		if (hooks & NSGATE_HOOK_BIT(i))
			jw_string(w, NULL, nsgate_hook_names[i]);
	jw_close(w, ']');
}

/* "K=V\0K=V\0", to the first empty one or the end of the field. */
static void write_labels(struct jw *w, const char *labels, size_t size)
{
	size_t at = 0;

	jw_open(w, "labels", '{');
	while (at < size && labels[at]) {
		const size_t length = strnlen(labels + at, size - at);
		const char *equals = memchr(labels + at, '=', length);
		char key[NSGATE_LABELS_MAX];

		if (at + length == size)
			break;
		if (equals) {
			const size_t key_length = (size_t)(equals - (labels + at));

			memcpy(key, labels + at, key_length);
			key[key_length] = '\0';
			jw_string(w, key, equals + 1);
		}
		at += length + 1;
	}
	jw_close(w, '}');
}

void api_write_ns_head(struct jw *w, const struct ns *ns)
{
	const bool audit = ns->policy && policy_info(ns->policy)->audit;
	const char *problem = store_problem(ns->record.policy);

	jw_uint(w, "schema", 1);
	jw_string(w, "name", ns->record.name);
	jw_string(w, "state", ns_state_names[ns->state]);
	if (ns->state == NS_STATE_DEGRADED)
		jw_string(w, "reason", ns->reason);
	jw_string(w, "policy", ns->record.policy);
	if (problem)
		jw_string(w, "policy_problem", problem);
	jw_string(w, "mode", audit ? "audit" : "enforce");
	jw_uint(w, "generation", ns->generation);
}

static void write_attached_at(struct jw *w, const struct ns *ns)
{
	char text[API_TIME_MAX];

	api_time(ns->record.attached_at, -1, text);
	jw_string(w, "attached_at", text);
}

static void write_netns(struct jw *w, const struct ns *ns)
{
	jw_open(w, "netns", '{');
	jw_uint(w, "inode", ns->record.inode);
	jw_uint(w, "cookie", ns->record.cookie);
	jw_close(w, '}');
}

void api_write_ns_identity(struct jw *w, const struct ns *ns)
{
	write_netns(w, ns);
	write_labels(w, ns->record.labels, sizeof(ns->record.labels));
	write_attached_at(w, ns);
}

void api_write_ns_table(struct jw *w, const struct ns *ns)
{
	char table[NSGATE_TABLE_NAME_MAX];

	nsgate_table_name(table, ns->record.table_inet);
	jw_string(w, "table", table);
}

void api_write_ns(struct jw *w, const struct ns *ns)
{
	jw_open(w, NULL, '{');
	api_write_ns_head(w, ns);
	write_netns(w, ns);
	jw_string(w, "target", ns->record.target);
	api_write_hooks(w, "hooks", ns->wanted.hooks);
	jw_open(w, "queue", '{');
	jw_uint(w, "first", ns->record.queue_first);
	jw_uint(w, "count", ns->record.queue_count);
	jw_string(w, "backend", api_backend_name(ns->record.backend));
	jw_close(w, '}');
	api_write_ns_table(w, ns);
	write_labels(w, ns->record.labels, sizeof(ns->record.labels));
	write_attached_at(w, ns);
	jw_close(w, '}');
}
