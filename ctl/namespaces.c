// SPDX-License-Identifier: GPL-2.0-or-later
/* What the agent knows of the attached namespaces: ls, show, stats, namespace policy. */
#include <json-c/json.h>
#include <time.h>

#include "ctl/ctl.h"
#include "client/document.h"
#include "loop.h"
#include "client/query.h"
#include "ctl/render.h"
#include "client/request.h"

static enum nsgate_status out_of_memory(struct failure *fail)
{
	return failure_set(fail, NSGATE_STATUS_FAILED,
			   "out of memory; use --json, which needs less");
}

#define READY_PAUSE_NS 50000000L

int ctl_ready(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	const struct timespec pause = {.tv_nsec = READY_PAUSE_NS};
	const char *wait = command_value(args, "wait");
	struct json_object *document = NULL;
	enum nsgate_status status;
	int64_t until;
	int ms = 0;

	if (wait != NULL && request_time("--wait", wait, &ms, fail) != NSGATE_STATUS_OK)
		return NSGATE_STATUS_USAGE;
	until = loop_now_ms() + ms;
	status = query_get(ctl, fail, &document, "/readyz");
	while (status == NSGATE_STATUS_UNREACHABLE && loop_now_ms() < until) {
		nanosleep(&pause, NULL);
		failure_free(fail);
		status = query_get(ctl, fail, &document, "/readyz");
	}
	if (status == NSGATE_STATUS_OK && ctl->json)
		document_print(ctl, document);
	json_object_put(document);
	return status;
}

/* What there is to say of all namespaces. Takes over `document`. */
static enum nsgate_status print_all(const struct ctl *ctl, struct json_object *document,
				    bool (*render)(struct json_object *document, FILE *out,
						   bool colour),
				    struct failure *fail)
{
	enum nsgate_status status = NSGATE_STATUS_OK;

	if (ctl->json)
		document_print(ctl, document);
	else if (document_length(document, "namespaces") == 0)
		fprintf(stderr, "no namespace is attached; nsgatectl attach --help tells how\n");
	else if (!render(document, stdout, ctl->colour))
		status = out_of_memory(fail);
	json_object_put(document);
	return status;
}

int ctl_ls(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	struct json_object *document = NULL;
	enum nsgate_status status;

	(void)args;
	/* The table has counters, which only the statistics tell. */
	status = query_get(ctl, fail, &document, ctl->json ? "/v1/namespaces" : "/v1/stats");
	if (status != NSGATE_STATUS_OK)
		return status;
	return print_all(ctl, document, render_list, fail);
}

int ctl_show(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	struct json_object *document = NULL;
	enum nsgate_status status = request_name("NAME", args->operands[0], fail);

	if (status == NSGATE_STATUS_OK)
		status = query_get(ctl, fail, &document, "/v1/namespaces/%s", args->operands[0]);
	if (status != NSGATE_STATUS_OK)
		return status;
	if (ctl->json)
		document_print(ctl, document);
	else if (!render_pairs(document, stdout))
		status = out_of_memory(fail);
	json_object_put(document);
	return status;
}

static int stats_of_all(const struct ctl *ctl, struct failure *fail)
{
	struct json_object *document = NULL;
	enum nsgate_status status = query_get(ctl, fail, &document, "/v1/stats");

	if (status != NSGATE_STATUS_OK)
		return status;
	return print_all(ctl, document, render_totals, fail);
}

int ctl_stats(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	struct json_object *document = NULL;
	enum nsgate_status status;

	if (args->operand_count == 0)
		return stats_of_all(ctl, fail);
	status = request_name("NAME", args->operands[0], fail);
	if (status == NSGATE_STATUS_OK)
		status = query_get(ctl, fail, &document, "/v1/namespaces/%s/stats",
				   args->operands[0]);
	if (status != NSGATE_STATUS_OK)
		return status;
	if (ctl->json)
		document_print(ctl, document);
	else if (!render_stats(document, stdout, ctl->colour))
		status = out_of_memory(fail);
	json_object_put(document);
	return status;
}

int ctl_namespace_policy(const struct ctl *ctl, const struct command_args *args,
			 struct failure *fail)
{
	const char *name = args->operands[0], *policy = args->operands[1];
	struct json_object *answer = NULL;
	char path[256], body[256];
	struct query query = {.method = "PUT", .path = path, .body = body};
	enum nsgate_status status;

	status = request_name("NAME", name, fail);
	if (status == NSGATE_STATUS_OK)
		status = request_name("POLICY", policy, fail);
	if (status != NSGATE_STATUS_OK)
		return status;

	snprintf(path, sizeof(path), "/v1/namespaces/%s/policy", name);
	query.length = (size_t)snprintf(body, sizeof(body), "{\"policy\":\"%s\"}", policy);
	status = query_document(ctl, &query, &answer, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	if (!ctl->json)
		printf("%s: policy %s\n", name, policy);
	else if (answer != NULL)
		document_print(ctl, answer);
	else
		printf("{\"schema\":1,\"name\":\"%s\",\"policy\":\"%s\"}\n", name, policy);
	json_object_put(answer);
	return status;
}
