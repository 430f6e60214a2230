/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of subcommands: finding one by its words, parsing what follows, printing its help. */
#ifndef NSGATE_CTL_COMMAND_H
#define NSGATE_CTL_COMMAND_H

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

#include "client/failure.h"

struct ctl;
struct command_args;

typedef int command_fn(const struct ctl *ctl, const struct command_args *args,
		       struct failure *fail);

#define COMMAND_OPTIONS_MAX 12
#define COMMAND_VALUES_MAX 512
#define COMMAND_TIMEOUT_SUMMARY "how long to wait for a daemon's answer; default 5"

/*
 * As operands_max: the operands end in a command line with options of its own, so nothing behind
 * the first operand is an option of ours.
 */
#define COMMAND_LINE INT_MAX

struct command_option {
	const char *name;  /* without the dashes; NULL ends the list */
	const char *value; /* what to call its value in the help; NULL: it takes none */
	const char *summary;
	bool repeats;
};

struct command {
	const char *name;     /* one word or two: "policy check"; NULL ends the table */
	const char *operands; /* as the help shows them */
	const char *summary;
	int operands_min, operands_max;	      /* max may be COMMAND_LINE */
	const struct command_option *options; /* NULL: none */
	command_fn *run;
};

struct command_args {
	char **operands;
	int operand_count;
	bool json, help;
	const char *timeout; /* the value of --timeout; NULL: not given */
	struct {
		const struct command_option *option;
		const char *value; /* NULL for an option that takes none */
	} given[COMMAND_VALUES_MAX];
	unsigned int given_count;
};

/*
 * Find the command that `argv` starts with.
 * @ret_words: how many words of argv its name took
 * Return: NULL where there is none, with the reason in `fail`.
 */
const struct command *command_find(const struct command *table, int argc, char **argv,
				   int *ret_words, struct failure *fail);

/*
 * Parse a command's options and operands; argv[0] is the last word of its name. The arguments may
 * be put in another order; `ret` points into them.
 */
enum nsgate_status command_parse(const struct command *command, int argc, char **argv,
				 struct command_args *ret, struct failure *fail);

/* Was the option given? Its value is that of its last use; NULL: not given, or takes none. */
bool command_given(const struct command_args *args, const char *option);
const char *command_value(const struct command_args *args, const char *option);

void command_help(const struct command *command, FILE *to);

/*
 * Are these the first of two words of some commands, and --help? Then list those.
 * Return: whether they are.
 */
bool command_group_help(const struct command *table, int argc, char **argv, FILE *to);

/* One line for each command. */
void command_list(const struct command *table, FILE *to);

#endif
