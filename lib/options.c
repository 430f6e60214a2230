// SPDX-License-Identifier: GPL-2.0-or-later
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

const char *options_runtime_dir(const char *given)
{
	const char *environment = getenv("NSGATE_RUNTIME_DIR");

	if (given)
		return given;
	return environment && *environment ? environment : NSGATE_RUNTIME_DIR;
}

int options_path(const char *dir, const char *name, char *ret, size_t size)
{
	size_t limit = sizeof(((struct sockaddr_un *)0)->sun_path);
	int length = snprintf(ret, size, "%s/%s", dir, name);

	if (length < 0 || (size_t)length >= size || (size_t)length >= limit)
		return -ENAMETOOLONG;
	return 0;
}
