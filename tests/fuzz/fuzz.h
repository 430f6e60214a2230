/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the fuzz targets have in common: taking an input apart, and saying what must hold. */
#ifndef NSGATE_FUZZ_H
#define NSGATE_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The sanitizer prints the stack of abort(); libFuzzer keeps the input. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,          \
				#condition);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* ---- the input, front to back; zeroes after its end ---- */

struct input {
	const uint8_t *at;
	size_t left;
};

static inline uint32_t input_take(struct input *input, size_t bytes)
{
	uint32_t value = 0;

	for (; bytes > 0; bytes--) {
		value = value << 8 | (input->left ? *input->at : 0);
		if (input->left) {
			input->at++;
			input->left--;
		}
	}
	return value;
}

/* The next `*length` bytes, less where there are less. */
static inline const uint8_t *input_bytes(struct input *input, size_t *length)
{
	const uint8_t *bytes = input->at;

	if (*length > input->left)
		*length = input->left;
	input->at += *length;
	input->left -= *length;
	return bytes;
}

/* ---- policies ---- */

/* The one that uses every match and action (every_match.json); ends in NUL. */
extern const char every_match_json[], every_match_json_end[];

/* Compile a text that must be right; it may use ' for ". */
static inline struct policy *fuzz_compile(const char *text)
{
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;
	char *copy = strdup(text);
	int err;

	MUST(copy);
	for (char *c = copy; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	err = policy_compile(copy, strlen(copy), &policy, &problems);
	for (size_t i = 0; i < problems.count; i++)
		fprintf(stderr, "%s: %s\n", problems.list[i].pointer, problems.list[i].message);
	MUST(err == 0);
	free(copy);
	return policy;
}

#endif
