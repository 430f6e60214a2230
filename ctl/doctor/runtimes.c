// SPDX-License-Identifier: GPL-2.0-or-later
/* What `doctor` finds of container runtimes: do they know of the hook, and can they run at all? */
#include "ctl/doctor/doctor.h"

#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "client/document.h"
#include "client/file.h"

#define FILE_BYTES_MAX ((size_t)1024 * 1024)
#define HOOK "/nsgate/oci-hook"
#define SHIM "/nsgate/nsgate-runc"
#define DOCKER_CONFIG "/etc/docker/daemon.json"

static bool installed(const char *program)
{
	static const char *const directories[] = {"/usr/bin", "/usr/sbin", "/usr/local/bin",
						  "/usr/local/sbin"};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++) {
		snprintf(path, sizeof(path), "%s/%s", directories[i], program);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

static bool ends_in(const char *text, const char *end)
{
	size_t length = strlen(text), wanted = strlen(end);

	return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

/* NULL: it is not there, or no JSON. */
static struct json_object *read_json(const char *path)
{
	struct json_object *document = NULL;
	struct failure fail = {0};
	size_t length;
	char *text;

	if (file_read(path, FILE_BYTES_MAX, &text, &length, &fail) == NSGATE_STATUS_OK) {
		document_parse(text, length, &document);
		free(text);
	}
	failure_free(&fail);
	return document;
}

static void note_program(struct doctor_report *report, const char *name, const char *file,
			 const char *program)
{
	if (access(program, X_OK) == 0)
		doctor_note(report, DOCTOR_GRADE_OK, name, NULL, "%s starts %s", file, program);
	else
		doctor_note(report, DOCTOR_GRADE_FAIL, name,
			    "install nsgate again, or remove the file", "%s starts %s: %s", file,
			    program, strerror(errno));
}

/* ---- hooks.d ---- */

/* Return: how many of the directory's files start our hook. */
static unsigned int check_hooks_in(struct doctor_report *report, const char *directory)
{
	DIR *files = opendir(directory);
	unsigned int found = 0;
	struct dirent *entry;

	while (files != NULL && (entry = readdir(files)) != NULL) {
		char path[PATH_MAX];
		struct json_object *document;
		const char *program;

		if (!ends_in(entry->d_name, ".json"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		document = read_json(path);
		program = document_text(document, "hook.path", "");
		if (ends_in(program, HOOK)) {
			note_program(report, "oci-hook", path, program);
			found++;
		}
		json_object_put(document);
	}
	if (files != NULL)
		closedir(files);
	return found;
}

static void check_hooks(struct doctor_report *report)
{
	static const char *const directories[] = {"/usr/share/containers/oci/hooks.d",
						  "/etc/containers/oci/hooks.d"};
	unsigned int found = 0;

	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++)
		found += check_hooks_in(report, directories[i]);
	if (found > 0)
		return;
	if (installed("podman") || installed("crio"))
		doctor_note(
			report, DOCTOR_GRADE_WARN, "oci-hook",
			"install nsgate with PREFIX=/usr, or name its hooks.d by hooks_dir in "
			"containers.conf or crio.conf",
			"neither %s nor %s starts nsgate's hook: annotations of containers have "
			"no effect",
			directories[0], directories[1]);
	else
		doctor_note(report, DOCTOR_GRADE_OK, "oci-hook", NULL,
			    "not looked for: neither podman nor CRI-O is installed");
}

/* ---- docker ---- */

static void check_docker(struct doctor_report *report)
{
	struct json_object *config = read_json(DOCKER_CONFIG);
	struct json_object *runtimes = document_find(config, "runtimes");
	unsigned int found = 0;

	if (json_object_is_type(runtimes, json_type_object)) {
		json_object_object_foreach (runtimes, name, runtime) {
			const char *program = document_text(runtime, "path", "");

			(void)name;
			if (!ends_in(program, SHIM))
				continue;
			note_program(report, "docker-runtime", DOCKER_CONFIG, program);
			found++;
		}
	}
	json_object_put(config);
	if (found == 0 && installed("dockerd"))
		doctor_note(report, DOCTOR_GRADE_WARN, "docker-runtime",
			    "see \"Docker\" in nsgate-oci-hook(8)",
			    "no runtime of " DOCKER_CONFIG " is nsgate-runc: annotations of "
			    "containers have no effect");
}

/* ---- cgroups ---- */

static void check_cgroups(struct doctor_report *report)
{
	struct statfs top, unified;

	if (statfs("/sys/fs/cgroup", &top) < 0)
		doctor_note(report, DOCTOR_GRADE_WARN, "cgroups", "mount /sys/fs/cgroup",
			    "/sys/fs/cgroup: %s", strerror(errno));
	else if (top.f_type == CGROUP2_SUPER_MAGIC)
		doctor_note(report, DOCTOR_GRADE_OK, "cgroups", NULL, "unified (version 2)");
	else if (statfs("/sys/fs/cgroup/unified", &unified) == 0 &&
		 unified.f_type == CGROUP2_SUPER_MAGIC)
		doctor_note(report, installed("crun") ? DOCTOR_GRADE_WARN : DOCTOR_GRADE_OK,
			    "cgroups",
			    installed("crun") ? "use runc, or boot with "
						"systemd.unified_cgroup_hierarchy=1"
					      : NULL,
			    "hybrid (versions 1 and 2), with which crun starts no container");
	else
		doctor_note(report, DOCTOR_GRADE_OK, "cgroups", NULL, "legacy (version 1)");
}

void doctor_check_runtimes(struct doctor_report *report)
{
	check_cgroups(report);
	check_hooks(report);
	check_docker(report);
}
