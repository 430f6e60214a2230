// SPDX-License-Identifier: GPL-2.0-or-later
#include "nsgate/shm.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* asm-generic/mman-common.h; musl lacks it */
#endif

#ifdef NSGATE_TEST_GROWN
#define GROWN_BYTES 8192 /* for the suite that grows the formats: a block of a later release */
#else
#define GROWN_BYTES 0
#endif

void shm_lay_out(struct shm_layout *ret)
{
	const uint32_t before = sizeof(struct shm_queue) + GROWN_BYTES;
	const uint32_t kept_at = before + SHM_RULES * (uint32_t)sizeof(struct shm_rule);

	*ret = (struct shm_layout){
		.magic = NSGATE_SHM_MAGIC,
		.size = GROWN_BYTES + SHM_BLOCK_SIZE,
		.words = before / sizeof(uint64_t),
		.rules_at = before,
		.rules = SHM_RULES,
		.kept_at = kept_at,
		.kept = SHM_KEPT_MAX,
	};
}

static bool slots_fit(const struct shm_layout *layout, uint32_t at, uint32_t count)
{
	return at % sizeof(uint64_t) == 0 && at >= layout->words * (uint64_t)sizeof(uint64_t) &&
	       at + (uint64_t)count * sizeof(struct shm_rule) <= layout->size;
}

bool shm_layout_valid(const struct shm_layout *layout, unsigned int queues, uint64_t file_size)
{
	return layout->magic == NSGATE_SHM_MAGIC && layout->size % sizeof(uint64_t) == 0 &&
	       layout->words >= SHM_WORDS && layout->rules >= SHM_RULES &&
	       layout->rules <= SHM_RULES_TOUCHED_WORDS * 64U * SHM_RULES_GROUP &&
	       layout->kept >= SHM_KEPT_MAX && slots_fit(layout, layout->rules_at, layout->rules) &&
	       slots_fit(layout, layout->kept_at, layout->kept) &&
	       (uint64_t)layout->size * queues <= file_size;
}

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
