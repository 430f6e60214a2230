// SPDX-License-Identifier: GPL-2.0-or-later
/* The documents of the statistics; the order of the members is that of the contract. */
#include <assert.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/api/json.h"
#include "agent/json_writer.h"
#include "agent/ns/ns.h"
#include "policy/policy.h"
#include "agent/stats/stats.h"

static const char *const fate_names[] = {
	[SHM_FATE_ACCEPTED] = "accepted",
	[SHM_FATE_DROPPED] = "dropped",
	[SHM_FATE_REJECTED] = "rejected",
};

static const char *const protocol_names[] = {
	[SHM_PROTO_TCP] = "tcp",       [SHM_PROTO_UDP] = "udp",	    [SHM_PROTO_ICMP] = "icmp",
	[SHM_PROTO_ICMPV6] = "icmpv6", [SHM_PROTO_OTHER] = "other",
};
static_assert(sizeof(protocol_names) / sizeof(*protocol_names) == SHM_PROTO_MAX, "a name for each");

const char *const stats_unjudged_names[] = {
	[STATS_UNJUDGED_AGENT_DOWN] = "agent_down",
	[STATS_UNJUDGED_QUEUE_FULL] = "queue_full",
	[STATS_UNJUDGED_UNDELIVERED] = "undelivered",
};
static_assert(sizeof(stats_unjudged_names) / sizeof(*stats_unjudged_names) == STATS_UNJUDGED_MAX,
	      "a name for each");

static void write_count(struct jw *w, const char *key, struct shm_count count)
{
	jw_open(w, key, '{');
	jw_uint(w, "packets", count.packets);
	jw_uint(w, "bytes", count.bytes);
	jw_close(w, '}');
}

/* The rows of nsgate/figure.h that are of `object`. */
static void write_figures(struct jw *w, const char *object, const struct stats *stats)
{
#define WRITE_ALSO(of, name, value)                                                                \
	if (!strcmp(object, #of))                                                                  \
		jw_uint(w, #name, value);
#define WRITE(number, of, name, ...) WRITE_ALSO(of, name, stats->name)
	NSGATE_FIGURES(WRITE, WRITE, WRITE_ALSO)
#undef WRITE
#undef WRITE_ALSO
}

static void write_queue(struct jw *w, const struct ns *ns, const struct stats *stats)
{
	jw_open(w, "queue", '{');
	jw_uint(w, "first", ns->record.queue_first);
	jw_uint(w, "count", ns->record.queue_count);
	jw_string(w, "backend", api_backend_name(ns->record.backend));
	write_figures(w, "queue", stats);
	jw_close(w, '}');
}

static void write_packets(struct jw *w, const struct stats *stats)
{
	jw_open(w, "packets", '{');
	write_figures(w, "packets", stats);
	jw_close(w, '}');
	jw_open(w, "bytes", '{');
	jw_uint(w, "seen", stats_bytes_seen(stats));
	for (int i = 0; i <= SHM_FATE_REJECTED; i++)
		jw_uint(w, fate_names[i], stats->fate[i].bytes);
	jw_uint(w, "offloaded", stats_offloaded(stats).bytes);
	jw_uint(w, "offloaded_dropped", stats_denied(stats).bytes);
	jw_close(w, '}');
}

static void write_kinds(struct jw *w, const struct stats *stats)
{
	jw_open(w, "unjudged", '{');
	for (int i = 0; i < STATS_UNJUDGED_MAX; i++)
		jw_uint(w, stats_unjudged_names[i], stats->unjudged[i]);
	jw_close(w, '}');
	jw_open(w, "audit", '{');
	write_figures(w, "audit", stats);
	jw_close(w, '}');
	jw_open(w, "direction", '{');
	for (int i = 0; i < SHM_DIRECTION_MAX; i++)
		write_count(w, api_direction_names[i], stats->direction[i]);
	jw_close(w, '}');
	jw_open(w, "protocol", '{');
	for (int i = 0; i < SHM_PROTO_MAX; i++)
		jw_uint(w, protocol_names[i], stats->protocol[i]);
	jw_close(w, '}');
}

static void write_rules(struct jw *w, const struct ns *ns)
{
	jw_open(w, "rules", '[');
	for (size_t i = 0; ns->policy && i < policy_info(ns->policy)->rule_count; i++) {
		const struct policy_rule_info *rule = &policy_info(ns->policy)->rules[i];
		struct shm_count count;

		stats_rule(ns, i, &count);
		jw_open(w, NULL, '{');
		jw_string(w, "name", rule->name);
		jw_string(w, "action", policy_action_names[rule->action]);
		jw_uint(w, "packets", count.packets);
		jw_uint(w, "bytes", count.bytes);
		jw_close(w, '}');
	}
	jw_close(w, ']');
}

void stats_write(struct jw *w, const char *key, const struct ns *ns, const struct stats *stats)
{
	jw_open(w, key, '{');
	api_write_ns_head(w, ns);
	api_write_ns_identity(w, ns);
	write_queue(w, ns, stats);
	write_packets(w, stats);
	write_kinds(w, stats);
	write_rules(w, ns);
	write_count(w, "default", stats->fallback);
	write_count(w, "replies", stats->replies);
	write_count(w, "no_policy", stats->no_policy);
	write_count(w, "guard", stats->guard);
	jw_uint(w, "repairs", ns->record.repairs);
	api_write_ns_table(w, ns);
	jw_open(w, "verdict_latency_us", '{');
	jw_uint(w, "p50", stats_latency(stats, 50));
	jw_uint(w, "p90", stats_latency(stats, 90));
	jw_uint(w, "p99", stats_latency(stats, 99));
	jw_uint(w, "max", stats->latency_max_us);
	jw_close(w, '}');
	jw_close(w, '}');
}

static void write_agent(struct jw *w, size_t namespaces)
{
	int64_t uptime = time(NULL) - agent_status.started_at;

	jw_open(w, "agent", '{');
	jw_string(w, "version", NSGATE_VERSION);
	jw_int(w, "pid", getpid());
	jw_int(w, "uptime_s", uptime > 0 ? uptime : 0);
	jw_uint(w, "workers", agent_status.workers);
	jw_string(w, "broker", agent_status.broker_connected ? "connected" : "away");
	jw_uint(w, "events_lost", agent_status.events_lost);
	jw_uint(w, "namespaces", namespaces);
	jw_close(w, '}');
}

int stats_write_all(struct jw *w)
{
	struct stats_all all;
	int err = stats_read_all(&all);

	if (err)
		return err;
	jw_open(w, NULL, '{');
	jw_uint(w, "schema", 1);
	write_agent(w, all.count);
	jw_open(w, "namespaces", '{');
	for (size_t i = 0; i < all.count; i++)
		stats_write(w, all.list[i].ns->record.name, all.list[i].ns, &all.list[i].stats);
	jw_close(w, '}');
	jw_close(w, '}');
	stats_all_free(&all);
	return 0;
}
