/* SPDX-License-Identifier: GPL-2.0-or-later */
/* FNV-1a, 64 bits (draft-eastlake-fnv): tells texts apart that nobody chooses to collide. */
#ifndef NSGATE_HASH_H
#define NSGATE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *bytes, size_t length);

#endif
