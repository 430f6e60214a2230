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
static bool parse_line(const char *line, uint32_t *ret_number, struct queue_kernel *ret)
{
	uint32_t *const columns[] = {ret_number,	 &ret->portid,	   &ret->pending,
				     &ret->copy_mode,	 &ret->copy_range, &ret->dropped,
				     &ret->user_dropped, &ret->id_sequence};

	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
		line = read_column(line, columns[i]);
		if (!line)
			return false;
	}
	return true;
}

struct search {
	uint32_t number, stride;
	struct queue_lines *lines;
	bool any;
};

/* Return: which of the queue's numbers that is; NSGATE_FLOW_MAX: none. */
static uint32_t place_of(const struct search *search, uint32_t number)
{
	const uint32_t distance = number - search->number;

	if (number < search->number || distance % search->stride != 0 ||
	    distance / search->stride >= NSGATE_FLOW_MAX)
		return NSGATE_FLOW_MAX;
	return distance / search->stride;
}

static void add_line(struct search *search, const struct queue_kernel *line, uint32_t place)
{
	struct queue_kernel *sum = &search->lines->sum;

	search->any = true;
	search->lines->pending[place] = line->pending;
	search->lines->id_sequence[place] = line->id_sequence;
	sum->portid = line->portid;
	sum->copy_mode = line->copy_mode;
	sum->copy_range = line->copy_range;
	sum->pending += line->pending;
	sum->dropped += line->dropped;
	sum->user_dropped += line->user_dropped;
	sum->id_sequence += line->id_sequence;
}

/* Look through the whole lines in `text`; what follows the last one is moved to its beginning. */
static void parse_lines(char *text, size_t *length, struct search *search)
{
	char *line = text, *end;

	while ((end = memchr(line, '\n', *length - (size_t)(line - text)))) {
		struct queue_kernel read;
		uint32_t number, place;

		*end = '\0';
		if (parse_line(line, &number, &read)) {
			place = place_of(search, number);
			if (place < NSGATE_FLOW_MAX)
				add_line(search, &read, place);
		}
		line = end + 1;
	}
	*length -= (size_t)(line - text);
	memmove(text, line, *length);
}

int queue_kernel_read_lines(int proc_fd, uint16_t number, uint16_t stride, struct queue_lines *ret)
{
	struct queue_lines lines = {.sum = {0}};
	struct search search = {.number = number, .stride = stride, .lines = &lines};
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
			break;
		offset += got;
		held += (size_t)got;
		parse_lines(text, &held, &search);
		if (held == sizeof(text))
			return -EBADMSG;
	}
	if (!search.any)
		return -ENOENT;
	*ret = lines;
	return 0;
}

int queue_kernel_read(int proc_fd, uint16_t number, uint16_t stride, struct queue_kernel *ret)
{
	struct queue_lines lines;
	const int err = queue_kernel_read_lines(proc_fd, number, stride, &lines);

	if (!err)
		*ret = lines.sum;
	return err;
}
