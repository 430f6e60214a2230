/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing JSON straight into one growing buffer, several times faster than building a tree first.
 * The caller keeps objects and arrays balanced; commas are put by the writer. The first failure
 * (no memory, or the limit) makes every later call do nothing, so only the end need be checked.
 * Whatever bytes go in, valid JSON in UTF-8 comes out.
 */
#ifndef NSGATE_JSON_WRITER_H
#define NSGATE_JSON_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jw {
	char *data;
	size_t used, size;
	size_t limit; /* bytes at most */
	bool comma;   /* one is due before the next value */
	int error;    /* 0, -ENOMEM, or -EFBIG for the limit */
};

void jw_init(struct jw *w, size_t limit);
void jw_free(struct jw *w);

/* `key` is NULL inside arrays and at the top. `bracket` is '{' or '['; '}' or ']'. */
void jw_open(struct jw *w, const char *key, char bracket);
void jw_close(struct jw *w, char bracket);

void jw_string(struct jw *w, const char *key, const char *value); /* NULL is null */
void jw_uint(struct jw *w, const char *key, uint64_t value);
void jw_int(struct jw *w, const char *key, int64_t value);
void jw_bool(struct jw *w, const char *key, bool value);

/* Text outside of JSON's rules: a newline, a line of another format. */
void jw_text(struct jw *w, const char *text, size_t length);

/* Hand over the buffer, NUL-terminated, to be free()d. Return: NULL after a failure. */
char *jw_take(struct jw *w, size_t *ret_length);

#endif
