// SPDX-License-Identifier: GPL-2.0-or-later
#include "program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int program_find(const char *name, char *ret, size_t size)
{
	static const char *const places[] = {"", "../libexec/nsgate/"};
	char dir[PATH_MAX];
	const ssize_t length = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	char *slash;

	if (length < 0)
		return -errno;
	dir[length] = '\0';
	slash = strrchr(dir, '/');
	if (!slash)
		return -ENOENT;
	slash[1] = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (snprintf(ret, size, "%s%s%s", dir, places[i], name) < (int)size &&
		    access(ret, X_OK) == 0)
			return 0;
	return -ENOENT;
}
