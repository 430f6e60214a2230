/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory for a block of counters, laid out as this release does. */
#ifndef NSGATE_BLOCK_FIXTURE_H
#define NSGATE_BLOCK_FIXTURE_H

#include <string.h>

#include "nsgate/shm.h"

union block_fixture {
	struct shm_queue block;
	unsigned char bytes[SHM_BLOCK_SIZE];
};

/* All zero. Return: the block. */
static inline struct shm_queue *block_begin(union block_fixture *fixture)
{
	memset(fixture, 0, sizeof(*fixture));
	shm_lay_out(&fixture->block.layout);
	return &fixture->block;
}

#endif
