/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/problems.h"

#define MESSAGE_MAX 400
#define WORD_MAX 32
#define DIGITS_MAX 20 /* of a 64-bit number */

static void append(struct policy_path *path, char c)
{
	if (path->length + 1 < sizeof(path->text))
		path->text[path->length++] = c;
	path->text[path->length] = '\0';
}

size_t policy_path_key(struct policy_path *path, const char *key, size_t length)
{
	size_t before = path->length;

	append(path, '/');
	for (size_t i = 0; i < length; i++) {
		if (key[i] == '~' || key[i] == '/') {
			append(path, '~');
			append(path, key[i] == '~' ? '0' : '1');
		} else {
			append(path, key[i]);
		}
	}
	return before;
}

/* By hand: snprintf() would be a seventh of what a large document costs. */
size_t policy_path_index(struct policy_path *path, size_t index)
{
	size_t before = path->length, at = DIGITS_MAX;
	char digits[DIGITS_MAX];

	do
		digits[--at] = (char)('0' + index % 10);
	while (index /= 10);
	append(path, '/');
	while (at < DIGITS_MAX)
		append(path, digits[at++]);
	return before;
}

void policy_path_pop(struct policy_path *path, size_t length)
{
	path->length = length;
	path->text[length] = '\0';
}

/*
 * Make text that quotes a document fit for a log, a terminal and a JSON string: no control
 * characters (C1 included), and no character that a length limit cut in the middle.
 */
static void clean(char *text)
{
	size_t size, got;

	for (; *text; text += got) {
		unsigned char lead = (unsigned char)*text;

		size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
		for (got = 1; got < size && ((unsigned char)text[got] & 0xc0) == 0x80; got++)
			;
		if (got == size && lead >= 0x20 && lead != 0x7f && (lead < 0x80 || lead >= 0xc2) &&
		    (lead != 0xc2 || (unsigned char)text[1] >= 0xa0))
			continue;
		memset(text, '?', got);
	}
}

void policy_problem(struct policy_problems *problems, const struct policy_path *path,
		    const char *format, ...)
{
	struct policy_problem *problem = &problems->list[problems->count];
	char message[MESSAGE_MAX];
	va_list args;

	problems->total++;
	if (problems->count == POLICY_PROBLEMS_MAX)
		return;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	clean(message);

	problem->pointer = strdup(path->text);
	problem->message = strdup(message);
	if (!problem->pointer || !problem->message) {
		free(problem->pointer);
		free(problem->message);
		return;
	}
	clean(problem->pointer);
	problems->count++;
}

void policy_problems_free(struct policy_problems *problems)
{
	for (size_t i = 0; i < problems->count; i++) {
		free(problems->list[i].pointer);
		free(problems->list[i].message);
	}
	problems->count = 0;
	problems->total = 0;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/*
 * How many letters must be changed, added, left out or swapped with their neighbour to get from
 * one word to the other. Both have at most WORD_MAX letters.
 */
static size_t distance(const char *a, const char *b)
{
	size_t rows[WORD_MAX + 1][WORD_MAX + 1], i, j;

	for (i = 0; i == 0 || a[i - 1]; i++) {
		for (j = 0; j == 0 || b[j - 1]; j++) {
			if (i == 0 || j == 0) {
				rows[i][j] = i + j;
				continue;
			}
			rows[i][j] = least(rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
					   1 + least(rows[i - 1][j], rows[i][j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				rows[i][j] = least(rows[i][j], rows[i - 2][j - 2] + 1);
		}
	}
	return rows[i - 1][j - 1];
}

const char *policy_nearest(const char *word, const char *const *candidates, size_t count)
{
	size_t best = strlen(word) <= 4 ? 2 : 3, found;
	const char *nearest = NULL;

	if (strlen(word) > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		if (strlen(candidates[i]) > WORD_MAX)
			continue;
		found = distance(word, candidates[i]);
		if (found < best) {
			best = found;
			nearest = candidates[i];
		}
	}
	return nearest;
}
