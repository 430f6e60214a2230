// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Who could send past the queue: a process with CAP_NET_RAW sends frames by AF_PACKET, which only
 * the guard of a strict policy sees. Container runtimes give that capability by default.
 */
#include "ctl/doctor/doctor.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "client/document.h"
#include "client/query.h"

struct suspect {
	uint64_t inode;
	const char *name, *policy; /* of the statistics */
	unsigned int processes;	   /* there, with CAP_NET_RAW */
};

/* May the process send raw frames? Its permitted set says, from proc(5). */
static bool has_net_raw(const char *pid)
{
	char path[64], line[128];
	uint64_t permitted = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%.20s/status", pid);
	file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "CapPrm: %" SCNx64, &permitted) == 1)
			break;
	}
	if (file != NULL)
		fclose(file);
	return (permitted & (UINT64_C(1) << CAP_NET_RAW)) != 0;
}

/* The inode of a process's network namespace, 0 where it has ended or may not be asked. */
static uint64_t netns_of(const char *pid)
{
	char path[64], link[64];
	uint64_t inode = 0;
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%.20s/ns/net", pid);
	length = readlink(path, link, sizeof(link) - 1);
	if (length <= 0)
		return 0;
	link[length] = '\0';
	return sscanf(link, "net:[%" SCNu64 "]", &inode) == 1 ? inode : 0;
}

static int by_inode(const void *a, const void *b)
{
	const struct suspect *left = a, *right = b;

	return (left->inode > right->inode) - (left->inode < right->inode);
}

static void count_processes(struct suspect *list, size_t count)
{
	DIR *processes = opendir("/proc");
	struct dirent *entry;

	while (processes != NULL && (entry = readdir(processes)) != NULL) {
		struct suspect wanted = {0}, *found;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		wanted.inode = netns_of(entry->d_name);
		found = bsearch(&wanted, list, count, sizeof(*list), by_inode);
		if (found != NULL && has_net_raw(entry->d_name))
			found->processes++;
	}
	if (processes != NULL)
		closedir(processes);
}

static bool is_strict(const struct ctl *ctl, const char *policy)
{
	struct json_object *document = NULL;
	struct failure ignored = {0}; /* a policy that is missing is a finding of its own */
	bool strict;

	query_get(ctl, &ignored, &document, "/v1/policies/%s", policy);
	strict = json_object_get_boolean(document_find(document, "strict"));
	json_object_put(document);
	failure_free(&ignored);
	return strict;
}

void doctor_check_raw(struct doctor_report *report, const struct ctl *ctl,
		      struct json_object *all_stats)
{
	struct json_object *namespaces = document_find(all_stats, "namespaces");
	size_t count = 0;
	struct suspect *list;

	if (!json_object_is_type(namespaces, json_type_object) ||
	    json_object_object_length(namespaces) == 0)
		return;
	list = calloc((size_t)json_object_object_length(namespaces), sizeof(*list));
	if (list == NULL)
		return;
	json_object_object_foreach (namespaces, name, stats) {
		list[count++] = (struct suspect){.inode = document_count(stats, "netns.inode"),
						 .name = name,
						 .policy = document_text(stats, "policy", "")};
	}
	qsort(list, count, sizeof(*list), by_inode);
	count_processes(list, count);
	for (size_t i = 0; i < count; i++) {
		char title[96];

		if (list[i].processes == 0 || is_strict(ctl, list[i].policy))
			continue;
		snprintf(title, sizeof(title), "namespace %s", list[i].name);
		doctor_note(report, DOCTOR_GRADE_WARN, title,
			    "\"strict\": true in its policy, or no CAP_NET_RAW for the container",
			    "processes that can send past the queue by raw sockets: %u",
			    list[i].processes);
	}
	free(list);
}
