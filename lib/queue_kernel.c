// SPDX-License-Identifier: GPL-2.0-or-later
#include "queue_kernel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define PROC_CHUNK 4096

/* Columns: number, port id, waiting, copy mode, copy range, dropped, user dropped, last id, 1. */
static bool parse_line(const char *line, uint16_t number, struct queue_kernel *ret)
{
	unsigned int of;
	struct queue_kernel read;

	if (sscanf(line, "%u %u %u %u %u %u %u %u", &of, &read.portid, &read.pending,
		   &read.copy_mode, &read.copy_range, &read.dropped, &read.user_dropped,
		   &read.id_sequence) != 8 ||
	    of != number)
		return false;
	*ret = read;
	return true;
}

/* Look through the whole lines in `text`; what follows the last one is moved to its beginning. */
static bool parse_lines(char *text, size_t *length, uint16_t number, struct queue_kernel *ret)
{
	char *line = text, *end;

	while ((end = memchr(line, '\n', *length - (size_t)(line - text)))) {
		*end = '\0';
		if (parse_line(line, number, ret))
			return true;
		line = end + 1;
	}
	*length -= (size_t)(line - text);
	memmove(text, line, *length);
	return false;
}

int queue_kernel_read(int proc_fd, uint16_t number, struct queue_kernel *ret)
{
	char text[PROC_CHUNK];
	size_t held = 0;
	off_t offset = 0;

	for (;;) {
		const ssize_t got = pread(proc_fd, text + held, sizeof(text) - held, offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -ENOENT;
		offset += got;
		held += (size_t)got;
		if (parse_lines(text, &held, number, ret))
			return 0;
		if (held == sizeof(text))
			return -EBADMSG;
	}
}
