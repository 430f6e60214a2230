// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libexec/nsgate/nsgate-runc: an OCI runtime for Docker, which has no hooks of its own. It adds
 * nsgate's hook to the container's config.json on `create`, `run` and `restore` and becomes the
 * real runtime.
 *
 * Theory of Operation
 *
 * The command line is runc's, and goes to the real runtime as it came. All that is wanted of it is
 * the subcommand, the bundle and where to log: so the options before the subcommand that take a
 * value have to be known (a value must not pass for the subcommand); of those behind it only the
 * bundle's. Where one that is not known here has a value, and a container may be made, it is
 * refused: it would start without its policy.
 *
 * config.json is edited only where the annotations ask for nsgate, or --policy stands in for them.
 * Whatever goes wrong ends here with a reason, in the log that containerd reads too: a container
 * without its policy must not start.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/annotations.h"
#include "client/document.h"
#include "client/file.h"
#include "client/request.h"

#define PROGRAM "nsgate-runc"
#define HOOK_PROGRAM "oci-hook"
#define HOOK_TIMEOUT_S 15
#define CONFIG_BYTES_MAX (16 * 1024 * 1024)

struct shim {
	const char *runtime;	 /* the real one */
	const char *policy;	 /* for containers without annotations; NULL: none */
	const char *runtime_dir; /* for the hook; NULL: its default */
	char **arguments;	 /* for the real one, [0] its name */
	char hook[PATH_MAX];
};

/* What is needed of the runtime's command line; NULL: not given. */
struct call {
	const char *command;
	bool makes;    /* it makes a container */
	bool may_make; /* a word that would make one stands somewhere */
	bool unclear;  /* not a command that is known here: perhaps an option's value */
	const char *bundle;
	const char *log;
	bool log_json;
};

static void print_help(void)
{
	printf("usage: " PROGRAM " [--nsgate-OPTION=VALUE...] [RUNC-OPTION...] COMMAND ...\n"
	       "An OCI runtime that adds nsgate's hook to a container and runs the real "
	       "runtime.\n\n"
	       "  --nsgate-runtime=PATH     the real one; default $NSGATE_RUNC or runc\n"
	       "  --nsgate-policy=POLICY    for containers that have no "
	       "annotation " ANNOTATION_POLICY "\n"
	       "  --nsgate-runtime-dir=DIR  where broker.sock is, for the hook\n"
	       "  --nsgate-help, --nsgate-version\n");
}

/* ---- the command line ---- */

/* Is `word` the option --NAME or -NAME? @ret_value: behind its '=', or NULL. */
static bool is_option(const char *word, const char *name, const char **ret_value)
{
	size_t length = strlen(name);

	if (word[0] != '-')
		return false;
	word += word[1] == '-' ? 2 : 1;
	if (strncmp(word, name, length) != 0 || (word[length] != '\0' && word[length] != '='))
		return false;
	*ret_value = word[length] == '=' ? word + length + 1 : NULL;
	return true;
}

/* The value of an option that takes one; it may be the next word. */
static const char *value_of(char **words, int *at, const char *value)
{
	if (value == NULL && words[*at + 1] != NULL)
		value = words[++*at];
	return value;
}

static bool is_one_of(const char *word, const char *const *list)
{
	while (*list != NULL && strcmp(*list, word) != 0)
		list++;
	return *list != NULL;
}

static void parse_call(char **words, struct call *ret)
{
	static const char *const makers[] = {"create", "run", "restore", NULL};
	static const char *const known[] = {
		"create", "run",   "restore", "checkpoint", "delete",  "events", "exec", "features",
		"help",	  "init",  "kill",    "list",	    "mounts",  "pause",	 "ps",	 "resume",
		"spec",	  "start", "state",   "update",	    "version", NULL};
	static const char *const tells[] = {"--version", "-v", "--help", "-h", NULL};
	static const char *const takes_value[] = {"log",  "log-format", "root",
						  "criu", "rootless",	"cgroup-manager"};
	const char *value;
	int i;

	*ret = (struct call){0};
	for (i = 1; words[i] != NULL && words[i][0] == '-'; i++) {
		if (is_one_of(words[i], tells)) /* and does nothing else */
			return;
		for (size_t n = 0; n < sizeof(takes_value) / sizeof(*takes_value); n++) {
			if (!is_option(words[i], takes_value[n], &value))
				continue;
			value = value_of(words, &i, value);
			if (strcmp(takes_value[n], "log") == 0)
				ret->log = value;
			if (strcmp(takes_value[n], "log-format") == 0)
				ret->log_json = value != NULL && strcmp(value, "json") == 0;
			break;
		}
		if (words[i] == NULL)
			return;
	}
	ret->command = words[i];
	ret->makes = words[i] != NULL && is_one_of(words[i], makers);
	ret->unclear = words[i] != NULL && !is_one_of(words[i], known);
	for (; words[i] != NULL; i++) {
		ret->may_make |= is_one_of(words[i], makers);
		if (is_option(words[i], "bundle", &value) || is_option(words[i], "b", &value))
			ret->bundle = value_of(words, &i, value);
		if (words[i] == NULL)
			return;
	}
}

/* Our own options come first. Return: -1 go on, or the exit code. */
static int parse_own(int argc, char **argv, struct shim *ret, struct failure *fail)
{
	const char *value;
	int i;

	ret->runtime = getenv("NSGATE_RUNC");
	for (i = 1; i < argc && strncmp(argv[i], "--nsgate-", strlen("--nsgate-")) == 0; i++) {
		const char *word = argv[i];
		const char **target = NULL;

		if (is_option(word, "nsgate-help", &value)) {
			print_help();
			return NSGATE_STATUS_OK;
		}
		if (is_option(word, "nsgate-version", &value)) {
			printf(PROGRAM " %s\n", NSGATE_VERSION);
			return NSGATE_STATUS_OK;
		}
		if (is_option(word, "nsgate-runtime", &value))
			target = &ret->runtime;
		else if (is_option(word, "nsgate-policy", &value))
			target = &ret->policy;
		else if (is_option(word, "nsgate-runtime-dir", &value))
			target = &ret->runtime_dir;
		if (target != NULL)
			*target = value_of(argv, &i, value);
		if (target == NULL || *target == NULL)
			return failure_set(fail, NSGATE_STATUS_USAGE,
					   "%s: no such option, or its value is missing; see "
					   "--nsgate-help",
					   word);
	}
	if (ret->runtime == NULL || ret->runtime[0] == '\0')
		ret->runtime = "runc";
	ret->arguments = argv + i - 1;
	ret->arguments[0] = argv[0];
	if (ret->policy != NULL && request_name("--nsgate-policy", ret->policy, fail) != 0)
		return NSGATE_STATUS_USAGE;
	return -1;
}

/* The hook is installed beside this program. */
static enum nsgate_status find_hook(struct shim *shim, struct failure *fail)
{
	size_t room = sizeof(shim->hook) - sizeof(HOOK_PROGRAM);
	ssize_t length = readlink("/proc/self/exe", shim->hook, room);
	char *slash;

	shim->hook[length < 0 ? 0 : length] = '\0';
	slash = strrchr(shim->hook, '/');
	if (slash != NULL)
		memcpy(slash + 1, HOOK_PROGRAM, sizeof(HOOK_PROGRAM));
	if (slash != NULL && access(shim->hook, X_OK) == 0)
		return NSGATE_STATUS_OK;
	return failure_set(fail, NSGATE_STATUS_FAILED,
			   "%s: not there or not a program; install all of nsgate", shim->hook);
}

/* ---- config.json ---- */

/* The member `key` of `object`, made where it is missing. NULL: it is of another type. */
static struct json_object *member(struct json_object *object, const char *key, json_type type)
{
	struct json_object *found = document_find(object, key);

	if (found == NULL) {
		found = type == json_type_array ? json_object_new_array()
						: json_object_new_object();
		json_object_object_add(object, key, found);
	}
	return json_object_is_type(found, type) ? found : NULL;
}

static struct json_object *make_hook(const struct shim *shim)
{
	struct json_object *hook = json_object_new_object();
	struct json_object *args = json_object_new_array();

	json_object_array_add(args, json_object_new_string("nsgate-oci-hook"));
	if (shim->runtime_dir != NULL) {
		json_object_array_add(args, json_object_new_string("--runtime-dir"));
		json_object_array_add(args, json_object_new_string(shim->runtime_dir));
	}
	json_object_object_add(hook, "path", json_object_new_string(shim->hook));
	json_object_object_add(hook, "args", args);
	json_object_object_add(hook, "timeout", json_object_new_int(HOOK_TIMEOUT_S));
	return hook;
}

static bool has_hook(struct json_object *stage, const char *path)
{
	for (size_t i = 0; i < json_object_array_length(stage); i++) {
		struct json_object *hook = json_object_array_get_idx(stage, i);

		if (strcmp(document_text(hook, "path", ""), path) == 0)
			return true;
	}
	return false;
}

/* Return: false where the document is no configuration. */
static bool add_hooks(struct json_object *config, const struct shim *shim)
{
	static const char *const stages[] = {"createRuntime", "poststop"};
	struct json_object *hooks = member(config, "hooks", json_type_object);

	for (size_t i = 0; hooks != NULL && i < sizeof(stages) / sizeof(*stages); i++) {
		struct json_object *stage = member(hooks, stages[i], json_type_array);

		if (stage == NULL)
			return false;
		if (!has_hook(stage, shim->hook))
			json_object_array_add(stage, make_hook(shim));
	}
	return hooks != NULL;
}

/* `path` with new contents and the mode that it had; whole or not at all. */
static enum nsgate_status replace(const char *path, struct json_object *config,
				  struct failure *fail)
{
	const char *text = json_object_to_json_string_ext(config, JSON_C_TO_STRING_NOSLASHESCAPE);
	char temporary[PATH_MAX + sizeof(".nsgate")];
	size_t length = strlen(text);
	struct stat info;
	int fd = -1;

	snprintf(temporary, sizeof(temporary), "%s.nsgate", path);
	unlink(temporary); /* of a run that was killed */
	if (stat(path, &info) == 0)
		fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		goto fail;
	if (fchmod(fd, info.st_mode & 07777) < 0 || write(fd, text, length) != (ssize_t)length) {
		close(fd);
		goto fail_unlink;
	}
	if (close(fd) == 0 && rename(temporary, path) == 0)
		return NSGATE_STATUS_OK;
fail_unlink:
	unlink(temporary);
fail:
	return failure_set(fail, NSGATE_STATUS_FAILED, "%s: cannot be written: %s; check the disk",
			   path, strerror(errno));
}

static enum nsgate_status edit(const char *path, struct json_object *config,
			       const struct shim *shim, struct failure *fail)
{
	struct json_object *annotations = document_find(config, "annotations");
	struct annotations wanted;
	enum nsgate_status status = annotations_read(annotations, &wanted, fail);

	if (status != NSGATE_STATUS_OK || (wanted.policy == NULL && shim->policy == NULL))
		return status;
	if (wanted.policy == NULL) {
		annotations = member(config, "annotations", json_type_object);
		if (annotations != NULL)
			json_object_object_add(annotations, ANNOTATION_POLICY,
					       json_object_new_string(shim->policy));
	}
	if (annotations == NULL || !add_hooks(config, shim))
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "%s: not the configuration of a container; see the OCI runtime "
				   "specification",
				   path);
	return replace(path, config, fail);
}

static enum nsgate_status prepare(const struct shim *shim, const struct call *call,
				  struct failure *fail)
{
	char path[PATH_MAX];
	struct json_object *config;
	enum nsgate_status status;
	size_t length;
	char *text;
	int err;

	if (snprintf(path, sizeof(path), "%s/config.json",
		     call->bundle != NULL ? call->bundle : ".") >= (int)sizeof(path))
		return failure_set(fail, NSGATE_STATUS_USAGE, "the bundle's path is too long");
	status = file_read(path, CONFIG_BYTES_MAX, &text, &length, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	err = document_parse(text, length, &config);
	if (json_object_is_type(config, json_type_object))
		status = edit(path, config, shim, fail);
	else
		status = failure_set(fail, NSGATE_STATUS_FAILED,
				     "%s: %s; the container's configuration is expected", path,
				     document_problem(err != 0 ? err : -EINVAL));
	json_object_put(config);
	free(text);
	return status;
}

/* ---- telling ---- */

/* containerd shows the last error of the log that it named. */
static void tell_log(const struct call *call, const char *text)
{
	struct json_object *line;
	char now[32];
	time_t seconds = time(NULL);
	struct tm utc;
	FILE *log;

	if (call->log == NULL || !call->log_json)
		return;
	log = fopen(call->log, "ae");
	if (log == NULL)
		return;
	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
	line = json_object_new_object();
	json_object_object_add(line, "level", json_object_new_string("error"));
	json_object_object_add(line, "msg", json_object_new_string(text));
	json_object_object_add(line, "time", json_object_new_string(now));
	fprintf(log, "%s\n", json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN));
	json_object_put(line);
	fclose(log);
}

int main(int argc, char **argv)
{
	struct shim shim = {.hook = ""};
	struct failure fail = {0};
	struct call call = {0};
	int code = parse_own(argc, argv, &shim, &fail);

	if (code < 0) {
		code = NSGATE_STATUS_OK;
		parse_call(shim.arguments, &call);
		if (call.unclear && call.may_make) {
			code = failure_set(&fail, NSGATE_STATUS_USAGE,
					   "%s: not a command of runc; if it is the value of an "
					   "option, give it as --OPTION=%s",
					   call.command, call.command);
		} else if (call.makes) {
			code = find_hook(&shim, &fail);
			if (code == NSGATE_STATUS_OK)
				code = prepare(&shim, &call, &fail);
		}
		if (code == NSGATE_STATUS_OK) {
			execvp(shim.runtime, shim.arguments);
			code = failure_set(&fail, NSGATE_STATUS_FAILED,
					   "%s: %s; name the real runtime by --nsgate-runtime=PATH",
					   shim.runtime, strerror(errno));
		}
	}
	if (code != NSGATE_STATUS_OK) {
		tell_log(&call, fail.text);
		failure_print(&fail, PROGRAM, stderr);
	}
	failure_free(&fail);
	return code;
}
