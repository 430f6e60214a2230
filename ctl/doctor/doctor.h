/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The findings of `nsgatectl doctor`. */
#ifndef NSGATE_CTL_DOCTOR_H
#define NSGATE_CTL_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

struct ctl;
struct json_object;
struct nsgate_msg_features;

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

/* This machine, without asking a daemon. */
void doctor_check_machine(struct doctor_report *report, const struct ctl *ctl);

/* The kernel's modules. */
void doctor_check_modules(struct doctor_report *report);

/* The container runtimes on it. */
void doctor_check_runtimes(struct doctor_report *report);

/* What the broker told of the kernel and of itself. */
void doctor_check_features(struct doctor_report *report,
			   const struct nsgate_msg_features *features);

/* The attached namespaces, from the agent's statistics: their states and their queues. */
void doctor_check_namespaces(struct doctor_report *report, struct json_object *all_stats);

/* The policies' files, from the agent's list of policies. */
void doctor_check_policies(struct doctor_report *report, struct json_object *policies);

/* Processes in them that could send past a policy which is not strict. */
void doctor_check_raw(struct doctor_report *report, const struct ctl *ctl,
		      struct json_object *all_stats);

#endif
