// SPDX-License-Identifier: GPL-2.0-or-later
#include "name.h"

#include <string.h>

#include "nsgate/limits.h"

/* isalnum() would ask the locale. */
static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool name_valid(const char *name)
{
	size_t length = strnlen(name, NSGATE_NAME_MAX);

	if (!length || length == NSGATE_NAME_MAX || !is_alphanumeric(name[0]))
		return false;
	for (size_t i = 1; i < length; i++)
		if (!is_alphanumeric(name[i]) && !strchr("_.-", name[i]))
			return false;
	return true;
}
