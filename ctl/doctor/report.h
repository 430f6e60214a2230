/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `nsgatectl doctor` found: a list that the checks add to, and that is printed in the end. */
#ifndef NSGATE_CTL_DOCTOR_REPORT_H
#define NSGATE_CTL_DOCTOR_REPORT_H

#include <stdbool.h>

struct ctl;

enum doctor_grade { DOCTOR_GRADE_OK, DOCTOR_GRADE_WARN, DOCTOR_GRADE_FAIL, DOCTOR_GRADE_MAX };

#define DOCTOR_FINDINGS_MAX 256

struct doctor_finding {
	enum doctor_grade grade;
	char name[96];	  /* what was looked at */
	char detail[512]; /* what was found */
	char remedy[256]; /* what to do; empty where it is ok */
};

struct doctor_report {
	struct doctor_finding list[DOCTOR_FINDINGS_MAX];
	unsigned int count;
	unsigned int suppressed; /* beyond the list */
	bool failed, unreachable;
};

/* Note a finding; `remedy` may be NULL. */
void doctor_note(struct doctor_report *report, enum doctor_grade grade, const char *name,
		 const char *remedy, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* On stdout: a document with --json, else a line each. */
void doctor_report_print(const struct ctl *ctl, const struct doctor_report *report);

#endif
