/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_PROGRAM_H
#define NSGATE_PROGRAM_H

#include <stddef.h>

/*
 * Where a daemon's helper of that name is: beside it in the build directory, in its own where it
 * is installed. Return: 0; -ENOENT; -errno.
 */
int program_find(const char *name, char *ret, size_t size);

#endif
