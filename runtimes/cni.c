// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lib/cni/nsgate: the CNI plugin. Named in a network's "plugins" after the one that makes the
 * interface, it puts the container under the network's policy before its first process starts.
 *
 * Theory of Operation
 *
 * ADD hands the container's network namespace to the broker, which has it under its policy when it
 * answers; then the result of the plugin before is passed on as it is. DEL lets go when the last
 * interface of the container does (cni_state.h).
 *
 * DEL and the broker. A container runtime that cannot delete a network keeps the container's
 * addresses, and asks again and again; and the plugins run in reverse, so this one's failure would
 * keep bridge from releasing anything. So DEL succeeds when the broker or the agent is away: the
 * rules are the namespace's and go with it, as the broker notices by itself once it is back. What
 * it could not say is left as an empty directory, which the next ADD or GC acts on. Until then the
 * namespace, should something live on in it, is judged by its policy: closed is closed.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "runtimes/cni_request.h"
#include "runtimes/cni_state.h"
#include "ctl/ctl.h"
#include "client/dial.h"
#include "client/document.h"
#include "ipc.h"
#include "client/patience.h"
#include "client/query.h"
#include "queue_number.h"
#include "client/request.h"
#include "client/target.h"

#define PROGRAM "nsgate"
#define ASK_ID 1
#define ANSWERS_MS 20000 /* for all that is asked: less than a runtime waits for us */
#define LABEL_NETWORK "io.nsgate.network"
#define LABEL_POD "io.nsgate.pod"

static void print(struct json_object *document)
{
	printf("%s\n", json_object_to_json_string_ext(document, JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void note(const char *container, const char *text)
{
	fprintf(stderr, PROGRAM ": container %s: %s\n", container, text);
}

/* ---- what is attached ---- */

/* The namespace attached for a container, as the agent tells it. NOT_FOUND: none. */
static enum nsgate_status look_up(const struct cni_request *request, const char *container,
				  struct json_object **ret, struct failure *fail)
{
	const struct ctl ctl = {.runtime_dir = request->runtime_dir};
	char name[NSGATE_NAME_MAX];

	cni_request_name(container, name);
	return query_get(&ctl, fail, ret, "/v1/namespaces/%s", name);
}

/* Was it this plugin that attached it, for that container? People may use the same name. */
static bool is_ours(struct json_object *found, const char *container)
{
	struct json_object *labels = document_find(found, "labels"), *label = NULL;

	return json_object_object_get_ex(labels, LABEL_NETWORK, NULL) &&
	       json_object_object_get_ex(labels, NSGATE_LABEL_CONTAINER, &label) &&
	       strcmp(json_object_get_string(label), container) == 0;
}

/* Where the agent cannot be asked whose it is, the name counts. */
static enum nsgate_status detach(const struct cni_request *request, const char *container,
				 struct failure *fail)
{
	struct nsgate_msg_detach message = {.name = ""};
	struct json_object *found = NULL;
	enum nsgate_status status = look_up(request, container, &found, fail);
	const bool foreign = status == NSGATE_STATUS_OK && !is_ours(found, container);

	json_object_put(found);
	if (foreign || status == NSGATE_STATUS_NOT_FOUND)
		return NSGATE_STATUS_OK;
	ipc_header(&message.header, NSGATE_MSG_DETACH, ASK_ID);
	cni_request_name(container, message.name);
	status = dial_once(request->runtime_dir, &message.header, NULL, 0, fail);
	return status == NSGATE_STATUS_NOT_FOUND ? NSGATE_STATUS_OK : status;
}

static bool is_netns(struct json_object *found, const char *netns)
{
	struct stat st;

	return stat(netns, &st) == 0 && document_count(found, "netns.inode") == st.st_ino;
}

/* ---- ADD ---- */

static enum cni_code open_netns(const struct cni_request *request, struct target *target,
				int *ret_fd, struct cni_error *error)
{
	char text[sizeof("path:") + NSGATE_TARGET_MAX];
	struct failure fail = {.text = ""};

	snprintf(text, sizeof(text), "path:%s", request->netns);
	if (target_parse(text, target, &fail) == NSGATE_STATUS_OK &&
	    target_open(target, ret_fd, &fail) == NSGATE_STATUS_OK)
		return CNI_CODE_OK;
	return cni_error_set(error, CNI_CODE_ENVIRONMENT, "CNI_NETNS: %s", fail.text);
}

static void add_label(struct nsgate_msg_attach *message, const char *key, int length,
		      const char *value)
{
	char label[NSGATE_LABELS_MAX];
	struct failure ignored = {.text = ""};

	/* One that does not fit is for people, and no reason to keep a container from starting. */
	if (snprintf(label, sizeof(label), "%s=%.*s", key, length, value) < (int)sizeof(label))
		(void)request_add_label(message->labels, label, &ignored);
}

static void add_labels(const struct cni_request *request, struct nsgate_msg_attach *message)
{
	int space_length, pod_length;
	const char *space = cni_request_arg(request, "K8S_POD_NAMESPACE", &space_length);
	const char *pod = cni_request_arg(request, "K8S_POD_NAME", &pod_length);
	char both[NSGATE_LABELS_MAX];

	add_label(message, NSGATE_LABEL_CONTAINER, (int)strlen(request->container),
		  request->container);
	add_label(message, LABEL_NETWORK, (int)strlen(request->network), request->network);
	if (!space || !pod)
		return;
	snprintf(both, sizeof(both), "%.*s/%.*s", space_length, space, pod_length, pod);
	add_label(message, LABEL_POD, (int)strlen(both), both);
}

static enum cni_code attach(const struct cni_request *request, struct cni_error *error)
{
	struct nsgate_msg_attach message = {.queue_first = queue_number_choose(1, 0),
					    .queue_count = 1};
	struct failure fail = {.text = ""};
	enum nsgate_status status;
	struct target target;
	enum cni_code code;
	int fd = -1;

	code = open_netns(request, &target, &fd, error);
	if (code)
		return code;
	ipc_header(&message.header, NSGATE_MSG_ATTACH, ASK_ID);
	message.target_kind = target.kind;
	memcpy(message.target, target.text, sizeof(message.target));
	cni_request_name(request->container, message.name);
	snprintf(message.policy, sizeof(message.policy), "%s", request->policy);
	add_labels(request, &message);
	status = dial_once(request->runtime_dir, &message.header, &fd, 1, &fail);
	fd_close(&fd);
	return status == NSGATE_STATUS_OK ? CNI_CODE_OK : cni_error_take(error, status, &fail);
}

/*
 * Perhaps the container was added before, or a DEL left something behind: is it attached as it
 * should be? What is attached under its name and leads elsewhere is of a container that is no more.
 */
static enum cni_code take_stock(const struct cni_request *request, const struct cni_state *state,
				bool *ret_attached, struct cni_error *error)
{
	struct json_object *found = NULL;
	struct failure fail = {.text = ""};
	char policy[NSGATE_NAME_MAX], ignored[NSGATE_NAME_MAX];
	const unsigned int noted = cni_state_count(state, "", "", policy);
	const unsigned int others =
		cni_state_count(state, request->network, request->ifname, ignored);
	enum nsgate_status status = look_up(request, request->container, &found, &fail);
	bool same;

	*ret_attached = false;
	if (status == NSGATE_STATUS_NOT_FOUND)
		return CNI_CODE_OK;
	if (status != NSGATE_STATUS_OK)
		return cni_error_take(error, status, &fail);
	same = is_netns(found, request->netns);
	json_object_put(found);
	*ret_attached = same && noted > 0 && strcmp(policy, request->policy) == 0;
	if (*ret_attached)
		return CNI_CODE_OK;
	if (same && others > 0)
		return cni_error_set(error, CNI_CODE_CONFIG,
				     "network %s asks for policy %s, but another network of the "
				     "container has put it under %s: a container has one policy, "
				     "name the same in both",
				     request->network, request->policy, policy);
	status = detach(request, request->container, &fail);
	return status == NSGATE_STATUS_OK ? CNI_CODE_OK : cni_error_take(error, status, &fail);
}

static enum cni_code add_locked(const struct cni_request *request, const struct cni_state *state,
				struct cni_error *error)
{
	bool attached;
	enum cni_code code = take_stock(request, state, &attached, error);

	if (code)
		return code;
	code = cni_state_put(state, request->network, request->ifname, request->policy, error);
	if (code || attached)
		return code;
	code = attach(request, error);
	/* Without an answer it may have come to be: then there is something for DEL to do. */
	if (code && code != CNI_CODE_AGAIN)
		(void)cni_state_drop(state, request->network, request->ifname, error);
	return code;
}

/* Remove the directory where nothing is noted in it. */
static void close_or_remove(struct cni_state *state)
{
	char ignored[NSGATE_NAME_MAX];

	if (state->dir >= 0 && cni_state_count(state, "", "", ignored) == 0)
		cni_state_remove(state);
	else
		cni_state_close(state);
}

static enum cni_code do_add(const struct cni_request *request, struct cni_error *error)
{
	struct cni_state state = CNI_STATE_NONE;
	enum cni_code code = CNI_CODE_OK;

	if (request->policy) {
		code = cni_state_open(request->runtime_dir, request->container, true, &state,
				      error);
		if (!code)
			code = add_locked(request, &state, error);
		close_or_remove(&state);
	}
	if (code)
		return code;
	if (!json_object_object_get_ex(request->previous, "cniVersion", NULL))
		json_object_object_add(request->previous, "cniVersion",
				       json_object_new_string(request->version));
	print(request->previous);
	return CNI_CODE_OK;
}

/* ---- DEL and GC ---- */

/*
 * Let go of a container of which nothing is noted any more, and remove its directory.
 * Return: OK; AGAIN and the directory stays where a daemon is away; REFUSED.
 */
static enum cni_code let_go(const struct cni_request *request, struct cni_state *state,
			    struct cni_error *error)
{
	struct failure fail = {.text = ""};
	enum nsgate_status status = detach(request, state->container, &fail);

	if (status == NSGATE_STATUS_OK) {
		cni_state_remove(state);
		return CNI_CODE_OK;
	}
	cni_state_close(state);
	return cni_error_take(error, status, &fail);
}

static enum cni_code do_del(const struct cni_request *request, struct cni_error *error)
{
	struct cni_state state = CNI_STATE_NONE;
	char ignored[NSGATE_NAME_MAX];
	enum cni_code code =
		cni_state_open(request->runtime_dir, request->container, false, &state, error);

	if (!code && state.dir >= 0)
		code = cni_state_drop(&state, request->network, request->ifname, error);
	if (code || state.dir < 0 || cni_state_count(&state, "", "", ignored) > 0) {
		cni_state_close(&state);
		return code;
	}
	code = let_go(request, &state, error);
	if (code == CNI_CODE_AGAIN) {
		note(request->container, error->details);
		return CNI_CODE_OK;
	}
	return code;
}

static bool is_valid(const struct cni_request *request, const char *container, const char *ifname)
{
	const size_t count = request->valid ? json_object_array_length(request->valid) : 0;

	for (size_t i = 0; i < count; i++) {
		struct json_object *entry = json_object_array_get_idx(request->valid, i);

		if (strcmp(document_text(entry, "containerID", ""), container) == 0 &&
		    strcmp(document_text(entry, "ifname", ""), ifname) == 0)
			return true;
	}
	return false;
}

struct collection {
	const struct cni_request *request;
	struct cni_error *error;
};

static void drop_stale(const struct cni_state *state, const char *ifname, void *context)
{
	const struct collection *collection = context;
	const struct cni_request *request = collection->request;

	if (!is_valid(request, state->container, ifname))
		(void)cni_state_drop(state, request->network, ifname, collection->error);
}

/* Each goes on where another failed. Return: the worst that is to be told. */
static enum cni_code collect(const struct cni_request *request, const char *container,
			     struct cni_error *error)
{
	struct collection collection = {request, error};
	struct cni_state state = CNI_STATE_NONE;
	char ignored[NSGATE_NAME_MAX];
	enum cni_code code = cni_state_open(request->runtime_dir, container, false, &state, error);

	if (code)
		return code;
	cni_state_each(&state, request->network, drop_stale, &collection);
	if (state.dir >= 0 && cni_state_count(&state, "", "", ignored) == 0)
		return let_go(request, &state, error);
	cni_state_close(&state);
	return error->code;
}

static enum cni_code do_gc(const struct cni_request *request, struct cni_error *error)
{
	DIR *containers = cni_state_containers(request->runtime_dir);
	const struct dirent *entry;

	while (containers && (entry = readdir(containers)))
		if (entry->d_name[0] != '.')
			(void)collect(request, entry->d_name, error);
	if (containers)
		closedir(containers);
	return error->code;
}

/* ---- CHECK ---- */

static enum cni_code check_found(const struct cni_request *request, struct json_object *found,
				 struct cni_error *error)
{
	const char *state = document_text(found, "state", "");

	if (!is_netns(found, request->netns))
		return cni_error_set(error, CNI_CODE_NOT_ATTACHED,
				     "CNI_NETNS is %s, but another namespace is attached as %s: "
				     "remove the container and make it anew",
				     request->netns, document_text(found, "name", ""));
	if (strcmp(state, "attached") != 0)
		return cni_error_set(error, CNI_CODE_NOT_IN_FORCE, "%s is %s: %s",
				     document_text(found, "name", ""), state,
				     document_text(found, "reason", "its end was noticed"));
	return CNI_CODE_OK;
}

static enum cni_code not_attached(const struct cni_request *request, struct cni_error *error)
{
	return cni_error_set(error, CNI_CODE_NOT_ATTACHED,
			     "container %s is not attached for network %s and interface %s: "
			     "remove it and make it anew",
			     request->container, request->network, request->ifname);
}

static enum cni_code do_check(const struct cni_request *request, struct cni_error *error)
{
	struct cni_state state = CNI_STATE_NONE;
	struct json_object *found = NULL;
	struct failure fail = {.text = ""};
	enum nsgate_status status;
	enum cni_code code;
	struct stat st;
	bool noted;

	if (stat(request->netns, &st) < 0)
		return cni_error_set(error, CNI_CODE_NO_CONTAINER, "CNI_NETNS is %s: %s",
				     request->netns, strerror(errno));
	if (!request->policy)
		return CNI_CODE_OK;
	code = cni_state_open(request->runtime_dir, request->container, false, &state, error);
	noted = cni_state_has(&state, request->network, request->ifname);
	cni_state_close(&state);
	if (code)
		return code;
	if (!noted)
		return not_attached(request, error);
	status = look_up(request, request->container, &found, &fail);
	if (status == NSGATE_STATUS_NOT_FOUND)
		return not_attached(request, error);
	if (status != NSGATE_STATUS_OK)
		return cni_error_take(error, status, &fail);
	code = check_found(request, found, error);
	json_object_put(found);
	return code;
}

/* ---- STATUS and VERSION ---- */

static enum cni_code do_status(const struct cni_request *request, struct cni_error *error)
{
	struct nsgate_msg_plain probe;
	struct failure fail = {.text = ""};
	union nsgate_msg answer;
	enum nsgate_status status;
	int fd = -1;

	status = dial_broker(request->runtime_dir, &fd, &fail);
	if (status == NSGATE_STATUS_OK) {
		ipc_header(&probe.header, NSGATE_MSG_PROBE, ASK_ID);
		status = dial_ask(fd, &probe.header, NULL, 0, NSGATE_MSG_FEATURES, &answer, &fail);
		fd_close(&fd);
	}
	/* The agent judges on without a broker; without an agent, what is closed waits. */
	if (status != NSGATE_STATUS_OK)
		return cni_error_set(error, CNI_CODE_UNAVAILABLE, "%s", fail.text);
	if (!answer.features.agent)
		return cni_error_set(error, CNI_CODE_LIMITED,
				     "nsgate-agent is not connected to the broker at %s: start it, "
				     "or look at its log",
				     request->runtime_dir);
	return CNI_CODE_OK;
}

static enum cni_code do_version(const struct cni_request *request, struct cni_error *error)
{
	struct json_object *document = json_object_new_object();

	(void)error;
	json_object_object_add(document, "cniVersion", json_object_new_string(request->version));
	json_object_object_add(document, "supportedVersions", cni_versions());
	print(document);
	json_object_put(document);
	return CNI_CODE_OK;
}

static enum cni_code (*const operations[CNI_COMMAND_MAX])(const struct cni_request *request,
							  struct cni_error *error) = {
	[CNI_COMMAND_ADD] = do_add,	[CNI_COMMAND_DEL] = do_del,
	[CNI_COMMAND_CHECK] = do_check, [CNI_COMMAND_STATUS] = do_status,
	[CNI_COMMAND_GC] = do_gc,	[CNI_COMMAND_VERSION] = do_version,
};

static bool print_about(int argc, char **argv)
{
	if (argc < 2)
		return false;
	if (strcmp(argv[1], "--version") == 0)
		printf(PROGRAM " CNI plugin " NSGATE_VERSION "\n");
	else
		printf("usage: container runtimes start this CNI plugin, with CNI_COMMAND and "
		       "others in the\nenvironment and a network configuration on the standard "
		       "input: see man nsgate-cni\n\n  --help, --version\n");
	return true;
}

int main(int argc, char **argv)
{
	struct cni_error error = {.code = CNI_CODE_OK};
	struct cni_request request = {.document = NULL};
	enum cni_code code;

	if (print_about(argc, argv))
		return 0;
	patience_deadline(ANSWERS_MS);
	code = cni_request_read(&request, &error);
	if (!code)
		code = operations[request.command](&request, &error);
	if (code)
		cni_error_print(&error, request.version);
	cni_request_free(&request);
	if (fflush(stdout) == 0)
		return code ? 1 : 0;
	fprintf(stderr, PROGRAM ": cannot write the result: %s\n", strerror(errno));
	return 1;
}
