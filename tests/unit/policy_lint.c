/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hold policy files against the parser: one line each, "good FILE" or "bad FILE POINTER: MESSAGE",
 * with a line for every problem. Without a file: the name of every match, one each line. For
 * schema_parity.py, which compares that with the schema.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nsgate/limits.h"
#include "policy/match.h"

static char text[2 * NSGATE_POLICY_BYTES_MAX];

static int lint(const char *file)
{
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;
	size_t length;
	FILE *stream;
	int err;

	stream = fopen(file, "re");
	if (!stream) {
		perror(file);
		return -1;
	}
	length = fread(text, 1, sizeof(text), stream);
	fclose(stream);

	err = policy_compile(text, length, &policy, &problems);
	if (err == 0)
		printf("good %s\n", file);
	for (size_t i = 0; i < problems.count; i++)
		printf("bad %s %s: %s\n", file, problems.list[i].pointer, problems.list[i].message);
	if (err < 0 && problems.count == 0)
		printf("error %s %s\n", file, strerror(-err));
	policy_unref(policy);
	policy_problems_free(&problems);
	return 0;
}

int main(int argc, char **argv)
{
	int status = EXIT_SUCCESS;

	for (int field = 0; argc == 1 && field < POLICY_FIELD_MAX; field++)
		printf("%s\n", policy_matches[field].name);
	for (int i = 1; i < argc; i++) {
		if (lint(argv[i]) < 0)
			status = EXIT_FAILURE;
	}
	return status;
}
