// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Policies: check and schema ask nobody, the rest asks the agent. `check` compiles with the very
 * code that the agent does, so both say the same of a document.
 */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "client/document.h"
#include "client/file.h"
#include "policy/policy.h"
#include "policy/schema.h"
#include "client/problem.h"
#include "client/query.h"
#include "ctl/render.h"
#include "client/request.h"

static void add_problem(struct json_object *list, const struct policy_problem *problem)
{
	struct json_object *entry = json_object_new_object();

	json_object_object_add(entry, "pointer", json_object_new_string(problem->pointer));
	json_object_object_add(entry, "message", json_object_new_string(problem->message));
	json_object_array_add(list, entry);
}

/* The result of a check as JSON; `policy` is NULL where it is bad. */
static void print_check(const struct ctl *ctl, const struct policy *policy,
			const struct policy_problems *problems)
{
	struct json_object *result = json_object_new_object();
	struct json_object *errors = json_object_new_array();

	json_object_object_add(result, "ok", json_object_new_boolean(policy != NULL));
	if (policy != NULL)
		json_object_object_add(result, "rules",
				       json_object_new_uint64(policy_info(policy)->rule_count));
	for (size_t i = 0; i < problems->count; i++)
		add_problem(errors, &problems->list[i]);
	json_object_object_add(result, "errors", errors);
	document_print(ctl, result);
	json_object_put(result);
}

static enum nsgate_status report_problems(const char *file, const struct policy_problems *problems,
					  struct failure *fail)
{
	for (size_t i = 0; i < problems->count; i++) {
		const struct policy_problem *problem = &problems->list[i];

		failure_add(fail, "%s: %s%s%s", file, problem->pointer,
			    problem->pointer[0] != '\0' ? ": " : "", problem->message);
	}
	if (problems->total > problems->count)
		failure_add(fail, "%s: and %zu more", file, problems->total - problems->count);
	return NSGATE_STATUS_FAILED;
}

int ctl_policy_check(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	const char *file = args->operands[0];
	struct policy_problems problems = {0};
	struct policy *policy = NULL;
	enum nsgate_status status;
	char *text;
	size_t length;
	int err;

	status = file_read(file, NSGATE_POLICY_BYTES_MAX, &text, &length, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	err = policy_compile(text, length, &policy, &problems);
	free(text);

	if (err != 0 && problems.count == 0) {
		status = failure_set(fail, NSGATE_STATUS_FAILED,
				     "%s: cannot be checked: %s; try again", file, strerror(-err));
	} else {
		if (ctl->json)
			print_check(ctl, policy, &problems);
		else if (err == 0)
			printf("%s: ok (%zu rules)\n", file, policy_info(policy)->rule_count);
		if (err != 0)
			status = report_problems(file, &problems, fail);
	}
	policy_problems_free(&problems);
	policy_unref(policy);
	return status;
}

int ctl_policy_set(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	const char *name = args->operands[0], *file = args->operands[1];
	struct json_object *answer = NULL;
	char path[256];
	struct query query = {.method = "PUT", .path = path, .prefix = file};
	enum nsgate_status status;
	char *text;

	status = request_name("NAME", name, fail);
	if (status == NSGATE_STATUS_OK)
		status = file_read(file, NSGATE_POLICY_BYTES_MAX, &text, &query.length, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	if (query.length > NSGATE_POLICY_BYTES_MAX) {
		free(text);
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "%s: larger than the %d bytes of the largest policy; split it",
				   file, NSGATE_POLICY_BYTES_MAX);
	}

	snprintf(path, sizeof(path), "/v1/policies/%s", name);
	query.body = text;
	status = query_document(ctl, &query, &answer, fail);
	free(text);
	if (status != NSGATE_STATUS_OK)
		return status;
	if (!ctl->json)
		printf("policy %s is stored and in force\n", name);
	else if (answer != NULL)
		document_print(ctl, answer);
	else
		printf("{\"schema\":1,\"name\":\"%s\"}\n", name);
	json_object_put(answer);
	return status;
}

/* Without --json the bytes are printed as they are stored: the layout is its author's. */
int ctl_policy_get(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	const char *name = args->operands[0];
	struct json_object *document = NULL;
	struct http_answer answer = {0};
	char path[256];
	struct query query = {.method = "GET", .path = path};
	enum nsgate_status status = request_name("NAME", name, fail);

	if (status != NSGATE_STATUS_OK)
		return status;
	snprintf(path, sizeof(path), "/v1/policies/%s", name);
	if (ctl->json) {
		status = query_document(ctl, &query, &document, fail);
		if (status == NSGATE_STATUS_OK)
			document_print(ctl, document);
		json_object_put(document);
		return status;
	}

	status = query_answer(ctl, &query, &answer, fail);
	if (status == NSGATE_STATUS_OK && problem_status(answer.code) != NSGATE_STATUS_OK)
		status = problem_read(answer.code, answer.body, answer.length, path, NULL, fail);
	else if (status == NSGATE_STATUS_OK && answer.length > 0)
		fwrite(answer.body, 1, answer.length, stdout);
	http_answer_free(&answer);
	return status;
}

int ctl_policy_ls(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	struct json_object *document = NULL;
	enum nsgate_status status = query_get(ctl, fail, &document, "/v1/policies");

	(void)args;
	if (status != NSGATE_STATUS_OK)
		return status;
	if (ctl->json)
		document_print(ctl, document);
	else if (document_length(document, "policies") == 0)
		fprintf(stderr, "there is no policy; nsgatectl policy set NAME FILE stores one\n");
	else if (!render_policies(document, stdout, ctl->colour))
		status = failure_set(fail, NSGATE_STATUS_FAILED, "out of memory; use --json");
	json_object_put(document);
	return status;
}

int ctl_policy_rm(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	const char *name = args->operands[0];
	struct json_object *answer = NULL;
	char path[256];
	struct query query = {.method = "DELETE", .path = path};
	enum nsgate_status status = request_name("NAME", name, fail);

	if (status != NSGATE_STATUS_OK)
		return status;
	snprintf(path, sizeof(path), "/v1/policies/%s%s", name,
		 command_given(args, "force") ? "?force=1" : "");
	status = query_document(ctl, &query, &answer, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	if (!ctl->json)
		printf("removed policy %s\n", name);
	else if (answer != NULL)
		document_print(ctl, answer);
	else
		printf("{\"schema\":1,\"removed\":\"%s\"}\n", name);
	json_object_put(answer);
	return status;
}

/* With --json it is what it is without: the schema is JSON. */
int ctl_schema(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	struct json_object *schema;
	int err;

	(void)args;
	if (!ctl->json) {
		fputs(policy_schema_json, stdout);
		return NSGATE_STATUS_OK;
	}
	err = document_parse(policy_schema_json, strlen(policy_schema_json), &schema);
	if (err != 0)
		return failure_set(fail, NSGATE_STATUS_FAILED, "the schema built in: %s",
				   document_problem(err));
	document_print(ctl, schema);
	json_object_put(schema);
	return NSGATE_STATUS_OK;
}
