// SPDX-License-Identifier: GPL-2.0-or-later
#include "filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Every rule is a comparison at least, and there is something before and after them. */
static bool is_whole(off_t bytes, size_t rules)
{
	return bytes > (off_t)(rules * sizeof(struct sock_filter)) &&
	       bytes <= (off_t)(BPF_MAXINSNS * sizeof(struct sock_filter));
}

static int load(int fd, size_t rules)
{
	struct sock_fprog program = {.len = 0};
	struct stat st;
	void *map;
	long done;
	int err = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!is_whole(st.st_size, rules))
		return -ENOMEM;
	program.len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	program.filter = map;
	done = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	if (done)
		err = done < 0 ? -errno : -ESRCH; /* the id of a thread that cannot follow */
	munmap(map, (size_t)st.st_size);
	return err;
}

int filter_load(scmp_filter_ctx filter, size_t rules)
{
	int fd = memfd_create("filter", MFD_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	err = seccomp_export_bpf(filter, fd);
	if (!err)
		err = load(fd, rules);
	close(fd);
	return err;
}

int filter_allow(const struct filter_list *list)
{
	/* EPERM and not a kill: a library that tries something new must not end the process. */
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err = 0;

	if (!filter)
		return -ENOMEM;
	for (size_t i = 0; !err && i < list->allowed_count; i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, list->allowed[i], 0);
	for (size_t i = 0; !err && i < list->narrowed_count; i++) {
		const struct filter_narrowed *call = &list->narrowed[i];

		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call->call, 1,
				       SCMP_CMP(call->argument, SCMP_CMP_MASKED_EQ,
						call->mask ? call->mask : UINT64_MAX, call->value));
	}
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				       SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (!err)
		err = filter_load(filter, list->allowed_count + list->narrowed_count + 2);
	seccomp_release(filter);
	return err;
}
