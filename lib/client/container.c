// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/container.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "client/child.h"
#include "client/document.h"
#include "client/http.h"
#include "client/patience.h"

#define DOCKER_SOCKET "/var/run/docker.sock"
#define PODMAN_TIMEOUT_MS 30000
#define PODMAN_BYTES_MAX ((size_t)4 * 1024 * 1024)

static enum nsgate_status copy(struct json_object *document, const char *path, char *ret,
			       size_t size, const char *what, struct failure *fail)
{
	const char *text = document_text(document, path, "");

	if (text[0] == '/') /* docker's names begin so */
		text++;
	if (text[0] == '\0' || strlen(text) >= size)
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "%s: no good %s in what the engine says of it; use pid:N", what,
				   path);
	snprintf(ret, size, "%s", text);
	return NSGATE_STATUS_OK;
}

static enum nsgate_status parse(const char *whose, const char *text, size_t length,
				struct json_object **ret, struct failure *fail)
{
	int err = document_parse(text, length, ret);

	return err == 0 ? NSGATE_STATUS_OK
			: failure_set(fail, NSGATE_STATUS_FAILED, "%s: its answer: %s", whose,
				      document_problem(err));
}

/* Docker and podman use the same words. */
static enum nsgate_status read_document(struct json_object *document, const char *what,
					struct container *ret, struct failure *fail)
{
	struct container found = {.pid = document_pid(document, "State.Pid")};
	enum nsgate_status status;

	status = copy(document, "Id", found.id, sizeof(found.id), what, fail);
	if (status == NSGATE_STATUS_OK)
		status = copy(document, "Name", found.name, sizeof(found.name), what, fail);
	if (status == NSGATE_STATUS_OK)
		status = copy(document, "State.StartedAt", found.started, sizeof(found.started),
			      what, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	if (found.pid == 0)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "%s: it does not run (%s); start it first", what,
				   document_text(document, "State.Status", "no process"));
	*ret = found;
	return NSGATE_STATUS_OK;
}

/* ---- docker: its API ---- */

static enum nsgate_status docker_socket(const char **ret, struct failure *fail)
{
	const char *host = getenv("DOCKER_HOST");

	*ret = DOCKER_SOCKET;
	if (host == NULL || host[0] == '\0')
		return NSGATE_STATUS_OK;
	if (strncmp(host, "unix://", strlen("unix://")) != 0)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "DOCKER_HOST: %s is not on this machine; give unix:///PATH",
				   host);
	*ret = host + strlen("unix://");
	return NSGATE_STATUS_OK;
}

static enum nsgate_status docker_answer(const char *socket, const char *what,
					enum http_outcome outcome, const struct http_answer *answer,
					struct failure *fail)
{
	if (outcome == HTTP_OUTCOME_NOT_CONNECTED &&
	    (answer->error == EACCES || answer->error == EPERM))
		return failure_set(fail, NSGATE_STATUS_REFUSED,
				   "%s: permission denied; run as root", socket);
	if (outcome == HTTP_OUTCOME_NOT_CONNECTED)
		return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
				   "%s: %s; start docker, or say by DOCKER_HOST where it is",
				   socket, strerror(answer->error));
	if (outcome == HTTP_OUTCOME_TIMED_OUT)
		return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
				   "%s: docker does not answer; look at its log", socket);
	if (outcome != HTTP_OUTCOME_ANSWERED)
		return failure_set(fail, NSGATE_STATUS_FAILED, "%s: %s; is it docker's socket?",
				   socket, answer->text);
	if (answer->code == 404)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "%s: no such container; docker ps shows those that run", what);
	if (answer->code != 200)
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "%s: docker answers with HTTP status %d; look at its log", what,
				   answer->code);
	return NSGATE_STATUS_OK;
}

static enum nsgate_status look_up_docker(const char *name, const char *what, struct container *ret,
					 struct failure *fail)
{
	char path[NSGATE_ID_MAX + sizeof("/containers//json")];
	struct json_object *document = NULL;
	struct http_answer answer = {0};
	enum nsgate_status status;
	enum http_outcome outcome;
	const char *socket;

	status = docker_socket(&socket, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	snprintf(path, sizeof(path), "/containers/%s/json", name);
	outcome = http_ask(&(struct http_request){.socket_path = socket,
						  .method = "GET",
						  .path = path,
						  .timeout_ms = patience_ms()},
			   &answer);
	status = docker_answer(socket, what, outcome, &answer, fail);
	if (status == NSGATE_STATUS_OK)
		status = parse("docker", answer.body, answer.length, &document, fail);
	if (status == NSGATE_STATUS_OK)
		status = read_document(document, what, ret, fail);
	json_object_put(document);
	http_answer_free(&answer);
	return status;
}

/* ---- podman: its command, as it need not have a daemon ---- */

static enum nsgate_status podman_answer(const char *what, int err,
					const struct child_output *output, struct failure *fail)
{
	if (err == -ENOENT)
		return failure_set(fail, NSGATE_STATUS_UNREACHABLE,
				   "podman: no such program; install it, or put it into PATH");
	if (err != 0)
		return failure_set(fail, NSGATE_STATUS_FAILED, "podman container inspect: %s",
				   strerror(-err));
	if (WIFEXITED(output->status) && WEXITSTATUS(output->status) == 0)
		return NSGATE_STATUS_OK;
	if (strstr(output->complaint, "no such container") != NULL)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "%s: no such container; podman ps, as the same user, shows "
				   "those that run",
				   what);
	return failure_set(fail, NSGATE_STATUS_FAILED, "podman container inspect: %s",
			   output->complaint[0] != '\0' ? output->complaint
							: "it failed without a reason");
}

static enum nsgate_status look_up_podman(const char *name, const char *what, struct container *ret,
					 struct failure *fail)
{
	char id[NSGATE_ID_MAX];
	char *argv[] = {(char[]){"podman"},
			(char[]){"container"},
			(char[]){"inspect"},
			(char[]){"--"},
			id,
			NULL};
	struct json_object *list = NULL;
	struct child_output output;
	enum nsgate_status status;

	snprintf(id, sizeof(id), "%s", name);
	status = podman_answer(what, child_run(argv, PODMAN_BYTES_MAX, PODMAN_TIMEOUT_MS, &output),
			       &output, fail);
	if (status == NSGATE_STATUS_OK)
		status = parse("podman container inspect", output.text, output.length, &list, fail);
	if (status == NSGATE_STATUS_OK) {
		if (json_object_is_type(list, json_type_array) &&
		    json_object_array_length(list) == 1)
			status = read_document(json_object_array_get_idx(list, 0), what, ret, fail);
		else
			status = failure_set(fail, NSGATE_STATUS_FAILED,
					     "podman container inspect: not the document that was "
					     "expected; use pid:N");
	}
	json_object_put(list);
	free(output.text);
	return status;
}

/* ---- either ---- */

static const struct {
	const char *title;
	enum nsgate_status (*look_up)(const char *name, const char *what, struct container *ret,
				      struct failure *fail);
} engines[] = {
	[CONTAINER_ENGINE_DOCKER] = {"docker", look_up_docker},
	[CONTAINER_ENGINE_PODMAN] = {"podman", look_up_podman},
};

/* Names and ids of both engines are of these; none of them means anything in a URL. */
static bool name_good(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-";

	return name[0] != '\0' && strchr("_.-", name[0]) == NULL && strlen(name) < NSGATE_ID_MAX &&
	       name[strspn(name, allowed)] == '\0';
}

enum nsgate_status container_look_up(enum container_engine engine, const char *name,
				     struct container *ret, struct failure *fail)
{
	char what[NSGATE_ID_MAX + 16];

	if (!name_good(name))
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "%s:%s: not a container's name or id; %s ps shows them",
				   engines[engine].title, name, engines[engine].title);
	snprintf(what, sizeof(what), "%s:%s", engines[engine].title, name);
	return engines[engine].look_up(name, what, ret, fail);
}

bool container_same(const struct container *a, const struct container *b)
{
	return strcmp(a->id, b->id) == 0 && strcmp(a->started, b->started) == 0 && a->pid == b->pid;
}
