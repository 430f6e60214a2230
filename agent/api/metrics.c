// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * GET /metrics: Prometheus' text format, version 0.0.4. All samples of a metric follow its HELP
 * and TYPE, so the namespaces are read once, before the first line. Labels are netns, policy,
 * verdict, reason and rule, nothing that a packet can choose.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/api/request.h"
#include "agent/json_writer.h"
#include "agent/ns/ns.h"
#include "policy/policy.h"
#include "agent/stats/stats.h"
#include "agent/store/store.h"

#define MICROSECONDS 1e6 /* in a second, the base unit of metrics */
#define CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* ---- lines ---- */

static void put(struct jw *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct jw *w, const char *format, ...)
{
	char text[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	jw_text(w, text, (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1);
}

static void put_head(struct jw *w, const char *name, const char *type, const char *help)
{
	put(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Backslash, quote and newline are escaped in a label's value. */
static void put_label(struct jw *w, const char *separator, const char *name, const char *value)
{
	put(w, "%s%s=\"", separator, name);
	for (const char *c = value; *c; c++) {
		if (*c == '\n')
			jw_text(w, "\\n", 2);
		else if (*c == '"' || *c == '\\')
			jw_text(w, (char[]){'\\', *c}, 2);
		else
			jw_text(w, c, 1);
	}
	jw_text(w, "\"", 1);
}

/* name{netns="...",policy="..."[,extra="..."]} */
static void put_labels(struct jw *w, const char *name, const struct ns *ns, const char *extra,
		       const char *extra_value)
{
	jw_text(w, name, strlen(name));
	put_label(w, "{", "netns", ns->record.name);
	put_label(w, ",", "policy", ns->record.policy);
	if (extra)
		put_label(w, ",", extra, extra_value);
	jw_text(w, "}", 1);
}

static void put_sample(struct jw *w, const char *name, const struct ns *ns, const char *extra,
		       const char *extra_value, uint64_t value)
{
	put_labels(w, name, ns, extra, extra_value);
	put(w, " %llu\n", (unsigned long long)value);
}

/* ---- plain figures of a namespace ---- */

struct figure {
	const char *name, *type, *help;
	size_t offset; /* of a uint64_t in struct stats */
};

#define COUNTER(name_, help_, field)                                                               \
	{                                                                                          \
		"nsgate_" name_ "_total", "counter", help_, offsetof(struct stats, field)          \
	}
#define GAUGE(name_, help_, field)                                                                 \
	{                                                                                          \
		"nsgate_" name_, "gauge", help_, offsetof(struct stats, field)                     \
	}
#define NUMBERED(number, object, name, kind, metric, help) [number] = kind(metric, help, name),

/* Numbers that nobody has are empty. */
static const struct figure numbered[] = {NSGATE_FIGURES(NUMBERED, NUMBERED, NSGATE_FIGURE_NONE)};

static const struct figure others[] = {
	COUNTER("default_packets", "Decided by the policy's default.", fallback.packets),
	COUNTER("default_bytes", "Bytes decided by the policy's default.", fallback.bytes),
	COUNTER("reply_packets", "Accepted as replies of accepted flows.", replies.packets),
	COUNTER("reply_bytes", "Bytes accepted as replies of accepted flows.", replies.bytes),
	COUNTER("no_policy_packets", "Decided while the policy was missing.", no_policy.packets),
	COUNTER("in_packets", "Packets in direction in.", direction[SHM_DIRECTION_IN].packets),
	COUNTER("in_bytes", "Bytes in direction in.", direction[SHM_DIRECTION_IN].bytes),
	COUNTER("out_packets", "Packets in direction out.", direction[SHM_DIRECTION_OUT].packets),
	COUNTER("out_bytes", "Bytes in direction out.", direction[SHM_DIRECTION_OUT].bytes),
	COUNTER("forward_packets", "Packets in direction forward.",
		direction[SHM_DIRECTION_FORWARD].packets),
	COUNTER("forward_bytes", "Bytes in direction forward.",
		direction[SHM_DIRECTION_FORWARD].bytes),
};

static void put_figure(struct jw *w, const struct stats_all *all, const struct figure *figure)
{
	if (!figure->name)
		return;
	put_head(w, figure->name, figure->type, figure->help);
	for (size_t i = 0; i < all->count; i++) {
		const char *stats = (const char *)&all->list[i].stats;
		uint64_t value;

		memcpy(&value, stats + figure->offset, sizeof(value));
		put_sample(w, figure->name, all->list[i].ns, NULL, NULL, value);
	}
}

static void put_figures(struct jw *w, const struct stats_all *all)
{
	for (size_t f = 0; f < sizeof(numbered) / sizeof(numbered[0]); f++)
		put_figure(w, all, &numbered[f]);
	for (size_t f = 0; f < sizeof(others) / sizeof(others[0]); f++)
		put_figure(w, all, &others[f]);
}

/* ---- figures with a label or a calculation of their own ---- */

static void put_verdicts(struct jw *w, const struct stats_all *all, bool bytes)
{
	static const char *const verdicts[] = {
		[SHM_FATE_ACCEPTED] = "accept",
		[SHM_FATE_DROPPED] = "drop",
		[SHM_FATE_REJECTED] = "reject",
		[SHM_FATE_QUEUED_ELSEWHERE] = "queue",
	};
	const char *name = bytes ? "nsgate_bytes_total" : "nsgate_packets_total";

	put_head(w, name, "counter",
		 bytes ? "Bytes decided, by verdict." : "Packets decided, by verdict.");
	for (size_t i = 0; i < all->count; i++) {
		for (int fate = 0; fate < SHM_FATE_MAX; fate++) {
			const struct shm_count *count = &all->list[i].stats.fate[fate];

			put_sample(w, name, all->list[i].ns, "verdict", verdicts[fate],
				   bytes ? count->bytes : count->packets);
		}
	}
}

/* nsgate_WHAT_packets_total and nsgate_WHAT_bytes_total. */
static void put_counts(struct jw *w, const struct stats_all *all, const char *what,
		       const char *help, struct shm_count (*count_of)(const struct stats *))
{
	for (int bytes = 0; bytes < 2; bytes++) {
		char name[64];

		snprintf(name, sizeof(name), "nsgate_%s_%s_total", what,
			 bytes ? "bytes" : "packets");
		put_head(w, name, "counter", help);
		for (size_t i = 0; i < all->count; i++) {
			const struct shm_count count = count_of(&all->list[i].stats);

			put_sample(w, name, all->list[i].ns, NULL, NULL,
				   bytes ? count.bytes : count.packets);
		}
	}
}

static struct shm_count guarded(const struct stats *stats)
{
	return stats->guard;
}

/* A metric for each reason, as the labels are those four. */
static void put_unjudged(struct jw *w, const struct stats_all *all)
{
	for (int reason = 0; reason < STATS_UNJUDGED_MAX; reason++) {
		char name[64];

		snprintf(name, sizeof(name), "nsgate_unjudged_%s_packets_total",
			 stats_unjudged_names[reason]);
		put_head(w, name, "counter", "Let pass without a verdict, as the policy says.");
		for (size_t i = 0; i < all->count; i++)
			put_sample(w, name, all->list[i].ns, NULL, NULL,
				   all->list[i].stats.unjudged[reason]);
	}
}

static void put_repairs(struct jw *w, const struct stats_all *all)
{
	static const char name[] = "nsgate_repairs_total";

	put_head(w, name, "counter", "Times that rules or queue were changed and put right.");
	for (size_t i = 0; i < all->count; i++)
		put_sample(w, name, all->list[i].ns, NULL, NULL, all->list[i].ns->record.repairs);
}

static void put_rules(struct jw *w, const struct stats_all *all, bool bytes)
{
	const char *name = bytes ? "nsgate_rule_bytes_total" : "nsgate_rule_packets_total";

	put_head(w, name, "counter",
		 bytes ? "Bytes that matched a rule." : "Packets that matched a rule.");
	for (size_t i = 0; i < all->count; i++) {
		const struct ns *ns = all->list[i].ns;
		const struct policy_info *info = ns->policy ? policy_info(ns->policy) : NULL;

		for (size_t rule = 0; info && rule < info->rule_count; rule++) {
			struct shm_count count;

			stats_rule(ns, rule, &count);
			put_sample(w, name, ns, "rule", info->rules[rule].name,
				   bytes ? count.bytes : count.packets);
		}
	}
}

static void put_latency(struct jw *w, const struct stats_all *all, unsigned int percent)
{
	char name[64];

	snprintf(name, sizeof(name), "nsgate_verdict_latency_p%u_seconds", percent);
	put_head(w, name, "gauge",
		 "Receipt of a packet to its verdict, a percentile since attach.");
	for (size_t i = 0; i < all->count; i++) {
		put_labels(w, name, all->list[i].ns, NULL, NULL);
		put(w, " %.6f\n",
		    (double)stats_latency(&all->list[i].stats, percent) / MICROSECONDS);
	}
}

static void put_states(struct jw *w, const struct stats_all *all)
{
	put_head(w, "nsgate_namespace_degraded", "gauge",
		 "1 where the kernel does not hold what the policy asks for.");
	for (size_t i = 0; i < all->count; i++)
		put_sample(w, "nsgate_namespace_degraded", all->list[i].ns, NULL, NULL,
			   all->list[i].ns->state == NS_STATE_DEGRADED);
}

static void put_bad_policies(struct jw *w, const struct stats_all *all)
{
	static const char name[] = "nsgate_namespace_policy_bad";

	put_head(w, name, "gauge",
		 "1 where the policy's file is bad: the last good version is in force, if any.");
	for (size_t i = 0; i < all->count; i++)
		put_sample(w, name, all->list[i].ns, NULL, NULL,
			   store_problem(all->list[i].ns->record.policy) != NULL);
}

static void put_agent(struct jw *w, size_t namespaces)
{
	const char *first_refused;
	const struct {
		const char *name, *type, *help;
		uint64_t value;
	} lines[] = {
		{"nsgate_policies_bad", "gauge", "Policies whose file is bad.", store_bad()},
		{"nsgate_policies_refused", "gauge",
		 "Files of policies that were refused because there are too many.",
		 store_refused(&first_refused)},
		{"nsgate_namespaces", "gauge", "Namespaces attached.", namespaces},
		{"nsgate_workers", "gauge", "Threads that verdict packets.", agent_status.workers},
		{"nsgate_broker_connected", "gauge", "1 while the broker is connected.",
		 agent_status.broker_connected},
		{"nsgate_start_time_seconds", "gauge", "Unix time at which the agent started.",
		 (uint64_t)agent_status.started_at},
		{"nsgate_events_lost_total", "counter", "Events lost inside the agent.",
		 agent_status.events_lost},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		put_head(w, lines[i].name, lines[i].type, lines[i].help);
		put(w, "%s %llu\n", lines[i].name, (unsigned long long)lines[i].value);
	}
}

enum MHD_Result api_get_metrics(struct api_request *request)
{
	struct stats_all all;
	size_t length = 0;
	struct jw w;
	char *text;

	if (stats_read_all(&all) < 0)
		return MHD_NO;
	jw_init(&w, STATS_BYTES_MAX);
	put_agent(&w, all.count);
	put_states(&w, &all);
	put_bad_policies(&w, &all);
	put_verdicts(&w, &all, false);
	put_verdicts(&w, &all, true);
	put_figures(&w, &all);
	put_counts(&w, &all, "offloaded", "Accepted by the kernel itself: their flow was accepted.",
		   stats_offloaded);
	put_counts(&w, &all, "offloaded_dropped",
		   "Dropped by the kernel itself: their flow was denied. Among all others, too.",
		   stats_denied);
	put_unjudged(&w, &all);
	put_counts(&w, &all, "guard_dropped",
		   "Dropped as it left: it went past the hooks, or in pieces.", guarded);
	put_repairs(&w, &all);
	put_latency(&w, &all, 50);
	put_latency(&w, &all, 99);
	put_rules(&w, &all, false);
	put_rules(&w, &all, true);
	stats_all_free(&all);
	if (w.error == -EFBIG) {
		jw_free(&w);
		return api_problem(request, MHD_HTTP_SERVICE_UNAVAILABLE, "answer-too-large",
				   "the metrics would be larger than %u bytes: too many rules in "
				   "too many namespaces",
				   STATS_BYTES_MAX);
	}
	text = jw_take(&w, &length);
	return api_answer(request, MHD_HTTP_OK, CONTENT_TYPE, text, length, NULL);
}
