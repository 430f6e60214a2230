// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libexec/nsgate/oci-hook: puts a container under its policy before its first process starts.
 *
 * Theory of Operation
 *
 * An OCI runtime runs it twice, with the container's state as JSON on the standard input: at
 * createRuntime, when the namespaces exist and the user's program does not run yet, and at
 * poststop. Which of the two it is, the state's `status` tells: runc says `creating` where crun
 * says `created`. What is asked for is in the annotations; without ours there is nothing to do.
 *
 * createRuntime: a pidfd of the container's first process goes to the broker, with the container's
 * id. A failure here is a container that does not start, and its reason goes to the standard error
 * and to syslog, as not every runtime shows the former.
 *
 * poststop: there is no pid any more. The broker knows by the id what to let go of; it has often
 * seen the process end by itself. So nothing to be found is as good as done, and a broker that is
 * away finds out when it comes back.
 */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include "client/annotations.h"
#include "client/dial.h"
#include "client/document.h"
#include "client/file.h"
#include "ipc.h"
#include "name.h"
#include "options.h"
#include "client/patience.h"
#include "queue_number.h"
#include "client/request.h"

#define PROGRAM "nsgate-oci-hook"
#define ASK_ID 1
#define STATE_BYTES_MAX (4 * 1024 * 1024)
#define SHORT_ID 12 /* how many characters of an id podman and docker show */

/* The broker gives the agent 5 s for an attach; whoever waits for us should wait longer. */
#define ANSWER_MS 10000
#define ALARM_S 12

struct state {
	const char *id;
	const char *status;
	pid_t pid;
	struct annotations wanted;
};

static void print_help(void)
{
	printf("usage: " PROGRAM " [--runtime-dir DIR] <STATE\n"
	       "An OCI hook for the stages createRuntime and poststop; STATE is the container's "
	       "state.\n\n"
	       "  --runtime-dir DIR   where broker.sock is; default $NSGATE_RUNTIME_DIR "
	       "or " NSGATE_RUNTIME_DIR "\n"
	       "  --config-dir DIR    taken as by the other programs; not used\n"
	       "  --help, --version\n");
}

/* Return: -1 go on, or the exit code. */
static int parse(int argc, char **argv, const char **ret_runtime_dir, struct failure *fail)
{
	enum { OPTION_RUNTIME_DIR = 256, OPTION_CONFIG_DIR, OPTION_HELP, OPTION_VERSION };
	static const struct option options[] = {
		{"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
		{"config-dir", required_argument, NULL, OPTION_CONFIG_DIR},
		{"help", no_argument, NULL, OPTION_HELP},
		{"version", no_argument, NULL, OPTION_VERSION},
		{0},
	};
	const char *runtime_dir = NULL;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (option) {
		case OPTION_RUNTIME_DIR:
			runtime_dir = optarg;
			break;
		case OPTION_CONFIG_DIR:
			break;
		case OPTION_HELP:
			print_help();
			return NSGATE_STATUS_OK;
		case OPTION_VERSION:
			printf(PROGRAM " %s\n", NSGATE_VERSION);
			return NSGATE_STATUS_OK;
		default:
			return failure_set(fail, NSGATE_STATUS_USAGE,
					   "%s: no such option, or its value is missing; see "
					   "--help",
					   argv[optind - 1]);
		}
	}
	*ret_runtime_dir = options_runtime_dir(runtime_dir);
	return -1;
}

/* ---- the state ---- */

static enum nsgate_status read_state(struct json_object *document, struct state *ret,
				     struct failure *fail)
{
	ret->id = document_text(document, "id", "");
	ret->status = document_text(document, "status", "");
	ret->pid = document_pid(document, "pid");
	if (ret->id[0] == '\0' || ret->status[0] == '\0' || strlen(ret->id) >= NSGATE_ID_MAX)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "standard input: not the state of a container; this is an OCI "
				   "hook, see man nsgate-oci-hook");
	return annotations_read(document_find(document, "annotations"), &ret->wanted, fail);
}

/* ---- createRuntime ---- */

/* Does that process have the network namespace that we are in? */
static enum nsgate_status check_own_netns(const struct state *state, int pidfd,
					  struct failure *fail)
{
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};
	struct stat own, its;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", state->pid);
	if (stat("/proc/self/ns/net", &own) < 0 || stat(path, &its) < 0)
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "%s: %s; the hook needs /proc, and the rights of the runtime",
				   path, strerror(errno));
	if (poll(&ended, 1, 0) != 0) /* then that number was perhaps somebody else's */
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "process %d has ended before it could be attached", state->pid);
	if (own.st_dev == its.st_dev && own.st_ino == its.st_ino)
		return failure_set(
			fail, NSGATE_STATUS_REFUSED,
			"it has the host's network, where a policy would judge the host; "
			"give it a network of its own, or take the annotation " ANNOTATION_POLICY
			" away");
	return NSGATE_STATUS_OK;
}

static enum nsgate_status build(const struct state *state, struct nsgate_msg_attach *ret,
				struct failure *fail)
{
	char name[SHORT_ID + 1], label[sizeof(NSGATE_LABEL_CONTAINER) + NSGATE_ID_MAX];
	const char *chosen = state->wanted.name;
	enum nsgate_status status;

	ipc_header(&ret->header, NSGATE_MSG_ATTACH, ASK_ID);
	ret->target_kind = NSGATE_TARGET_PID;
	ret->flags = NSGATE_ATTACH_CONTAINER;
	ret->queue_first = queue_number_choose(1, 0);
	ret->queue_count = 1;
	snprintf(ret->target, sizeof(ret->target), "pid:%d (container %.*s)", state->pid, SHORT_ID,
		 state->id);
	snprintf(name, sizeof(name), "%.*s", SHORT_ID, state->id);
	if (chosen == NULL)
		chosen = name_valid(state->id) ? state->id : name;

	status = request_take_name(state->wanted.name != NULL
					   ? ANNOTATION_NAME
					   : "the container's id; add annotation " ANNOTATION_NAME,
				   chosen, ret->name, fail);
	if (status == NSGATE_STATUS_OK)
		status = request_take_name(ANNOTATION_POLICY, state->wanted.policy, ret->policy,
					   fail);
	snprintf(label, sizeof(label), NSGATE_LABEL_CONTAINER "=%s", state->id);
	if (status == NSGATE_STATUS_OK)
		status = request_add_label(ret->labels, label, fail);
	return status;
}

static enum nsgate_status attach(const char *runtime_dir, const struct state *state,
				 struct failure *fail)
{
	struct nsgate_msg_attach message = {0};
	enum nsgate_status status;
	int pidfd;

	if (state->pid == 0)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "status %s, but no pid; the hook is for the stage createRuntime",
				   state->status);
	pidfd = (int)syscall(SYS_pidfd_open, state->pid, 0);
	if (pidfd < 0)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND, "process %d: pidfd_open: %s",
				   state->pid, strerror(errno));
	status = check_own_netns(state, pidfd, fail);
	if (status == NSGATE_STATUS_OK)
		status = build(state, &message, fail);
	if (status == NSGATE_STATUS_OK)
		status = dial_once(runtime_dir, &message.header, &pidfd, 1, fail);
	fd_close(&pidfd);
	return status;
}

/* ---- poststop ---- */

static enum nsgate_status leave(const char *runtime_dir, const struct state *state,
				struct failure *fail)
{
	struct nsgate_msg_leave message = {0};
	enum nsgate_status status;

	ipc_header(&message.header, NSGATE_MSG_LEAVE, ASK_ID);
	memcpy(message.container, state->id, strlen(state->id));
	status = dial_once(runtime_dir, &message.header, NULL, 0, fail);
	if (status == NSGATE_STATUS_UNREACHABLE)
		syslog(LOG_WARNING, "container %s: %s", state->id, fail->text);
	return status == NSGATE_STATUS_NOT_FOUND || status == NSGATE_STATUS_UNREACHABLE
		       ? NSGATE_STATUS_OK
		       : status;
}

static enum nsgate_status act(const char *runtime_dir, const struct state *state,
			      struct failure *fail)
{
	static const struct {
		const char *status;
		enum nsgate_status (*act)(const char *runtime_dir, const struct state *state,
					  struct failure *fail);
	} stages[] = {{"creating", attach}, {"created", attach}, {"stopped", leave}};

	if (state->wanted.policy == NULL)
		return NSGATE_STATUS_OK;
	for (size_t i = 0; i < sizeof(stages) / sizeof(*stages); i++) {
		if (strcmp(state->status, stages[i].status) == 0)
			return stages[i].act(runtime_dir, state, fail);
	}
	return failure_set(fail, NSGATE_STATUS_USAGE,
			   "status %s: the hook is for the stages createRuntime and poststop",
			   state->status);
}

/* The last resort, where connecting or reading hangs. */
static void too_late(int number)
{
	static const char text[] = PROGRAM ": no answer in time; is nsgate-broker well?\n";

	(void)number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(NSGATE_STATUS_FAILED);
	_exit(NSGATE_STATUS_UNREACHABLE);
}

int main(int argc, char **argv)
{
	const struct sigaction on_alarm = {.sa_handler = too_late};
	struct json_object *document = NULL;
	struct failure fail = {0};
	struct state state = {.id = ""};
	const char *runtime_dir = NULL;
	char *text = NULL;
	size_t length = 0;
	int code;

	openlog(PROGRAM, LOG_PID, LOG_DAEMON);
	code = parse(argc, argv, &runtime_dir, &fail);
	if (code >= 0)
		goto out;
	sigaction(SIGALRM, &on_alarm, NULL);
	alarm(ALARM_S);
	patience_deadline(ANSWER_MS);
	code = file_read("-", STATE_BYTES_MAX, &text, &length, &fail);
	if (code == NSGATE_STATUS_OK) {
		const int err = document_parse(text, length, &document);

		if (err == 0 || err == -EINVAL)
			code = read_state(document, &state, &fail);
		else
			code = failure_set(&fail, NSGATE_STATUS_FAILED, "standard input: %s",
					   document_problem(err));
	}
	if (code == NSGATE_STATUS_OK)
		code = act(runtime_dir, &state, &fail);
out:
	if (code != NSGATE_STATUS_OK) {
		syslog(LOG_ERR, "container %s: %s", state.id, fail.text);
		failure_print(&fail, PROGRAM, stderr);
	}
	json_object_put(document);
	free(text);
	failure_free(&fail);
	return code;
}
