// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtimes/cni_request.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "client/annotations.h"
#include "client/document.h"
#include "client/file.h"
#include "hash.h"
#include "name.h"
#include "options.h"

#define CONFIG_BYTES_MAX (4 * 1024 * 1024)
#define ANNOTATIONS "io.kubernetes.cri.pod-annotations" /* a capability of containerd and CRI-O */
#define ID_LENGTH 64 /* of the ids that podman, docker and containerd make: hexadecimal */
#define ID_SHORT 12  /* how much of one they show */

enum need { NEED_CONTAINER = 1, NEED_NETNS = 2, NEED_IFNAME = 4 };

/* In which version a command came, and what it cannot do without. */
static const struct {
	const char *name, *since;
	unsigned int needs;
} commands[CNI_COMMAND_MAX] = {
	[CNI_COMMAND_ADD] = {"ADD", "0.3.1", NEED_CONTAINER | NEED_NETNS | NEED_IFNAME},
	[CNI_COMMAND_DEL] = {"DEL", "0.3.1", NEED_CONTAINER | NEED_IFNAME},
	[CNI_COMMAND_CHECK] = {"CHECK", "0.4.0", NEED_CONTAINER | NEED_NETNS | NEED_IFNAME},
	[CNI_COMMAND_STATUS] = {"STATUS", "1.1.0", 0},
	[CNI_COMMAND_GC] = {"GC", "1.1.0", 0},
	[CNI_COMMAND_VERSION] = {"VERSION", "0.3.1", 0},
};

static const char *const versions[] = {"0.3.1", "0.4.0", "1.0.0", CNI_VERSION_NEWEST};
#define VERSIONS (sizeof(versions) / sizeof(*versions))

/* Their place in the order of time; VERSIONS: not spoken. */
static size_t age_of(const char *version)
{
	size_t i = 0;

	while (i < VERSIONS && strcmp(versions[i], version) != 0)
		i++;
	return i;
}

struct json_object *cni_versions(void)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < VERSIONS; i++)
		json_object_array_add(list, json_object_new_string(versions[i]));
	return list;
}

/* ---- the environment ---- */

/* As a name of ours, but as long as a file's name may be. */
static bool id_valid(const char *id)
{
	static const char inner[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "_.-";

	return *id && !strchr("_.-", *id) && strspn(id, inner) == strlen(id) &&
	       strlen(id) <= NAME_MAX;
}

/* As dev_valid_name() of the kernel's net/core/dev.c has it. */
static bool ifname_valid(const char *name)
{
	return *name && strlen(name) < IF_NAMESIZE && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0 && !strpbrk(name, "/: \t\n\v\f\r");
}

static bool netns_valid(const char *path)
{
	return path[0] == '/';
}

static const struct {
	const char *name;
	enum need need;
	bool (*valid)(const char *value);
	const char *rule;
} variables[] = {
	{"CNI_CONTAINERID", NEED_CONTAINER, id_valid,
	 "a letter or digit, then letters, digits, '_', '.' and '-', 255 at most"},
	{"CNI_NETNS", NEED_NETNS, netns_valid, "the absolute path of a network namespace"},
	{"CNI_IFNAME", NEED_IFNAME, ifname_valid, "the name of a network interface"},
};

static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

static enum cni_code read_command(struct cni_request *ret, struct cni_error *error)
{
	const char *name = variable("CNI_COMMAND");

	while (ret->command < CNI_COMMAND_MAX && strcmp(commands[ret->command].name, name) != 0)
		ret->command++;
	if (ret->command < CNI_COMMAND_MAX)
		return CNI_CODE_OK;
	if (!*name)
		return cni_error_set(error, CNI_CODE_ENVIRONMENT,
				     "CNI_COMMAND is not set: this is a CNI plugin, container "
				     "runtimes start it; see man nsgate-cni");
	return cni_error_set(error, CNI_CODE_ENVIRONMENT,
			     "CNI_COMMAND is %s: it must be ADD, DEL, CHECK, STATUS, GC or VERSION",
			     name);
}

static enum cni_code read_environment(struct cni_request *ret, struct cni_error *error)
{
	const char **places[] = {&ret->container, &ret->netns, &ret->ifname};
	char missing[128] = "";
	enum cni_code code = read_command(ret, error);

	if (code)
		return code;
	ret->args = variable("CNI_ARGS");
	for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++) {
		*places[i] = variable(variables[i].name);
		if (!(commands[ret->command].needs & variables[i].need) || **places[i])
			continue;
		snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), "%s%s",
			 *missing ? ", " : "", variables[i].name);
	}
	if (*missing)
		return cni_error_set(error, CNI_CODE_ENVIRONMENT, "not set, but %s needs it: %s",
				     commands[ret->command].name, missing);
	for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
		if (commands[ret->command].needs & variables[i].need &&
		    !variables[i].valid(*places[i]))
			return cni_error_set(error, CNI_CODE_ENVIRONMENT,
					     "%s is \"%s\": it must be %s", variables[i].name,
					     *places[i], variables[i].rule);
	return CNI_CODE_OK;
}

const char *cni_request_arg(const struct cni_request *request, const char *key, int *ret_length)
{
	const size_t length = strlen(key);

	for (const char *at = request->args; *at; at += strspn(at, ";")) {
		const char *end = at + strcspn(at, ";");

		if (strncmp(at, key, length) == 0 && at[length] == '=') {
			*ret_length = (int)(end - at - (ptrdiff_t)length - 1);
			return at + length + 1;
		}
		at = end;
	}
	return NULL;
}

/* ---- the network configuration ---- */

/* A member of the document itself; its name may hold dots. */
static struct json_object *member(const struct cni_request *request, const char *key)
{
	struct json_object *found = NULL;

	json_object_object_get_ex(request->document, key, &found);
	return found;
}

/* A string that need not be there. Return: it in *ret, NULL where it is absent. */
static enum cni_code read_string(const struct cni_request *request, const char *key,
				 const char **ret, struct cni_error *error)
{
	struct json_object *found = member(request, key);

	*ret = NULL;
	if (!found)
		return CNI_CODE_OK;
	if (!json_object_is_type(found, json_type_string) || !*json_object_get_string(found) ||
	    strlen(json_object_get_string(found)) != (size_t)json_object_get_string_len(found))
		return cni_error_set(error, CNI_CODE_CONFIG, "\"%s\" is %s: it must be a text", key,
				     json_object_to_json_string(found));
	*ret = json_object_get_string(found);
	return CNI_CODE_OK;
}

static enum cni_code read_document(struct cni_request *ret, struct cni_error *error)
{
	struct failure fail = {.text = ""};
	char *text = NULL;
	size_t length = 0;
	int err;

	if (file_read("-", CONFIG_BYTES_MAX, &text, &length, &fail) != NSGATE_STATUS_OK)
		return cni_error_set(error, CNI_CODE_IO, "standard input: %s", fail.text);
	err = document_parse(text, length, &ret->document);
	free(text);
	if (length > CONFIG_BYTES_MAX)
		return cni_error_set(error, CNI_CODE_DECODE,
				     "standard input: more than %d MiB: no network configuration",
				     CONFIG_BYTES_MAX / 1024 / 1024);
	if (err && err != -EINVAL)
		return cni_error_set(error, err == -ENOMEM ? CNI_CODE_AGAIN : CNI_CODE_DECODE,
				     "standard input: %s", document_problem(err));
	if (!json_object_is_type(ret->document, json_type_object))
		return cni_error_set(error, CNI_CODE_DECODE,
				     "standard input: not a JSON object: see man nsgate-cni for "
				     "what a network configuration looks like");
	return CNI_CODE_OK;
}

/* VERSION is asked to find out what is spoken: any version is right there. */
static enum cni_code read_version(struct cni_request *ret, struct cni_error *error)
{
	struct json_object *found = member(ret, "cniVersion");
	const char *version, *since = commands[ret->command].since;

	if (!found && ret->command == CNI_COMMAND_VERSION)
		return CNI_CODE_OK;
	if (!json_object_is_type(found, json_type_string))
		return cni_error_set(
			error, found ? CNI_CODE_DECODE : CNI_CODE_VERSION,
			"\"cniVersion\" is %s: it must be a text, 0.3.1 to " CNI_VERSION_NEWEST,
			found ? json_object_to_json_string(found) : "missing");
	version = json_object_get_string(found);
	if (ret->command != CNI_COMMAND_VERSION && age_of(version) == VERSIONS)
		return cni_error_set(error, CNI_CODE_VERSION,
				     "cniVersion %s: nsgate speaks 0.3.1, 0.4.0, 1.0.0 and 1.1.0",
				     version);
	ret->version = version;
	if (ret->command != CNI_COMMAND_VERSION && age_of(version) < age_of(since))
		return cni_error_set(error, CNI_CODE_VERSION,
				     "cniVersion %s has no %s: it came with %s", version,
				     commands[ret->command].name, since);
	return CNI_CODE_OK;
}

static enum cni_code read_network(struct cni_request *ret, struct cni_error *error)
{
	enum cni_code code = read_string(ret, "name", &ret->network, error);

	if (code)
		return code;
	if (!ret->network && ret->command != CNI_COMMAND_STATUS)
		return cni_error_set(error, CNI_CODE_CONFIG, "\"name\", the network's, is missing");
	if (ret->network &&
	    (!id_valid(ret->network) || strlen(ret->network) + IF_NAMESIZE + 1 > NAME_MAX))
		return cni_error_set(error, CNI_CODE_CONFIG,
				     "\"name\" is \"%s\": a network's name is a letter or digit, "
				     "then letters, digits, '_', '.' and '-', %zu at most",
				     ret->network, (size_t)NAME_MAX - IF_NAMESIZE - 1);
	return CNI_CODE_OK;
}

static enum cni_code read_runtime_dir(struct cni_request *ret, struct cni_error *error)
{
	const char *given;
	enum cni_code code = read_string(ret, "runtimeDir", &given, error);

	if (code)
		return code;
	if (given && given[0] != '/')
		return cni_error_set(error, CNI_CODE_CONFIG,
				     "\"runtimeDir\" is \"%s\": it must be an absolute path",
				     given);
	ret->runtime_dir = options_runtime_dir(given);
	return CNI_CODE_OK;
}

/* Nothing is delegated to an address plugin, nor masqueraded: whoever asks for it must know. */
static enum cni_code refuse_unsupported(const struct cni_request *request, struct cni_error *error)
{
	static const char *const fields[] = {"ipam", "ipMasq", "dns"};

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		struct json_object *found = member(request, fields[i]);
		const bool asks = json_object_is_type(found, json_type_object)
					  ? json_object_object_length(found) > 0
					  : json_object_get_boolean(found);

		if (found && asks)
			return cni_error_set(error, CNI_CODE_UNSUPPORTED,
					     "\"%s\": %s: nsgate makes no network, give it to the "
					     "plugin before this one",
					     fields[i], json_object_to_json_string(found));
	}
	return CNI_CODE_OK;
}

/* ---- which policy ---- */

static bool list_has(struct json_object *list, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *entry = json_object_get_string(json_object_array_get_idx(list, i));

		if (entry && (strcmp(entry, "*") == 0 || strcmp(entry, name) == 0))
			return true;
	}
	return false;
}

/* What the pod asks for. Return: NULL in *ret where it asks for nothing. */
static enum cni_code read_annotation(const struct cni_request *request, const char **ret,
				     struct cni_error *error)
{
	struct json_object *given = NULL;
	struct annotations found;
	struct failure fail = {.text = ""};

	json_object_object_get_ex(member(request, "runtimeConfig"), ANNOTATIONS, &given);
	if (annotations_read(given, &found, &fail) != NSGATE_STATUS_OK)
		return cni_error_set(error, CNI_CODE_CONFIG, "%s", fail.text);
	*ret = found.policy;
	return CNI_CODE_OK;
}

/*
 * The network's own, unless it lets pods choose (`podPolicies`) and this one does. Whoever runs a
 * pod may write annotations; so a choice is the administrator's to offer.
 */
static enum cni_code choose_policy(struct cni_request *ret, struct cni_error *error)
{
	struct json_object *offered = member(ret, "podPolicies");
	const char *asked = NULL;
	enum cni_code code = read_string(ret, "policy", &ret->policy, error);

	if (code)
		return code;
	if (offered && !json_object_is_type(offered, json_type_array))
		return cni_error_set(error, CNI_CODE_CONFIG,
				     "\"podPolicies\" is %s: it must be a list of policies' names",
				     json_object_to_json_string(offered));
	if (!offered && !ret->policy)
		return cni_error_set(error, CNI_CODE_CONFIG,
				     "\"policy\" is missing: name the policy of this network, or "
				     "offer some in \"podPolicies\"");
	if (offered)
		code = read_annotation(ret, &asked, error);
	if (code)
		return code;
	if (asked && !list_has(offered, asked))
		return cni_error_set(error, CNI_CODE_CONFIG,
				     "annotation " ANNOTATION_POLICY
				     " asks for policy %s, which \"podPolicies\" of network %s "
				     "does not offer",
				     asked, ret->network);
	if (asked)
		ret->policy = asked;
	if (ret->policy && !name_valid(ret->policy))
		return cni_error_set(error, CNI_CODE_CONFIG,
				     "\"policy\" is \"%s\": a policy's name is " NAME_RULE,
				     ret->policy);
	return CNI_CODE_OK;
}

static enum cni_code read_previous(struct cni_request *ret, struct cni_error *error)
{
	ret->previous = member(ret, "prevResult");
	if (ret->previous && !json_object_is_type(ret->previous, json_type_object))
		return cni_error_set(error, CNI_CODE_DECODE, "\"prevResult\" must be an object");
	if (!ret->previous && ret->command != CNI_COMMAND_DEL)
		return cni_error_set(
			error, CNI_CODE_CONFIG,
			"\"prevResult\" is missing: nsgate makes no interface, name it "
			"in \"plugins\" after one that does, such as bridge");
	return CNI_CODE_OK;
}

static enum cni_code read_valid(struct cni_request *ret, struct cni_error *error)
{
	struct json_object *found = NULL;

	/* There and null is an empty list, as some write it. Absent, it would mean: all of them. */
	if (!json_object_object_get_ex(ret->document, "cni.dev/valid-attachments", &found))
		return cni_error_set(error, CNI_CODE_CONFIG,
				     "\"cni.dev/valid-attachments\" is missing");
	if (found && !json_object_is_type(found, json_type_array))
		return cni_error_set(error, CNI_CODE_DECODE,
				     "\"cni.dev/valid-attachments\" must be a list");
	ret->valid = found;
	return CNI_CODE_OK;
}

static enum cni_code read_attachment(struct cni_request *ret, struct cni_error *error)
{
	enum cni_code code = CNI_CODE_OK;

	if (ret->command != CNI_COMMAND_DEL) /* what may be wrong there must not keep it alive */
		code = refuse_unsupported(ret, error);
	if (!code && ret->command != CNI_COMMAND_DEL)
		code = choose_policy(ret, error);
	return code ? code : read_previous(ret, error);
}

enum cni_code cni_request_read(struct cni_request *ret, struct cni_error *error)
{
	enum cni_code code;

	ret->version = CNI_VERSION_NEWEST;
	code = read_environment(ret, error);
	if (!code)
		code = read_document(ret, error);
	if (!code)
		code = read_version(ret, error);
	if (code || ret->command == CNI_COMMAND_VERSION)
		return code;
	code = read_network(ret, error);
	if (!code)
		code = read_runtime_dir(ret, error);
	if (!code && commands[ret->command].needs)
		code = read_attachment(ret, error);
	if (!code && ret->command == CNI_COMMAND_GC)
		code = read_valid(ret, error);
	return code;
}

void cni_request_free(struct cni_request *request)
{
	json_object_put(request->document);
}

void cni_request_name(const char *container, char ret[NSGATE_NAME_MAX])
{
	const size_t length = strlen(container);

	if (name_valid(container))
		snprintf(ret, NSGATE_NAME_MAX, "%s", container);
	else if (length == ID_LENGTH && strspn(container, "0123456789abcdef") == length)
		snprintf(ret, NSGATE_NAME_MAX, "%.*s", ID_SHORT, container);
	else
		snprintf(ret, NSGATE_NAME_MAX, "%.46s-%016" PRIx64, container,
			 hash_bytes(container, length));
}
