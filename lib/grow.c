// SPDX-License-Identifier: GPL-2.0-or-later
#include "grow.h"

#include <errno.h>
#include <string.h>

int grow_to_ours(void *data, size_t length, size_t least, size_t size)
{
	unsigned char *bytes = data;

	if (length < least)
		return -EBADMSG;
	if (length < size)
		memset(bytes + length, 0, size - length);
	for (size_t i = size; i < length; i++)
		if (bytes[i])
			return -E2BIG;
	return 0;
}
