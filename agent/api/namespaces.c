// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/api/change.h"
#include "agent/api/json.h"
#include "agent/api/request.h"
#include "agent/json_writer.h"
#include "name.h"
#include "agent/ns/ns.h"
#include "agent/ns/policy.h"
#include "policy/policy.h"
#include "policy/json.h"
#include "policy/problems.h"
#include "agent/stats/stats.h"
#include "agent/store/store.h"

static enum MHD_Result no_such_namespace(struct api_request *request)
{
	return api_problem(request, MHD_HTTP_NOT_FOUND, "no-such-namespace",
			   "no namespace named \"%s\" is attached; attach it first", request->name);
}

enum MHD_Result api_get_namespaces(struct api_request *request)
{
	struct jw w;

	jw_init(&w, STATS_BYTES_MAX);
	jw_open(&w, NULL, '{');
	jw_uint(&w, "schema", 1);
	jw_open(&w, "namespaces", '[');
	for (const struct ns *ns = ns_first(); ns; ns = ns->next)
		api_write_ns(&w, ns);
	jw_close(&w, ']');
	jw_close(&w, '}');
	return api_answer_json(request, MHD_HTTP_OK, &w);
}

static enum MHD_Result answer_namespace(struct api_request *request)
{
	const struct ns *ns = ns_find(request->name);
	struct jw w;

	if (!ns)
		return no_such_namespace(request);
	jw_init(&w, STATS_BYTES_MAX);
	api_write_ns(&w, ns);
	return api_answer_json(request, MHD_HTTP_OK, &w);
}

enum MHD_Result api_get_namespace(struct api_request *request)
{
	return answer_namespace(request);
}

enum MHD_Result api_get_namespace_stats(struct api_request *request)
{
	struct ns *ns = ns_find(request->name);
	struct stats stats;
	struct jw w;

	if (!ns)
		return no_such_namespace(request);
	stats_read(ns, &stats);
	jw_init(&w, STATS_BYTES_MAX);
	stats_write(&w, NULL, ns, &stats);
	return api_answer_json(request, MHD_HTTP_OK, &w);
}

enum MHD_Result api_get_stats(struct api_request *request)
{
	struct jw w;

	jw_init(&w, STATS_BYTES_MAX);
	if (stats_write_all(&w) < 0)
		w.error = -ENOMEM;
	return api_answer_json(request, MHD_HTTP_OK, &w);
}

/* ---- rebinding ---- */

static enum MHD_Result answer_rebind(struct api_request *request, const struct ns_change *change)
{
	enum MHD_Result result;

	if (api_change_failed(request, change, "bound", &result))
		return result;
	return answer_namespace(request);
}

/* {"policy":"NAME"} and nothing else. */
static int read_binding(struct json_object *document, char ret[NSGATE_NAME_MAX],
			struct policy_problems *problems)
{
	static const struct policy_path top;
	const char *name = NULL;

	json_object_object_foreach (document, key, value) {
		struct policy_path path = {.length = 0};

		policy_path_key(&path, key, strlen(key));
		if (strcmp(key, "policy") != 0)
			policy_problem(problems, &path, "unknown key; \"policy\" is the only one");
		else if (!json_object_is_type(value, json_type_string))
			policy_problem(problems, &path, "must be a string, a policy's name");
		else
			name = json_object_get_string(value);
	}
	if (!json_object_object_get_ex(document, "policy", NULL))
		policy_problem(problems, &top, "the key \"policy\" is missing");
	if (problems->total > 0)
		return -EINVAL;
	if (!name || !name_valid(name))
		return -ENOENT;
	snprintf(ret, NSGATE_NAME_MAX, "%s", name);
	return 0;
}

static int parse_binding(const struct api_request *request, char ret[NSGATE_NAME_MAX],
			 struct policy_problems *problems)
{
	struct json_object *document = NULL;
	int err = policy_json_read(request->body, request->body_length, &document, problems);

	if (!err && problems->total > 0)
		err = -EINVAL;
	if (!err)
		err = read_binding(document, ret, problems);
	json_object_put(document);
	return err;
}

enum MHD_Result api_put_namespace_policy(struct api_request *request)
{
	struct policy_problems problems = {.count = 0};
	struct ns *ns = ns_find(request->name);
	const struct store_entry *entry = NULL;
	char policy[NSGATE_NAME_MAX] = "";
	struct ns_change *change;
	enum MHD_Result result;
	int err;

	if (!ns)
		return no_such_namespace(request);
	err = parse_binding(request, policy, &problems);
	if (err == -EINVAL) {
		result = api_problem_list(request, "not a binding: {\"policy\":\"NAME\"}",
					  &problems);
		policy_problems_free(&problems);
		return result;
	}
	policy_problems_free(&problems);
	if (err == -ENOMEM)
		return MHD_NO;
	if (!err)
		entry = store_find(policy);
	if (!entry || !entry->policy)
		return api_problem(request, MHD_HTTP_NOT_FOUND, "no-such-policy",
				   "there is no good policy of that name: store it first");
	change = api_change_begin(request, answer_rebind);
	if (!change)
		return MHD_NO;
	ns_rebind(ns, policy, entry->policy, change);
	return api_change_wait(request);
}

/* ---- the agent itself ---- */

enum MHD_Result api_get_health(struct api_request *request)
{
	static const char text[] = "{\"schema\":1,\"status\":\"ok\"}";

	return api_answer_copy(request, MHD_HTTP_OK, text, sizeof(text) - 1, NULL);
}
