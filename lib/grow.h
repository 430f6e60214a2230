/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Structs that another release may have written shorter or longer than we know them, as clone3()
 * and openat2() have it. doc/FORMATS.md is the prose.
 */
#ifndef NSGATE_GROW_H
#define NSGATE_GROW_H

#include <stddef.h>

/*
 * Make a struct that came with `length` bytes one of ours, of `size`: what it lacks is zero.
 * @data: room for the larger of the two
 * @least: its size in the first release that had it; who wrote less wrote something else
 * Return: 0; -EBADMSG too short; -E2BIG something is said behind what we know. All that we know is
 * there then, and may be used where the rest may be ignored.
 */
int grow_to_ours(void *data, size_t length, size_t least, size_t size);

#endif
