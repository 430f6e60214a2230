// SPDX-License-Identifier: GPL-2.0-or-later
/* What `doctor` finds on the machine itself. */
#include "ctl/doctor/doctor.h"

#include <errno.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ctl/ctl.h"

#define AGENT_USER "nsgate"

/* SO_NETNS_COOKIE, by which namespaces are told apart, came with 5.14. */
#define KERNEL_MAJOR_LEAST 5
#define KERNEL_MINOR_LEAST 14

static void check_kernel(struct doctor_report *report)
{
	struct utsname name;
	int major = 0, minor = 0;

	if (uname(&name) < 0 || sscanf(name.release, "%d.%d", &major, &minor) != 2) {
		doctor_note(report, DOCTOR_GRADE_WARN, "kernel", "see uname -r", "version unknown");
		return;
	}
	if (major < KERNEL_MAJOR_LEAST ||
	    (major == KERNEL_MAJOR_LEAST && minor < KERNEL_MINOR_LEAST))
		doctor_note(report, DOCTOR_GRADE_FAIL, "kernel", "run Linux 5.14 or later",
			    "Linux %s cannot tell namespaces apart for good", name.release);
	else
		doctor_note(report, DOCTOR_GRADE_OK, "kernel", NULL, "Linux %s", name.release);
}

static void check_landlock(struct doctor_report *report)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi >= 1)
		doctor_note(report, DOCTOR_GRADE_OK, "landlock", NULL, "ABI %ld", abi);
	else
		doctor_note(report, DOCTOR_GRADE_WARN, "landlock",
			    "a kernel with CONFIG_SECURITY_LANDLOCK and \"landlock\" in lsm=",
			    "not available (%s): the agent's view of files is not narrowed",
			    strerror(errno));
}

static void check_seccomp(struct doctor_report *report)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;

	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0)
		doctor_note(report, DOCTOR_GRADE_OK, "seccomp", NULL, "filters can be set");
	else
		doctor_note(report, DOCTOR_GRADE_FAIL, "seccomp",
			    "a kernel with CONFIG_SECCOMP_FILTER", "not available (%s)",
			    strerror(errno));
}

static void check_user(struct doctor_report *report)
{
	struct passwd *user = getpwnam(AGENT_USER);

	if (user != NULL)
		doctor_note(report, DOCTOR_GRADE_OK, "user", NULL, AGENT_USER " is uid %u",
			    (unsigned int)user->pw_uid);
	else
		doctor_note(
			report, DOCTOR_GRADE_WARN, "user",
			"useradd --system --no-create-home --shell /usr/sbin/nologin " AGENT_USER,
			"there is no user " AGENT_USER ": the agent runs as nobody");
}

/* A directory that others may write to lets them stand in for a daemon or choose the policy. */
static void check_directory(struct doctor_report *report, const char *name, const char *path,
			    const char *remedy)
{
	struct stat info;

	if (stat(path, &info) < 0)
		doctor_note(report, DOCTOR_GRADE_WARN, name, remedy, "%s: %s", path,
			    strerror(errno));
	else if (!S_ISDIR(info.st_mode))
		doctor_note(report, DOCTOR_GRADE_FAIL, name, remedy, "%s: not a directory", path);
	else if ((info.st_mode & S_IWOTH) != 0)
		doctor_note(report, DOCTOR_GRADE_FAIL, name, "take the right to write from others",
			    "%s: everybody may write there (mode %04o)", path,
			    (unsigned int)info.st_mode & 07777U);
	else
		doctor_note(report, DOCTOR_GRADE_OK, name, NULL, "%s, mode %04o, uid %u", path,
			    (unsigned int)info.st_mode & 07777U, (unsigned int)info.st_uid);
}

void doctor_check_machine(struct doctor_report *report, const struct ctl *ctl)
{
	char policies[512];

	check_kernel(report);
	check_landlock(report);
	check_seccomp(report);
	check_user(report);
	check_directory(report, "runtime-dir", ctl->runtime_dir,
			"start the daemons, or give --runtime-dir");
	snprintf(policies, sizeof(policies), "%s/policies", ctl->config_dir);
	check_directory(report, "policies", policies, "start the agent, or give --config-dir");
}
