// SPDX-License-Identifier: GPL-2.0-or-later
#include "ctl/table.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/failure.h"

#define GAP 2 /* spaces between columns */

struct cell {
	char *text;
	enum table_tone tone;
};

struct table {
	const char *const *headings;
	size_t columns, count, capacity;
	struct cell *cells;
	bool failed;
};

static const char *const tones[] = {
	[TABLE_TONE_PLAIN] = "",
	[TABLE_TONE_GOOD] = "\033[32m",
	[TABLE_TONE_WARN] = "\033[33m",
	[TABLE_TONE_BAD] = "\033[31m",
};
static_assert(sizeof(tones) / sizeof(*tones) == TABLE_TONE_MAX, "every tone has its colour");

const char *table_tone_begin(enum table_tone tone, bool colour)
{
	return colour ? tones[tone] : "";
}

const char *table_tone_end(enum table_tone tone, bool colour)
{
	return colour && tone != TABLE_TONE_PLAIN ? "\033[0m" : "";
}

struct table *table_new(const char *const *headings)
{
	struct table *table = calloc(1, sizeof(*table));

	if (table == NULL)
		return NULL;
	table->headings = headings;
	while (headings[table->columns] != NULL)
		table->columns++;
	return table;
}

void table_text(struct table *table, enum table_tone tone, const char *text)
{
	char *copy;

	if (table == NULL || table->failed)
		return;
	if (table->count == table->capacity) {
		size_t capacity = 2 * table->capacity + 64;
		struct cell *grown = reallocarray(table->cells, capacity, sizeof(*grown));

		if (grown == NULL) {
			table->failed = true;
			return;
		}
		table->cells = grown;
		table->capacity = capacity;
	}
	copy = strdup(text != NULL && text[0] != '\0' ? text : "-");
	if (copy == NULL) {
		table->failed = true;
		return;
	}
	text_clean(copy);
	table->cells[table->count++] = (struct cell){copy, tone};
}

void table_number(struct table *table, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	table_text(table, TABLE_TONE_PLAIN, text);
}

/* Columns that UTF-8 text takes: its code points, which is right for most scripts. */
static size_t width_of(const char *text)
{
	size_t width = 0;

	for (; *text != '\0'; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static bool is_number_column(const struct table *table, size_t column)
{
	return table->headings[column][0] == '>';
}

static const char *heading(const struct table *table, size_t column)
{
	return table->headings[column] + is_number_column(table, column);
}

static size_t column_width(const struct table *table, size_t column)
{
	size_t widest = width_of(heading(table, column));

	for (size_t i = column; i < table->count; i += table->columns) {
		size_t width = width_of(table->cells[i].text);

		widest = width > widest ? width : widest;
	}
	return widest;
}

static void print_cell(const struct table *table, size_t column, size_t width, const char *text,
		       enum table_tone tone, FILE *to, bool colour)
{
	int padding = (int)(width - width_of(text));
	bool last = column + 1 == table->columns;
	bool right = is_number_column(table, column);

	fprintf(to, "%*s%s%s%s", right ? padding : 0, "", table_tone_begin(tone, colour), text,
		table_tone_end(tone, colour));
	if (last)
		fputc('\n', to);
	else
		fprintf(to, "%*s", (right ? 0 : padding) + GAP, "");
}

static void table_free(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i].text);
	free(table->cells);
	free(table);
}

bool table_print(struct table *table, FILE *to, bool colour)
{
	size_t *widths;
	bool done = false;

	if (table == NULL)
		return false;
	assert(table->failed || table->count % table->columns == 0);
	widths = calloc(table->columns, sizeof(*widths));
	if (widths != NULL && !table->failed) {
		for (size_t i = 0; i < table->columns; i++)
			widths[i] = column_width(table, i);
		for (size_t i = 0; i < table->columns; i++)
			print_cell(table, i, widths[i], heading(table, i), TABLE_TONE_PLAIN, to,
				   false);
		for (size_t i = 0; i < table->count; i++)
			print_cell(table, i % table->columns, widths[i % table->columns],
				   table->cells[i].text, table->cells[i].tone, to, colour);
		done = true;
	}
	free(widths);
	table_free(table);
	return done;
}
