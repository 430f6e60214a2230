// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What `doctor` finds of the kernel's modules. One that is not loaded is missing where the kernel
 * loads none by itself, or where the kernel's configuration has it neither built in nor with its
 * file on this machine. In a container the host's files cannot be seen: then nothing is said of it.
 */
#include "ctl/doctor/doctor.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define NO_QUEUES "nothing can be attached"

/* Without an option: newer kernels have it as a part of nf_tables. */
static const struct module {
	const char *name, *option, *lost;
	enum doctor_grade grade;
} modules[] = {
	{"nfnetlink", "CONFIG_NETFILTER_NETLINK", NO_QUEUES, DOCTOR_GRADE_FAIL},
	{"nfnetlink_queue", "CONFIG_NETFILTER_NETLINK_QUEUE", NO_QUEUES, DOCTOR_GRADE_FAIL},
	{"nf_tables", "CONFIG_NF_TABLES", NO_QUEUES, DOCTOR_GRADE_FAIL},
	{"nft_queue", "CONFIG_NFT_QUEUE", NO_QUEUES, DOCTOR_GRADE_FAIL},
	{"nft_counter", "", NO_QUEUES, DOCTOR_GRADE_FAIL}, /* before Linux 5.18 */
	{"nft_objref", "", NO_QUEUES, DOCTOR_GRADE_FAIL},  /* before Linux 6.2 */
	{"nft_limit", "CONFIG_NFT_LIMIT", NO_QUEUES, DOCTOR_GRADE_FAIL},
	{"nft_ct", "CONFIG_NFT_CT", "no flow is remembered", DOCTOR_GRADE_WARN},
	{"nft_reject_inet", "CONFIG_NFT_REJECT_INET", "policies that reject cannot be put in force",
	 DOCTOR_GRADE_WARN},
	{"nft_fib_inet", "CONFIG_NFT_FIB_INET", "a rejection of what leaves has no answer",
	 DOCTOR_GRADE_WARN},
	{"nf_conntrack_netlink", "CONFIG_NF_CT_NETLINK",
	 "flows that were accepted by a policy before are not ended", DOCTOR_GRADE_WARN},
};
#define MODULE_COUNT (sizeof(modules) / sizeof(modules[0]))

struct kernel {
	bool locked;	      /* it loads no module by itself */
	char dep[256];	      /* the list of modules that are files */
	char configs[2][256]; /* where its configuration may be */
};

static bool is_loaded(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	return access(path, F_OK) == 0;
}

/* Its lines begin with kernel/net/netfilter/NAME.ko, perhaps compressed. */
static bool has_file(const struct kernel *kernel, const char *name)
{
	FILE *file = fopen(kernel->dep, "re");
	char line[4096], wanted[64];
	bool found = false;

	snprintf(wanted, sizeof(wanted), "/%s.ko", name);
	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, ":\n")] = '\0';
		found = strstr(line, wanted) != NULL;
	}
	if (file != NULL)
		fclose(file);
	return found;
}

/*
 * What the kernel's configuration has for an option: 'y', 'm', 'n', or '?' where it is not to be
 * found. (modules.builtin does not list all that is built in.)
 */
static char configured(const struct kernel *kernel, const char *option)
{
	const size_t length = strlen(option);
	FILE *file = fopen(kernel->configs[0], "re");
	char line[256], found = 'n';

	if (file == NULL)
		file = fopen(kernel->configs[1], "re");
	if (file == NULL)
		return '?';
	while (found == 'n' && fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, option, length) == 0 && line[length] == '=')
			found = line[length + 1];
	fclose(file);
	return found;
}

/* The first character of a file, or EOF. */
static int first_of(const char *path)
{
	FILE *file = fopen(path, "re");
	int first = file != NULL ? fgetc(file) : EOF;

	if (file != NULL)
		fclose(file);
	return first;
}

/* kernel.modprobe without a path means never: call_modprobe() in kernel/module/kmod.c. */
static void learn(struct kernel *kernel)
{
	struct utsname name = {.release = ""};

	(void)uname(&name);
	kernel->locked = first_of("/proc/sys/kernel/modules_disabled") == '1' ||
			 first_of("/proc/sys/kernel/modprobe") == '\n';
	snprintf(kernel->configs[0], sizeof(kernel->configs[0]), "/lib/modules/%s/config",
		 name.release);
	snprintf(kernel->configs[1], sizeof(kernel->configs[1]), "/boot/config-%s", name.release);
	snprintf(kernel->dep, sizeof(kernel->dep), "/lib/modules/%s/modules.dep", name.release);
}

/* Another one does the same. */
static bool is_replaced(const char *name)
{
	return strcmp(name, "nft_queue") == 0 && is_loaded("nft_compat") && is_loaded("xt_NFQUEUE");
}

/* Return: was a finding made? */
static bool check(struct doctor_report *report, const struct kernel *kernel,
		  const struct module *module)
{
	const bool file = has_file(kernel, module->name);
	const char setting = configured(kernel, module->option);
	char title[64], remedy[256];

	if (is_loaded(module->name) || is_replaced(module->name) || setting == 'y')
		return false;
	if (file ? !kernel->locked : setting == '?' || *module->option == '\0')
		return false;
	snprintf(title, sizeof(title), "module %s", module->name);
	if (file)
		snprintf(remedy, sizeof(remedy),
			 "modprobe %s, and have it loaded at boot by "
			 "/etc/modules-load.d/nsgate.conf",
			 module->name);
	else
		snprintf(remedy, sizeof(remedy),
			 "install all modules of this kernel, or run one with %s", module->option);
	doctor_note(report, module->grade, title, remedy, "not loaded, and %s: %s",
		    file ? "this kernel loads none by itself" : "not on this machine",
		    module->lost);
	return true;
}

void doctor_check_modules(struct doctor_report *report)
{
	struct kernel kernel;
	unsigned int missing = 0;

	if (access("/proc/modules", F_OK) < 0) {
		doctor_note(report, DOCTOR_GRADE_OK, "modules", NULL,
			    "this kernel has none: what it can do is built in");
		return;
	}
	learn(&kernel);
	for (size_t i = 0; i < MODULE_COUNT; i++)
		missing += check(report, &kernel, &modules[i]);
	if (missing == 0)
		doctor_note(report, DOCTOR_GRADE_OK, "modules", NULL,
			    "all are loaded, built in, or loaded when they are asked for");
}
