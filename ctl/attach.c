// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Attaching and detaching. nsgatectl opens the namespace itself, so that it is the caller's own
 * rights that decide whether it may, and hands the descriptor to the broker.
 */
#include "ctl/attach.h"

#include <json-c/json.h>
#include <string.h>

#include "ctl/ctl.h"
#include "client/dial.h"
#include "client/document.h"
#include "ipc.h"
#include "client/query.h"
#include "client/request.h"
#include "client/target.h"

#define ASK_ID 1

static const struct {
	const char *option;
	enum nsgate_attach_flag flag;
} flags[] = {
	{"pending", NSGATE_ATTACH_PENDING},
	{"allow-host", NSGATE_ATTACH_ALLOW_HOST},
	{"replace", NSGATE_ATTACH_REPLACE},
};

enum nsgate_status attach_build(const struct command_args *args, const struct target *target,
				struct nsgate_msg_attach *ret, struct failure *fail)
{
	const char *name = command_value(args, "name");
	const char *policy = command_value(args, "policy");
	enum nsgate_status status;

	ipc_header(&ret->header, NSGATE_MSG_ATTACH, ASK_ID);
	ret->target_kind = target->kind;
	memcpy(ret->target, target->text, sizeof(ret->target));
	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		if (command_given(args, flags[i].option))
			ret->flags |= flags[i].flag;
	}

	status =
		request_take_name(name != NULL ? "--name" : "TARGET gives no good name; use --name",
				  name != NULL ? name : target->name, ret->name, fail);
	if (status == NSGATE_STATUS_OK)
		status = request_take_name("--policy", policy != NULL ? policy : "default",
					   ret->policy, fail);
	if (status == NSGATE_STATUS_OK)
		status = request_take_queues(command_value(args, "queue"),
					     command_value(args, "queues"), ret, fail);
	for (unsigned int i = 0; status == NSGATE_STATUS_OK && i < args->given_count; i++) {
		if (strcmp(args->given[i].option->name, "label") == 0)
			status = request_add_label(ret->labels, args->given[i].value, fail);
	}
	return status;
}

/* It is attached; what the agent says of it is worth a note but no failure if it can't be had. */
static void print_attached(const struct ctl *ctl, const struct nsgate_msg_attach *message)
{
	struct json_object *found = NULL;
	struct failure fail = {0};

	if (!ctl->json) {
		printf("attached %s: policy %s, queue %u", message->name, message->policy,
		       message->queue_first);
		if (message->queue_count > 1)
			printf("-%u", message->queue_first + message->queue_count - 1U);
		printf("\n");
		return;
	}
	if (query_get(ctl, &fail, &found, "/v1/namespaces/%s", message->name) != NSGATE_STATUS_OK) {
		failure_print(&fail, "nsgatectl: attached, but", stderr);
		found = json_object_new_object();
		json_object_object_add(found, "schema", json_object_new_int(1));
		json_object_object_add(found, "name", json_object_new_string(message->name));
		json_object_object_add(found, "policy", json_object_new_string(message->policy));
	}
	document_print(ctl, found);
	json_object_put(found);
	failure_free(&fail);
}

int ctl_attach(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	struct nsgate_msg_attach message = {0};
	enum nsgate_status status;
	struct target target;
	int fd;

	status = target_parse(args->operands[0], &target, fail);
	if (status == NSGATE_STATUS_OK)
		status = attach_build(args, &target, &message, fail);
	if (status == NSGATE_STATUS_OK)
		status = target_open(&target, &fd, fail);
	if (status != NSGATE_STATUS_OK)
		return status;

	status = dial_once(ctl->runtime_dir, &message.header, &fd, 1, fail);
	fd_close(&fd);
	if (status == NSGATE_STATUS_OK)
		print_attached(ctl, &message);
	return status;
}

static int detach(const struct ctl *ctl, const char *name, struct failure *fail)
{
	struct nsgate_msg_detach message = {0};
	enum nsgate_status status;
	struct json_object *done;

	ipc_header(&message.header, NSGATE_MSG_DETACH, ASK_ID);
	status = request_take_name("NAME", name, message.name, fail);
	if (status == NSGATE_STATUS_OK)
		status = dial_once(ctl->runtime_dir, &message.header, NULL, 0, fail);
	if (status != NSGATE_STATUS_OK)
		return status;

	if (!ctl->json) {
		printf("detached %s\n", message.name);
		return status;
	}
	done = json_object_new_object();
	json_object_object_add(done, "schema", json_object_new_int(1));
	json_object_object_add(done, "detached", json_object_new_string(message.name));
	document_print(ctl, done);
	json_object_put(done);
	return status;
}

/*
 * One that goes by itself meanwhile is as good as detached; one that cannot be detached does not
 * keep the others. Return: OK, or the status of the first that failed, with its reason in `fail`.
 */
static int detach_all(const struct ctl *ctl, struct failure *fail)
{
	struct json_object *document = NULL, *list;
	int status = query_get(ctl, fail, &document, "/v1/namespaces");

	list = document_find(document, "namespaces");
	for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
		struct json_object *name =
			document_find(json_object_array_get_idx(list, i), "name");
		struct failure why = {0};
		int done = detach(ctl, json_object_get_string(name), &why);

		if (done == NSGATE_STATUS_OK || done == NSGATE_STATUS_NOT_FOUND ||
		    status != NSGATE_STATUS_OK) {
			failure_free(&why);
			continue;
		}
		status = done;
		*fail = why;
		if (done == NSGATE_STATUS_UNREACHABLE)
			break; /* nor would it for the others */
	}
	json_object_put(document);
	return status;
}

int ctl_detach(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	bool all = command_given(args, "all");

	if (all == (args->operand_count == 1))
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "detach: it takes the NAME of a namespace, or --all");
	if (all)
		return detach_all(ctl, fail);
	return detach(ctl, args->operands[0], fail);
}
