// SPDX-License-Identifier: GPL-2.0-or-later
#include "ctl/render.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "client/document.h"
#include "client/failure.h"
#include "ctl/table.h"
#include "nsgate/table.h"

static enum table_tone tone_of_state(const char *state)
{
	if (strcmp(state, "attached") == 0)
		return TABLE_TONE_GOOD;
	return strcmp(state, "degraded") == 0 ? TABLE_TONE_BAD : TABLE_TONE_WARN;
}

/* The version in force is not what the file says where that is bad. */
static void add_policy(struct table *table, struct json_object *stats)
{
	const char *policy = document_text(stats, "policy", "");
	char text[128];

	if (document_find(stats, "policy_problem") == NULL) {
		table_text(table, TABLE_TONE_PLAIN, policy);
		return;
	}
	snprintf(text, sizeof(text), "%s (bad file)", policy);
	table_text(table, TABLE_TONE_WARN, text);
}

bool render_list(struct json_object *all_stats, FILE *to, bool colour)
{
	static const char *const headings[] = {"NAME",	   "STATE",	"POLICY",   "MODE",
					       ">SEEN",	   ">ACCEPTED", ">DROPPED", ">REJECTED",
					       ">PENDING", NULL};
	static const char *const counts[] = {"packets.seen", "packets.accepted", "packets.dropped",
					     "packets.rejected", "queue.pending"};
	struct json_object *namespaces = document_find(all_stats, "namespaces");
	struct table *table = table_new(headings);

	if (json_object_is_type(namespaces, json_type_object)) {
		json_object_object_foreach (namespaces, name, stats) {
			const char *state = document_text(stats, "state", "");

			table_text(table, TABLE_TONE_PLAIN, name);
			table_text(table, tone_of_state(state), state);
			add_policy(table, stats);
			table_text(table, TABLE_TONE_PLAIN, document_text(stats, "mode", ""));
			for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
				table_number(table, document_count(stats, counts[i]));
		}
	}
	return table_print(table, to, colour);
}

bool render_totals(struct json_object *all_stats, FILE *to, bool colour)
{
	static const char *const headings[] = {
		"NAME",	     ">SEEN",	   ">BYTES",	 ">ACCEPTED",  ">DROPPED",
		">REJECTED", ">ELSEWHERE", ">MALFORMED", ">OFFLOADED", ">LOST",
		">P50us",    ">P99us",	   NULL};
	static const char *const counts[] = {"packets.seen",	  "bytes.seen",
					     "packets.accepted",  "packets.dropped",
					     "packets.rejected",  "packets.queued_elsewhere",
					     "packets.malformed", "packets.offloaded"};
	struct json_object *namespaces = document_find(all_stats, "namespaces");
	struct table *table = table_new(headings);

	if (json_object_is_type(namespaces, json_type_object)) {
		json_object_object_foreach (namespaces, name, stats) {
			table_text(table, TABLE_TONE_PLAIN, name);
			for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
				table_number(table, document_count(stats, counts[i]));
			table_number(table, document_count(stats, "queue.dropped") +
						    document_count(stats, "queue.user_dropped") +
						    document_count(stats, "queue.flushed") +
						    document_count(stats, "queue.unbound_dropped"));
			table_number(table, document_count(stats, "verdict_latency_us.p50"));
			table_number(table, document_count(stats, "verdict_latency_us.p99"));
		}
	}
	return table_print(table, to, colour);
}

/* One pair of "key  value" lines; the value is cleaned for a terminal. */
static void print_pair(FILE *to, const char *key, const char *value, enum table_tone tone,
		       bool colour)
{
	char text[1024];

	snprintf(text, sizeof(text), "%s", value);
	text_clean(text);
	fprintf(to, "%-10s %s%s%s\n", key, table_tone_begin(tone, colour), text,
		table_tone_end(tone, colour));
}

static void print_head(struct json_object *stats, FILE *to, bool colour)
{
	const char *state = document_text(stats, "state", "unknown");
	const char *reason = document_text(stats, "reason", "");
	const char *problem = document_text(stats, "policy_problem", "");
	struct json_object *labels = document_find(stats, "labels");
	uint64_t first = document_count(stats, "queue.first");
	uint64_t count = document_count(stats, "queue.count");
	const char *backend = document_text(stats, "queue.backend", "backend unknown");
	char line[1024];

	print_pair(to, "name", document_text(stats, "name", "-"), TABLE_TONE_PLAIN, colour);
	snprintf(line, sizeof(line), "%s%s%s", state, reason[0] != '\0' ? ": " : "", reason);
	print_pair(to, "state", line, tone_of_state(state), colour);
	snprintf(line, sizeof(line), "%s, %s", document_text(stats, "policy", "-"),
		 document_text(stats, "mode", "not in force"));
	print_pair(to, "policy", line, TABLE_TONE_PLAIN, colour);
	if (problem[0] != '\0') {
		snprintf(line, sizeof(line), "its file is bad: %s", problem);
		print_pair(to, "", line, TABLE_TONE_WARN, colour);
	}
	snprintf(line, sizeof(line), "inode %" PRIu64 ", cookie %" PRIu64,
		 document_count(stats, "netns.inode"), document_count(stats, "netns.cookie"));
	print_pair(to, "netns", line, TABLE_TONE_PLAIN, colour);
	if (json_object_is_type(labels, json_type_object)) {
		json_object_object_foreach (labels, key, value) {
			snprintf(line, sizeof(line), "%s=%s", key, json_object_get_string(value));
			print_pair(to, "label", line, TABLE_TONE_PLAIN, colour);
		}
	}
	print_pair(to, "since", document_text(stats, "attached_at", "-"), TABLE_TONE_PLAIN, colour);
	if (count > 1)
		snprintf(line, sizeof(line), "%" PRIu64 "-%" PRIu64 ", %s", first,
			 first + count - 1, backend);
	else
		snprintf(line, sizeof(line), "%" PRIu64 ", %s", first, backend);
	print_pair(to, "queue", line, TABLE_TONE_PLAIN, colour);
	snprintf(line, sizeof(line),
		 "%" PRIu64 " pending; lost by the kernel: %" PRIu64 " queue full, %" PRIu64
		 " not delivered, %" PRIu64 " flushed, %" PRIu64 " without daemons",
		 document_count(stats, "queue.pending"), document_count(stats, "queue.dropped"),
		 document_count(stats, "queue.user_dropped"),
		 document_count(stats, "queue.flushed"),
		 document_count(stats, "queue.unbound_dropped"));
	print_pair(to, "", line, TABLE_TONE_PLAIN, colour);
	snprintf(line, sizeof(line), "inet %s", document_text(stats, "table", NSGATE_TABLE));
	if (strcmp(line, "inet " NSGATE_TABLE) != 0)
		print_pair(to, "table", line, TABLE_TONE_WARN, colour);
	if (document_count(stats, "repairs") > 0) {
		snprintf(line, sizeof(line), "%" PRIu64 ", see nsgate-broker's log",
			 document_count(stats, "repairs"));
		print_pair(to, "repairs", line, TABLE_TONE_WARN, colour);
	}
}

/* Only where there were any. */
static void print_unjudged(struct json_object *stats, FILE *to, bool colour)
{
	const uint64_t down = document_count(stats, "unjudged.agent_down");
	const uint64_t full = document_count(stats, "unjudged.queue_full");
	const uint64_t undelivered = document_count(stats, "unjudged.undelivered");
	char line[256];

	if (down + full + undelivered == 0)
		return;
	snprintf(line, sizeof(line),
		 "%" PRIu64 " nobody judged, %" PRIu64 " queue full, %" PRIu64 " not delivered",
		 down, full, undelivered);
	print_pair(to, "unjudged", line, TABLE_TONE_WARN, colour);
}

static bool print_fates(struct json_object *stats, FILE *to, bool colour)
{
	static const char *const headings[] = {"FATE", ">PACKETS", ">BYTES", NULL};
	static const struct {
		const char *title, *packets, *bytes;
	} fates[] = {
		{"seen", "packets.seen", "bytes.seen"},
		{"accepted", "packets.accepted", "bytes.accepted"},
		{"dropped", "packets.dropped", "bytes.dropped"},
		{"rejected", "packets.rejected", "bytes.rejected"},
		{"queued elsewhere", "packets.queued_elsewhere", NULL},
		{"repeated", "packets.repeated", NULL},
		{"malformed", "packets.malformed", NULL},
		{"offloaded", "packets.offloaded", "bytes.offloaded"},
		{"dropped unasked", "packets.offloaded_dropped", "bytes.offloaded_dropped"},
		{"would drop (audit)", "audit.would_drop", NULL},
		/* Where there are any. */
		{"dropped by the guard", "guard.packets", "guard.bytes"},
		{"found no consumer", "packets.unserved", NULL},
	};
	const size_t always = sizeof(fates) / sizeof(*fates) - 2;
	struct table *table = table_new(headings);

	for (size_t i = 0; i < sizeof(fates) / sizeof(*fates); i++) {
		if (i >= always && document_count(stats, fates[i].packets) == 0)
			continue;
		table_text(table, TABLE_TONE_PLAIN, fates[i].title);
		table_number(table, document_count(stats, fates[i].packets));
		if (fates[i].bytes != NULL)
			table_number(table, document_count(stats, fates[i].bytes));
		else
			table_text(table, TABLE_TONE_PLAIN, "");
	}
	return table_print(table, to, colour);
}

static bool print_directions(struct json_object *stats, FILE *to, bool colour)
{
	static const char *const headings[] = {"DIRECTION", ">PACKETS", ">BYTES", NULL};
	struct json_object *directions = document_find(stats, "direction");
	struct table *table = table_new(headings);

	if (json_object_is_type(directions, json_type_object)) {
		json_object_object_foreach (directions, name, count) {
			table_text(table, TABLE_TONE_PLAIN, name);
			table_number(table, document_count(count, "packets"));
			table_number(table, document_count(count, "bytes"));
		}
	}
	return table_print(table, to, colour);
}

static bool print_protocols(struct json_object *stats, FILE *to, bool colour)
{
	static const char *const headings[] = {"PROTOCOL", ">PACKETS", NULL};
	struct json_object *protocols = document_find(stats, "protocol");
	struct table *table = table_new(headings);

	if (json_object_is_type(protocols, json_type_object)) {
		json_object_object_foreach (protocols, name, count) {
			table_text(table, TABLE_TONE_PLAIN, name);
			table_number(table, json_object_get_uint64(count));
		}
	}
	return table_print(table, to, colour);
}

static bool print_rules(struct json_object *stats, FILE *to, bool colour)
{
	static const char *const headings[] = {"RULE", "ACTION", ">PACKETS", ">BYTES", NULL};
	static const struct {
		const char *title, *key;
	} others[] = {
		{"(default)", "default"},
		{"(replies of accepted flows)", "replies"},
		{"(while there was no policy)", "no_policy"},
	};
	struct json_object *rules = document_find(stats, "rules");
	struct table *table = table_new(headings);

	for (size_t i = 0; i < document_length(stats, "rules"); i++) {
		struct json_object *rule = json_object_is_type(rules, json_type_array)
						   ? json_object_array_get_idx(rules, i)
						   : NULL;

		table_text(table, TABLE_TONE_PLAIN, document_text(rule, "name", ""));
		table_text(table, TABLE_TONE_PLAIN, document_text(rule, "action", ""));
		table_number(table, document_count(rule, "packets"));
		table_number(table, document_count(rule, "bytes"));
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		struct json_object *count = document_find(stats, others[i].key);

		if (count == NULL)
			continue;
		table_text(table, TABLE_TONE_PLAIN, others[i].title);
		table_text(table, TABLE_TONE_PLAIN, "");
		table_number(table, document_count(count, "packets"));
		table_number(table, document_count(count, "bytes"));
	}
	return table_print(table, to, colour);
}

bool render_stats(struct json_object *stats, FILE *to, bool colour)
{
	static bool (*const parts[])(struct json_object *, FILE *, bool) = {
		print_fates, print_directions, print_protocols, print_rules};

	print_head(stats, to, colour);
	print_unjudged(stats, to, colour);
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		fputc('\n', to);
		if (!parts[i](stats, to, colour))
			return false;
	}
	fprintf(to,
		"\nverdict latency  p50 %" PRIu64 " us, p90 %" PRIu64 " us, p99 %" PRIu64
		" us, max %" PRIu64 " us\n",
		document_count(stats, "verdict_latency_us.p50"),
		document_count(stats, "verdict_latency_us.p90"),
		document_count(stats, "verdict_latency_us.p99"),
		document_count(stats, "verdict_latency_us.max"));
	return true;
}

bool render_policies(struct json_object *policies, FILE *to, bool colour)
{
	static const char *const headings[] = {"NAME",	      "MODE",	 ">RULES",
					       ">NAMESPACES", "PROBLEM", NULL};
	struct json_object *list = document_find(policies, "policies");
	struct table *table = table_new(headings);

	for (size_t i = 0; i < document_length(policies, "policies"); i++) {
		struct json_object *policy = json_object_is_type(list, json_type_array)
						     ? json_object_array_get_idx(list, i)
						     : NULL;
		const char *problem = document_text(policy, "problem", "");

		table_text(table, TABLE_TONE_PLAIN, document_text(policy, "name", ""));
		table_text(table, TABLE_TONE_PLAIN, document_text(policy, "mode", ""));
		table_number(table, document_count(policy, "rules"));
		table_number(table, document_count(policy, "namespaces"));
		table_text(table, problem[0] != '\0' ? TABLE_TONE_BAD : TABLE_TONE_PLAIN, problem);
	}
	return table_print(table, to, colour);
}

/* ---- any object ---- */

/* The members of an array as one line. */
static void add_list(struct table *table, struct json_object *list)
{
	char line[1024] = "";
	size_t used = 0;

	for (size_t i = 0; i < json_object_array_length(list) && used < sizeof(line); i++) {
		struct json_object *member = json_object_array_get_idx(list, i);

		used += (size_t)snprintf(line + used, sizeof(line) - used, "%s%s",
					 i > 0 ? ", " : "", json_object_get_string(member));
	}
	table_text(table, TABLE_TONE_PLAIN, line);
}

static void add_pairs(struct table *table, const char *prefix, struct json_object *object)
{
	json_object_object_foreach (object, key, value) {
		char name[256];

		snprintf(name, sizeof(name), "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", key);
		if (json_object_is_type(value, json_type_object)) {
			add_pairs(table, name, value);
			continue;
		}
		table_text(table, TABLE_TONE_PLAIN, name);
		if (json_object_is_type(value, json_type_array))
			add_list(table, value);
		else
			table_text(table, TABLE_TONE_PLAIN,
				   value != NULL ? json_object_get_string(value) : "");
	}
}

bool render_pairs(struct json_object *object, FILE *to)
{
	static const char *const headings[] = {"KEY", "VALUE", NULL};
	struct table *table = table_new(headings);

	if (json_object_is_type(object, json_type_object))
		add_pairs(table, "", object);
	return table_print(table, to, false);
}
