/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `nsgatectl doctor` looks at. */
#ifndef NSGATE_CTL_DOCTOR_H
#define NSGATE_CTL_DOCTOR_H

#include "ctl/doctor/report.h"

struct json_object;
struct nsgate_msg_features;

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
