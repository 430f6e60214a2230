/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/doctor/report.h"

#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>

#include "client/document.h"
#include "ctl/ctl.h"
#include "ctl/table.h"

static const struct {
	const char *name;
	enum table_tone tone;
} grades[] = {
	[DOCTOR_GRADE_OK] = {"ok", TABLE_TONE_GOOD},
	[DOCTOR_GRADE_WARN] = {"warn", TABLE_TONE_WARN},
	[DOCTOR_GRADE_FAIL] = {"fail", TABLE_TONE_BAD},
};
static_assert(sizeof(grades) / sizeof(*grades) == DOCTOR_GRADE_MAX, "every grade has its name");

void doctor_note(struct doctor_report *report, enum doctor_grade grade, const char *name,
		 const char *remedy, const char *format, ...)
{
	struct doctor_finding *finding = &report->list[report->count];
	va_list arguments;

	report->failed = report->failed || grade == DOCTOR_GRADE_FAIL;
	if (report->count >= DOCTOR_FINDINGS_MAX) {
		report->suppressed++;
		return;
	}
	report->count++;
	finding->grade = grade;
	snprintf(finding->name, sizeof(finding->name), "%s", name);
	snprintf(finding->remedy, sizeof(finding->remedy), "%s", remedy != NULL ? remedy : "");
	va_start(arguments, format);
	vsnprintf(finding->detail, sizeof(finding->detail), format, arguments);
	va_end(arguments);
	text_clean(finding->detail);
	text_clean(finding->name);
}

static void print_json(const struct ctl *ctl, const struct doctor_report *report)
{
	struct json_object *document = json_object_new_object();
	struct json_object *checks = json_object_new_array();

	for (unsigned int i = 0; i < report->count; i++) {
		const struct doctor_finding *finding = &report->list[i];
		struct json_object *check = json_object_new_object();

		json_object_object_add(check, "name", json_object_new_string(finding->name));
		json_object_object_add(check, "status",
				       json_object_new_string(grades[finding->grade].name));
		json_object_object_add(check, "detail", json_object_new_string(finding->detail));
		json_object_object_add(check, "remedy", json_object_new_string(finding->remedy));
		json_object_array_add(checks, check);
	}
	json_object_object_add(document, "schema", json_object_new_int(1));
	json_object_object_add(document, "checks", checks);
	document_print(ctl, document);
	json_object_put(document);
}

static void print_lines(const struct ctl *ctl, const struct doctor_report *report)
{
	for (unsigned int i = 0; i < report->count; i++) {
		const struct doctor_finding *finding = &report->list[i];

		printf("%s%-4s%s  %s: %s%s%s\n",
		       table_tone_begin(grades[finding->grade].tone, ctl->colour),
		       grades[finding->grade].name,
		       table_tone_end(grades[finding->grade].tone, ctl->colour), finding->name,
		       finding->detail, finding->remedy[0] != '\0' ? "; " : "", finding->remedy);
	}
	if (report->suppressed > 0)
		fprintf(stderr, "%u more findings are not shown\n", report->suppressed);
}

void doctor_report_print(const struct ctl *ctl, const struct doctor_report *report)
{
	if (ctl->json)
		print_json(ctl, report);
	else
		print_lines(ctl, report);
}
