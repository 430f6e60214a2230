// SPDX-License-Identifier: GPL-2.0-or-later
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static const char *log_program = "nsgate";
static enum log_level log_least = LOG_LEVEL_INFO;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

struct line {
	char text[LINE_MAX_BYTES];
	size_t used;
};

/* Keeps one byte for the newline; what does not fit is cut. */
static void line_put(struct line *line, const char *text, size_t length)
{
	size_t room = sizeof(line->text) - 1 - line->used;

	if (length > room)
		length = room;
	memcpy(line->text + line->used, text, length);
	line->used += length;
}

static void line_puts(struct line *line, const char *text)
{
	line_put(line, text, strlen(text));
}

static bool is_plain(const char *value)
{
	if (!*value)
		return false;
	for (const char *c = value; *c; c++)
		if (*c <= ' ' || *c == '"' || *c == '=' || *c == '\\' || *c >= 0x7f)
			return false;
	return true;
}

/* Values can come from peers: nothing that ends a line or moves a terminal's cursor gets through.
 */
static void line_put_value(struct line *line, const char *value)
{
	if (is_plain(value)) {
		line_puts(line, value);
		return;
	}
	line_puts(line, "\"");
	for (const char *c = value; *c; c++) {
		unsigned char byte = (unsigned char)*c;
		char escaped[5];

		if (byte == '"' || byte == '\\') {
			line_puts(line, "\\");
			line_put(line, c, 1);
		} else if (byte < ' ' || byte >= 0x7f) {
			snprintf(escaped, sizeof(escaped), "\\x%02x", byte);
			line_puts(line, escaped);
		} else {
			line_put(line, c, 1);
		}
	}
	line_puts(line, "\"");
}

void log_setup(const char *program, enum log_level least)
{
	log_program = program;
	log_least = least;
}

void log_event(enum log_level level, const char *event, ...)
{
	struct line line = {.used = 0};
	const char *key;
	va_list pairs;

	if (level > log_least)
		return;
	line_puts(&line, "program=");
	line_puts(&line, log_program);
	line_puts(&line, " level=");
	line_puts(&line, level_names[level]);
	line_puts(&line, " event=");
	line_puts(&line, event);
	va_start(pairs, event);
	while ((key = va_arg(pairs, const char *))) {
		const char *value = va_arg(pairs, const char *);

		if (!value)
			continue;
		line_puts(&line, " ");
		line_puts(&line, key);
		line_puts(&line, "=");
		line_put_value(&line, value);
	}
	va_end(pairs);
	line.text[line.used++] = '\n';
	/* Nothing can be done about a stderr that is gone. */
	if (write(STDERR_FILENO, line.text, line.used) < 0)
		return;
}

const char *log_number(int64_t value)
{
	static __thread char ring[8][24];
	static __thread unsigned int next;
	char *text = ring[next++ % 8];

	snprintf(text, sizeof(ring[0]), "%lld", (long long)value);
	return text;
}

const char *log_errno(int error)
{
	return strerror(error < 0 ? -error : error);
}

static int64_t this_second(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec;
}

bool log_allowed(struct log_limit *limit, unsigned int per_second, unsigned int *ret_suppressed)
{
	const int64_t second = this_second();

	if (second != limit->second) {
		limit->second = second;
		limit->used = 0;
	}
	if (limit->used >= per_second) {
		limit->suppressed++;
		return false;
	}
	limit->used++;
	*ret_suppressed = limit->suppressed;
	limit->suppressed = 0;
	return true;
}

unsigned int log_suppressed(struct log_limit *limit)
{
	const unsigned int suppressed = limit->suppressed;

	if (!suppressed || limit->second == this_second())
		return 0;
	limit->suppressed = 0;
	return suppressed;
}

void die(int code, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", log_program);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(code);
}
