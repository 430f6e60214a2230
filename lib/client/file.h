/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the FILE of a policy command. */
#ifndef NSGATE_CTL_FILE_H
#define NSGATE_CTL_FILE_H

#include <stddef.h>

#include "client/failure.h"

/*
 * Read a file, or the standard input where `path` is "-". At most `max` + 1 bytes are read, so a
 * length above `max` tells of a larger one.
 * @ret: malloc()ed, NUL beyond its end
 * Return: OK, NOT_FOUND or FAILED with the reason in `fail`.
 */
enum nsgate_status file_read(const char *path, size_t max, char **ret, size_t *ret_length,
			     struct failure *fail);

#endif
