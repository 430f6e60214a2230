// SPDX-License-Identifier: GPL-2.0-or-later
/* What `doctor` finds in the attached namespaces. */
#include "ctl/doctor/doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "ctl/consumers.h"
#include "client/document.h"
#include "queue_number.h"

static void check_state(struct doctor_report *report, const char *name, struct json_object *stats)
{
	const char *state = document_text(stats, "state", "unknown");
	char title[96];

	snprintf(title, sizeof(title), "namespace %s", name);
	if (strcmp(state, "attached") != 0)
		doctor_note(report, DOCTOR_GRADE_WARN, title, "see nsgatectl show", "%s: %s", state,
			    document_text(stats, "reason", "no reason told"));
	if (strcmp(document_text(stats, "table", "nsgate"), "nsgate") != 0)
		doctor_note(
			report, DOCTOR_GRADE_WARN, title,
			"it ends with the program that made it; attach the namespace again then",
			"somebody inside owns a table nsgate, so the rules are in %s",
			document_text(stats, "table", "nsgate"));
	if (document_count(stats, "queue.dropped") + document_count(stats, "queue.user_dropped") >
	    0)
		doctor_note(report, DOCTOR_GRADE_WARN, title,
			    "attach it with more --queues, or let its policy offload",
			    "%" PRIu64 " packets were lost before they could be judged",
			    document_count(stats, "queue.dropped") +
				    document_count(stats, "queue.user_dropped"));
	if (document_count(stats, "queue.unbound_dropped") > 0)
		doctor_note(report, DOCTOR_GRADE_WARN, title,
			    "let systemd run both daemons: its store keeps the queues meanwhile",
			    "%" PRIu64 " packets were lost while neither daemon ran",
			    document_count(stats, "queue.unbound_dropped"));
	if (document_count(stats, "queue.refused") > 0)
		doctor_note(
			report, DOCTOR_GRADE_WARN, title,
			"what is copied on its way (bridge, multicast) is best judged in the hook "
			"out or forward",
			"%" PRIu64 " packets could not be queued by the kernel",
			document_count(stats, "queue.refused"));
	if (document_count(stats, "packets.unserved") > 0)
		doctor_note(
			report, DOCTOR_GRADE_WARN, title,
			"start the program that its policy hands packets to, or let the rule say "
			"on_queue_down: open",
			"%" PRIu64 " packets were for a queue that nobody served",
			document_count(stats, "packets.unserved"));
}

/* Queues of others that are bound there, as ", 7, 8"; and the first of ours that nobody bound. */
static int sort_queues(const struct consumer *list, size_t count, uint64_t first, uint64_t queues,
		       char *ret_others, size_t size)
{
	const uint64_t ours = queue_number_width((unsigned int)queues);
	uint32_t bound = 0;
	size_t used = 0;

	ret_others[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		if (list[i].queue >= first && list[i].queue < first + queues)
			bound |= 1U << (list[i].queue - first);
		else if (list[i].queue >= first && list[i].queue < first + ours)
			continue;
		else if (used + 8 < size)
			used += (size_t)snprintf(ret_others + used, size - used, ", %u",
						 list[i].queue);
	}
	for (unsigned int i = 0; i < queues; i++) {
		if ((bound & (1U << i)) == 0)
			return (int)(first + i);
	}
	return -1;
}

/* Our sockets stay bound while they are open, so a queue of ours that is not in the kernel's table
 * means that they are gone; whatever else is there belongs to other programs. */
static void check_queues(struct doctor_report *report, const char *name, struct json_object *stats)
{
	uint64_t first = document_count(stats, "queue.first");
	uint64_t queues = document_count(stats, "queue.count");
	struct consumer list[CONSUMERS_MAX];
	char title[96], others[256];
	ssize_t found;
	int missing;

	found = consumers_of(document_count(stats, "netns.inode"), list, CONSUMERS_MAX);
	snprintf(title, sizeof(title), "queues of %s", name);
	if (found == -ENOENT) {
		doctor_note(report, DOCTOR_GRADE_OK, title, NULL,
			    "not looked at: no name and no process leads there");
		return;
	}
	if (found < 0) {
		doctor_note(report, DOCTOR_GRADE_WARN, title, "run nsgatectl doctor as root",
			    "not looked at: %s", strerror((int)-found));
		return;
	}
	if (queues > 32 || found > CONSUMERS_MAX) {
		doctor_note(report, DOCTOR_GRADE_WARN, title,
			    "see /proc/net/netfilter/nfnetlink_queue there",
			    "too many queues to compare (%zd)", found);
		return;
	}

	missing = sort_queues(list, (size_t)found, first, queues, others, sizeof(others));
	if (missing >= 0)
		doctor_note(report, DOCTOR_GRADE_FAIL, title, "detach it and attach it again",
			    "nobody consumes queue %d: its packets are dropped", missing);
	else if (others[0] != '\0')
		doctor_note(report, DOCTOR_GRADE_OK, title, NULL,
			    "ours are bound; other programs consume %s", others + 2);
	else
		doctor_note(report, DOCTOR_GRADE_OK, title, NULL,
			    "ours are bound, no other program consumes any");
}

void doctor_check_namespaces(struct doctor_report *report, struct json_object *all_stats)
{
	struct json_object *namespaces = document_find(all_stats, "namespaces");

	if (!json_object_is_type(namespaces, json_type_object))
		return;
	json_object_object_foreach (namespaces, name, stats) {
		check_state(report, name, stats);
		check_queues(report, name, stats);
	}
}
