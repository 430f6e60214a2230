// SPDX-License-Identifier: GPL-2.0-or-later
#include "nsgate/shm.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* asm-generic/mman-common.h; musl lacks it */
#endif

/*
 * EFAULT stands for the SIGBUS that there would have been (madvise(2)). Other errors say nothing of
 * it; the advice is known since Linux 5.14.
 */
int shm_reach(const void *start, size_t size)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = (uintptr_t)start + size;
	const uintptr_t begin = (uintptr_t)start & ~(page - 1);
	const int saved = errno;
	int err = 0;

	if (madvise((void *)begin, end - begin, MADV_POPULATE_WRITE) < 0 && errno == EFAULT)
		err = -ENOSPC;
	errno = saved;
	return err;
}

int shm_rule_reach(uint64_t *touched, const struct shm_rule *rules, uint32_t index)
{
	int err;

	if (shm_rule_touched(touched, index))
		return 0;
	err = shm_reach(&rules[index / SHM_RULES_GROUP * SHM_RULES_GROUP],
			SHM_RULES_GROUP * sizeof(*rules));
	if (!err)
		shm_rule_touch(touched, index);
	return err;
}
