// SPDX-License-Identifier: GPL-2.0-or-later
#include "nsgate/flow.h"

#include <assert.h>

#include "hash.h"

static_assert(NSGATE_LABEL_ACCEPTED(NSGATE_GENERATION_MAX, NSGATE_PATH_MAX - 1) ==
		      NSGATE_LABEL_BITS - 1,
	      "the bits of the last generation are the last");
static_assert(NSGATE_LABEL_ACCEPTED(0, 0) == NSGATE_LABEL_PASSED(0),
	      "bits of any policy stand where those of generation 0 would");

uint32_t nsgate_answer_mark(uint64_t cookie, enum nsgate_answer answer)
{
	const uint64_t parts[] = {cookie, answer};
	const uint64_t hash = hash_bytes((const char *)parts, sizeof(parts));

	/* The lowest bits tell the answers apart, whatever the hash. */
	return ((uint32_t)(hash >> 32) & ~3U) | ((uint32_t)answer + 1);
}
