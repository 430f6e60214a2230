// SPDX-License-Identifier: GPL-2.0-or-later
#include "queue_kernel.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define PROC_CHUNK 4096

/* A decimal number after blanks. Return: what follows it, or NULL. */
static const char *read_column(const char *text, uint32_t *ret)
{
	uint32_t value = 0;

	text += strspn(text, " ");
	if (*text < '0' || *text > '9')
		return NULL;
	for (; *text >= '0' && *text <= '9'; text++)
		value = value * 10 + (uint32_t)(*text - '0');
	*ret = value;
	return text;
}

/*
 * Columns: number, port id, waiting, copy mode, copy range, dropped, user dropped, last id, 1. By
 * hand, because workers read it between packets.
 */
static bool parse_line(const char *line, uint16_t number, struct queue_kernel *ret)
{
	uint32_t of = 0;
	struct queue_kernel read = {0};
	uint32_t *const columns[] = {&of,
				     &read.portid,
				     &read.pending,
				     &read.copy_mode,
				     &read.copy_range,
				     &read.dropped,
				     &read.user_dropped,
				     &read.id_sequence};

	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
		line = read_column(line, columns[i]);
		if (!line || of != number)
			return false;
	}
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
