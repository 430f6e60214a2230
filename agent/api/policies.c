// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/api/change.h"
#include "agent/api/json.h"
#include "agent/api/request.h"
#include "agent/json_writer.h"
#include "agent/ns/ns.h"
#include "agent/ns/policy.h"
#include "policy/policy.h"
#include "agent/store/store.h"

#define LIST_BYTES_MAX (16 * 1024 * 1024)

static enum MHD_Result no_such_policy(struct api_request *request)
{
	return api_problem(
		request, MHD_HTTP_NOT_FOUND, "no-such-policy",
		"there is no policy named \"%s\": GET /v1/policies lists those there are",
		request->name);
}

static enum MHD_Result bad_document(struct api_request *request, struct policy_problems *problems)
{
	char detail[128];
	enum MHD_Result result;

	snprintf(detail, sizeof(detail), "not a valid policy: %zu problem%s", problems->total,
		 problems->total == 1 ? "" : "s");
	result = api_problem_list(request, detail, problems);
	policy_problems_free(problems);
	return result;
}

/* ---- reading ---- */

static void write_info(struct jw *w, const struct policy_info *info)
{
	jw_string(w, "mode", info->audit ? "audit" : "enforce");
	api_write_hooks(w, "hooks", info->hooks);
	jw_bool(w, "offload", info->offload);
	jw_bool(w, "strict", info->strict);
	jw_uint(w, "rules", info->rule_count);
}

static void write_entry(struct jw *w, const struct store_entry *entry)
{
	jw_open(w, NULL, '{');
	jw_string(w, "name", entry->name);
	jw_uint(w, "revision", entry->revision);
	jw_uint(w, "namespaces", ns_count_policy(entry->name));
	if (entry->policy)
		write_info(w, policy_info(entry->policy));
	if (entry->problem[0])
		jw_string(w, "problem", entry->problem);
	jw_close(w, '}');
}

enum MHD_Result api_get_policies(struct api_request *request)
{
	const char *first_refused;
	const size_t refused = store_refused(&first_refused);
	struct jw w;

	jw_init(&w, LIST_BYTES_MAX);
	jw_open(&w, NULL, '{');
	jw_uint(&w, "schema", 1);
	if (refused > 0) {
		jw_open(&w, "refused", '{');
		jw_uint(&w, "count", refused);
		jw_string(&w, "first", first_refused);
		jw_close(&w, '}');
	}
	jw_open(&w, "policies", '[');
	for (const struct store_entry *entry = store_first(); entry; entry = entry->next)
		write_entry(&w, entry);
	jw_close(&w, ']');
	jw_close(&w, '}');
	return api_answer_json(request, MHD_HTTP_OK, &w);
}

enum MHD_Result api_get_policy(struct api_request *request)
{
	const struct store_entry *entry = store_find(request->name);
	const char *source;
	size_t length;

	if (!entry)
		return no_such_policy(request);
	if (!entry->policy)
		return api_problem(request, MHD_HTTP_NOT_FOUND, "policy-bad",
				   "the file of \"%s\" never was good: %s", request->name,
				   entry->problem);
	source = policy_source(entry->policy, &length);
	return api_answer_copy(request, MHD_HTTP_OK, source, length, NULL);
}

enum MHD_Result api_check_policy(struct api_request *request)
{
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;
	const int err = policy_compile(request->body, request->body_length, &policy, &problems);
	struct jw w;

	if (err == -EINVAL)
		return bad_document(request, &problems);
	policy_problems_free(&problems);
	if (err)
		return MHD_NO;
	jw_init(&w, LIST_BYTES_MAX);
	jw_open(&w, NULL, '{');
	jw_uint(&w, "schema", 1);
	jw_bool(&w, "ok", true);
	jw_string(&w, "name", policy_info(policy)->name);
	write_info(&w, policy_info(policy));
	jw_close(&w, '}');
	policy_unref(policy);
	return api_answer_json(request, MHD_HTTP_OK, &w);
}

/* ---- changing ---- */

static enum MHD_Result write_failed(struct api_request *request, int error)
{
	switch (error) {
	case -EROFS:
	case -EACCES:
	case -EPERM:
		return api_problem(request, MHD_HTTP_CONFLICT, "policies-read-only",
				   "the directory of policies is read-only for the agent (%s); "
				   "change the file where it comes from",
				   strerror(-error));
	case -ENOSPC:
	case -EDQUOT:
		return api_problem(request, MHD_HTTP_INSUFFICIENT_STORAGE, "no-space",
				   "nothing was changed: %s", strerror(-error));
	case -E2BIG:
		return api_problem(request, MHD_HTTP_INSUFFICIENT_STORAGE, "too-many-policies",
				   "nothing was changed: there are %d policies already, the most "
				   "there can be; remove one first",
				   STORE_POLICIES_MAX);
	default:
		return api_problem(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "write-failed",
				   "nothing was changed: %s", strerror(-error));
	}
}

static enum MHD_Result answer_document(struct api_request *request, const struct ns_change *change,
				       unsigned int status)
{
	const struct store_entry *entry = store_find(request->name);
	char generation[16];
	enum MHD_Result result;
	const char *source;
	size_t length;

	if (api_change_failed(request, change, "the policy is stored", &result))
		return result;
	if (!entry || !entry->policy)
		return api_problem(request, MHD_HTTP_CONFLICT, "policy-gone",
				   "the policy was removed again meanwhile");
	snprintf(generation, sizeof(generation), "%u", change->generation);
	source = policy_source(entry->policy, &length);
	return api_answer_copy(request, status, source, length,
			       &(struct api_header){"Nsgate-Generation", generation});
}

static enum MHD_Result answer_created(struct api_request *request, const struct ns_change *change)
{
	return answer_document(request, change, MHD_HTTP_CREATED);
}

static enum MHD_Result answer_replaced(struct api_request *request, const struct ns_change *change)
{
	return answer_document(request, change, MHD_HTTP_OK);
}

enum MHD_Result api_put_policy(struct api_request *request)
{
	struct policy_problems problems = {.count = 0};
	struct ns_change *change;
	int created;

	created = store_put(request->name, request->body, request->body_length, &problems);
	if (created == -EINVAL)
		return bad_document(request, &problems);
	policy_problems_free(&problems);
	if (created < 0)
		return write_failed(request, created);
	change = api_change_begin(request, created ? answer_created : answer_replaced);
	/* Without a change to wait for, the policy must come into force all the same. */
	ns_policy_changed(request->name, store_find(request->name)->policy, change);
	return change ? api_change_wait(request) : MHD_NO;
}

static bool is_forced(const struct api_request *request)
{
	const char *force = api_query(request, "force");

	return force && (strcmp(force, "true") == 0 || strcmp(force, "1") == 0);
}

static enum MHD_Result answer_deleted(struct api_request *request, const struct ns_change *change)
{
	enum MHD_Result result;

	if (api_change_failed(request, change, "the policy is removed", &result))
		return result;
	return api_answer_empty(request, NULL);
}

enum MHD_Result api_delete_policy(struct api_request *request)
{
	const size_t users = ns_count_policy(request->name);
	struct ns_change *change;
	int err;

	if (!store_find(request->name))
		return no_such_policy(request);
	if (users > 0 && !is_forced(request))
		return api_problem(request, MHD_HTTP_CONFLICT, "policy-in-use",
				   "%zu namespace%s bound to \"%s\"; bind to another policy "
				   "first, or force it",
				   users, users == 1 ? " is" : "s are", request->name);
	err = store_delete(request->name);
	if (err == -ENOENT)
		return no_such_policy(request);
	if (err)
		return write_failed(request, err);
	change = api_change_begin(request, answer_deleted);
	ns_policy_changed(request->name, NULL, change);
	return change ? api_change_wait(request) : MHD_NO;
}
