/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Aligned columns for people. */
#ifndef NSGATE_CTL_TABLE_H
#define NSGATE_CTL_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum table_tone {
	TABLE_TONE_PLAIN,
	TABLE_TONE_GOOD,
	TABLE_TONE_WARN,
	TABLE_TONE_BAD,
	TABLE_TONE_MAX
};

struct table;

/*
 * @headings: ends with NULL and outlives the table; a heading that starts with '>' is of a column
 * of numbers, aligned to the right
 * Return: NULL without memory, which the other functions take.
 */
struct table *table_new(const char *const *headings);

/* The next cell, row by row. What a terminal would obey is replaced; "" becomes "-". */
void table_text(struct table *table, enum table_tone tone, const char *text);
void table_number(struct table *table, uint64_t number);

/* Print and free. Return: false where memory ran out, now or before. */
bool table_print(struct table *table, FILE *to, bool colour);

/* The escape sequences of a tone: before the text and after. */
const char *table_tone_begin(enum table_tone tone, bool colour);
const char *table_tone_end(enum table_tone tone, bool colour);

#endif
