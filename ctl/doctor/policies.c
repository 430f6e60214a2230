// SPDX-License-Identifier: GPL-2.0-or-later
/* What `doctor` finds in the policies' files. */
#include "ctl/doctor/doctor.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>

#include "client/document.h"

static void note_bad(struct doctor_report *report, struct json_object *policy, const char *problem)
{
	const uint64_t bound = document_count(policy, "namespaces");
	const bool in_force = document_find(policy, "mode") != NULL;
	char title[96];

	snprintf(title, sizeof(title), "policy %s", document_text(policy, "name", ""));
	doctor_note(report, in_force || bound == 0 ? DOCTOR_GRADE_WARN : DOCTOR_GRADE_FAIL, title,
		    "see all of it with nsgatectl policy check FILE, and mend the file",
		    "its file is bad (%s); %s, %" PRIu64 " namespaces", problem,
		    in_force ? "the last good version is in force" : "it never was good", bound);
}

void doctor_check_policies(struct doctor_report *report, struct json_object *policies)
{
	const uint64_t refused = document_count(policies, "refused.count");
	const size_t count = document_length(policies, "policies");
	struct json_object *list = document_find(policies, "policies");
	unsigned int bad = 0;

	for (size_t i = 0; i < count && json_object_is_type(list, json_type_array); i++) {
		struct json_object *policy = json_object_array_get_idx(list, i);
		const char *problem = document_text(policy, "problem", "");

		if (problem[0] == '\0')
			continue;
		note_bad(report, policy, problem);
		bad++;
	}
	if (refused > 0)
		doctor_note(report, DOCTOR_GRADE_WARN, "policy files",
			    "remove files of policies that nobody needs",
			    "%" PRIu64 " were refused because there are too many, %s first",
			    refused, document_text(policies, "refused.first", "?"));
	if (bad == 0 && refused == 0)
		doctor_note(report, DOCTOR_GRADE_OK, "policy files", NULL, "%zu, all good", count);
}
