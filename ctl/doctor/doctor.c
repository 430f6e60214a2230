// SPDX-License-Identifier: GPL-2.0-or-later
/* `nsgatectl doctor`: asks the kernel, the broker and the agent, and says what to mend. */
#include "ctl/doctor/doctor.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "client/dial.h"
#include "client/document.h"
#include "ipc.h"
#include "client/patience.h"
#include "client/problem.h"
#include "client/query.h"

#define ASK_ID 1

/* Descriptors that the broker holds for a namespace beside one for each queue, and for itself. */
#define FDS_PER_NAMESPACE 9
#define FDS_OF_ITS_OWN 64

/* A failure as a finding: its text is "what: why; what to do". */
static void note_failure(struct doctor_report *report, const char *name, enum nsgate_status status,
			 struct failure *fail)
{
	char *remedy = strstr(fail->text, "; ");

	if (remedy != NULL)
		*remedy = '\0';
	doctor_note(report, DOCTOR_GRADE_FAIL, name, remedy != NULL ? remedy + 2 : NULL, "%s",
		    fail->text);
	report->unreachable = report->unreachable || status == NSGATE_STATUS_UNREACHABLE;
	failure_free(fail);
}

static void check_fds(struct doctor_report *report, const struct nsgate_msg_features *features)
{
	/* Where tables are not owned, the broker watches them by one more. */
	const unsigned long each = FDS_PER_NAMESPACE + 1UL + (features->owned_tables == 0);
	const unsigned long used = FDS_OF_ITS_OWN + features->attached * each;

	if (used > features->nofile / 5UL * 4)
		doctor_note(report, DOCTOR_GRADE_WARN, "descriptors",
			    "start nsgate-broker and nsgate-agent with a higher RLIMIT_NOFILE "
			    "(LimitNOFILE=)",
			    "about %lu of %u are in use, namespaces attached: %u", used,
			    features->nofile, features->attached);
	else
		doctor_note(report, DOCTOR_GRADE_OK, "descriptors", NULL,
			    "namespaces attached: %u, room for about %lu", features->attached,
			    features->nofile > FDS_OF_ITS_OWN
				    ? (features->nofile - FDS_OF_ITS_OWN) / each
				    : 0UL);
}

void doctor_check_features(struct doctor_report *report, const struct nsgate_msg_features *features)
{
	if (features->backend == NSGATE_BACKEND_NFT_QUEUE)
		doctor_note(report, DOCTOR_GRADE_OK, "queue-backend", NULL,
			    "nft-queue: the native nftables expression");
	else if (features->backend == NSGATE_BACKEND_NFT_XT)
		doctor_note(report, DOCTOR_GRADE_OK, "queue-backend", NULL,
			    "nft-xt: the NFQUEUE target; this kernel has no native expression");
	else
		doctor_note(report, DOCTOR_GRADE_FAIL, "queue-backend",
			    "a kernel with CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT and "
			    "CONFIG_NETFILTER_XT_TARGET_NFQUEUE",
			    "none: nothing can be attached");

	if (features->owned_tables != 0)
		doctor_note(
			report, DOCTOR_GRADE_OK, "owned-tables", NULL,
			"the rules are safe from a flush inside the namespace; who saves and "
			"restores rules in there leaves out the tables nsgate (nsgate-broker(8))");
	else
		doctor_note(report, DOCTOR_GRADE_WARN, "owned-tables",
			    "Linux 6.9 or later, or no CAP_NET_ADMIN for containers",
			    "not available: who has CAP_NET_ADMIN in a namespace can remove the "
			    "rules");

	if (features->label != 0)
		doctor_note(report, DOCTOR_GRADE_OK, "labels", NULL,
			    "accepted flows can be remembered");
	else
		doctor_note(report, DOCTOR_GRADE_WARN, "labels",
			    "a kernel with CONFIG_NF_CONNTRACK_LABELS and CONFIG_NFT_CT",
			    "not available: nothing is offloaded, every reply is judged by what it "
			    "answers, and how a flow began is not known");

	if (features->agent != 0)
		doctor_note(report, DOCTOR_GRADE_OK, "broker-to-agent", NULL, "connected");
	else
		doctor_note(report, DOCTOR_GRADE_FAIL, "broker-to-agent",
			    "start nsgate-agent with the same --runtime-dir", "not connected");
	check_fds(report, features);
}

/* What the broker tells of strict policies; nothing where it does not know the question. */
static void check_guard(struct doctor_report *report, const struct ctl *ctl)
{
	struct nsgate_msg_plain probe = {0};
	struct failure fail = {0};

	ipc_header(&probe.header, NSGATE_MSG_PROBE_STRICT, ASK_ID);
	switch (dial_once(ctl->runtime_dir, &probe.header, NULL, 0, &fail)) {
	case NSGATE_STATUS_OK:
		doctor_note(report, DOCTOR_GRADE_OK, "egress-guard", NULL,
			    "a policy can be strict");
		break;
	case NSGATE_STATUS_FAILED:
		doctor_note(report, DOCTOR_GRADE_WARN, "egress-guard",
			    "Linux 5.16 or later with CONFIG_NETFILTER_EGRESS, "
			    "CONFIG_NF_TABLES_NETDEV and CONFIG_IP_ROUTE_CLASSID, or no "
			    "CAP_NET_RAW for containers",
			    "not available: strict policies are refused");
		break;
	case NSGATE_STATUS_USAGE:
	case NSGATE_STATUS_UNREACHABLE:
	case NSGATE_STATUS_NOT_FOUND:
	case NSGATE_STATUS_REFUSED:
	case NSGATE_STATUS_BUSY:
		break;
	}
	failure_free(&fail);
}

static void check_broker(struct doctor_report *report, const struct ctl *ctl)
{
	struct nsgate_msg_plain probe = {0};
	struct failure fail = {0};
	union nsgate_msg answer;
	enum nsgate_status status;
	int fd;

	status = dial_broker(ctl->runtime_dir, &fd, &fail);
	if (status == NSGATE_STATUS_OK) {
		ipc_header(&probe.header, NSGATE_MSG_PROBE, ASK_ID);
		status = dial_ask(fd, &probe.header, NULL, 0, NSGATE_MSG_FEATURES, &answer, &fail);
		fd_close(&fd);
	}
	if (status != NSGATE_STATUS_OK) {
		note_failure(report, "broker", status, &fail);
		return;
	}
	doctor_note(report, DOCTOR_GRADE_OK, "broker", NULL, "answers on %s/" DIAL_BROKER_SOCKET,
		    ctl->runtime_dir);
	doctor_check_features(report, &answer.features);
	check_guard(report, ctl);
}

static void check_agent(struct doctor_report *report, const struct ctl *ctl)
{
	static const struct query ready = {.method = "GET", .path = "/readyz"};
	struct json_object *all_stats = NULL, *policies = NULL;
	struct http_answer answer = {0};
	struct failure fail = {0};
	enum nsgate_status status = query_answer(ctl, &ready, &answer, &fail);

	if (status != NSGATE_STATUS_OK) {
		note_failure(report, "agent", status, &fail);
		http_answer_free(&answer);
		return;
	}
	if (problem_status(answer.code) == NSGATE_STATUS_OK) {
		doctor_note(report, DOCTOR_GRADE_OK, "agent", NULL, "ready on %s/" QUERY_SOCKET,
			    ctl->runtime_dir);
	} else {
		status = problem_read(answer.code, answer.body, answer.length, "/readyz", NULL,
				      &fail);
		note_failure(report, "agent", status, &fail);
	}
	http_answer_free(&answer);

	status = query_get(ctl, &fail, &policies, "/v1/policies");
	if (status == NSGATE_STATUS_OK)
		doctor_check_policies(report, policies);
	else
		note_failure(report, "policies of the agent", status, &fail);
	json_object_put(policies);

	status = query_get(ctl, &fail, &all_stats, "/v1/stats");
	if (status == NSGATE_STATUS_OK) {
		doctor_check_namespaces(report, all_stats);
		doctor_check_raw(report, ctl, all_stats);
	} else {
		note_failure(report, "statistics", status, &fail);
	}
	json_object_put(all_stats);
}

/* The findings are the message: there is no error line beside them. */
int ctl_doctor(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	struct doctor_report *report = calloc(1, sizeof(*report));
	int code = NSGATE_STATUS_OK;

	(void)args;
	if (report == NULL)
		return failure_set(fail, NSGATE_STATUS_FAILED, "out of memory; try again");
	patience_share(2); /* each of the two may hang */
	doctor_check_machine(report, ctl);
	doctor_check_modules(report);
	doctor_check_runtimes(report);
	check_broker(report, ctl);
	check_agent(report, ctl);
	doctor_report_print(ctl, report);

	if (report->unreachable)
		code = NSGATE_STATUS_UNREACHABLE;
	else if (report->failed)
		code = NSGATE_STATUS_FAILED;
	free(report);
	return code;
}
