// SPDX-License-Identifier: GPL-2.0-or-later
#include "ctl/command.h"

#include <getopt.h>
#include <string.h>

/* How many words of argv are the command's name; 0: it is another one. */
static int words_matched(const struct command *command, int argc, char **argv)
{
	const char *space = strchr(command->name, ' ');
	size_t first;

	if (argc < 1)
		return 0;
	if (space == NULL)
		return strcmp(command->name, argv[0]) == 0 ? 1 : 0;

	first = (size_t)(space - command->name);
	if (argc < 2 || strlen(argv[0]) != first || memcmp(command->name, argv[0], first) != 0)
		return 0;
	return strcmp(space + 1, argv[1]) == 0 ? 2 : 0;
}

/* Is `word` the first of a command's two? */
static bool is_group(const struct command *table, const char *word)
{
	size_t length = strlen(word);

	for (; table->name != NULL; table++) {
		if (strncmp(table->name, word, length) == 0 && table->name[length] == ' ')
			return true;
	}
	return false;
}

const struct command *command_find(const struct command *table, int argc, char **argv,
				   int *ret_words, struct failure *fail)
{
	for (const struct command *command = table; command->name != NULL; command++) {
		int words = words_matched(command, argc, argv);

		if (words > 0) {
			*ret_words = words;
			return command;
		}
	}

	if (argc < 1)
		failure_set(fail, NSGATE_STATUS_USAGE, "no command given; see nsgatectl --help");
	else if (!is_group(table, argv[0]))
		failure_set(fail, NSGATE_STATUS_USAGE, "%s: no such command; see nsgatectl --help",
			    argv[0]);
	else if (argc < 2 || argv[1][0] == '-')
		failure_set(fail, NSGATE_STATUS_USAGE,
			    "%s: it needs a second word; see nsgatectl --help", argv[0]);
	else
		failure_set(fail, NSGATE_STATUS_USAGE,
			    "%s %s: no such command; see nsgatectl --help", argv[0], argv[1]);
	return NULL;
}

enum { VALUE_JSON = 256, VALUE_HELP, VALUE_TIMEOUT, VALUE_FIRST };

#define COMMON_OPTIONS 3 /* of every command */

/* The table of getopt_long() for a command. Return: its length without the end mark. */
static unsigned int make_options(const struct command *command, struct option *ret)
{
	unsigned int count = 0;

	ret[count++] = (struct option){"json", no_argument, NULL, VALUE_JSON};
	ret[count++] = (struct option){"help", no_argument, NULL, VALUE_HELP};
	ret[count++] = (struct option){"timeout", required_argument, NULL, VALUE_TIMEOUT};
	for (const struct command_option *option = command->options;
	     option != NULL && option->name != NULL && count < COMMAND_OPTIONS_MAX + COMMON_OPTIONS;
	     option++) {
		ret[count] = (struct option){
			option->name, option->value != NULL ? required_argument : no_argument, NULL,
			VALUE_FIRST + (int)(option - command->options)};
		count++;
	}
	ret[count] = (struct option){0};
	return count;
}

static enum nsgate_status take_option(const struct command *command,
				      const struct command_option *option, const char *value,
				      struct command_args *ret, struct failure *fail)
{
	if (!option->repeats && command_given(ret, option->name))
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "%s: --%s is given twice; give it once", command->name,
				   option->name);
	if (ret->given_count >= COMMAND_VALUES_MAX)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "%s: more than %d options; give fewer", command->name,
				   COMMAND_VALUES_MAX);
	ret->given[ret->given_count].option = option;
	ret->given[ret->given_count].value = value;
	ret->given_count++;
	return NSGATE_STATUS_OK;
}

enum nsgate_status command_parse(const struct command *command, int argc, char **argv,
				 struct command_args *ret, struct failure *fail)
{
	struct option options[COMMAND_OPTIONS_MAX + COMMON_OPTIONS + 1];
	enum nsgate_status status;
	int value;

	*ret = (struct command_args){0};
	make_options(command, options);
	optind = 0; /* glibc: start over */
	opterr = 0;
	while ((value = getopt_long(argc, argv, command->operands_max == COMMAND_LINE ? "+:" : ":",
				    options, NULL)) != -1) {
		switch (value) {
		case VALUE_JSON:
			ret->json = true;
			continue;
		case VALUE_HELP:
			ret->help = true;
			continue;
		case VALUE_TIMEOUT:
			ret->timeout = optarg;
			continue;
		case ':':
			return failure_set(fail, NSGATE_STATUS_USAGE,
					   "%s: %s needs a value; see nsgatectl %s --help",
					   command->name, argv[optind - 1], command->name);
		case '?':
			return failure_set(fail, NSGATE_STATUS_USAGE,
					   "%s: %s: no such option; see nsgatectl %s --help",
					   command->name, argv[optind - 1], command->name);
		default:
			status = take_option(command, &command->options[value - VALUE_FIRST],
					     optarg, ret, fail);
			if (status != NSGATE_STATUS_OK)
				return status;
		}
	}

	ret->operands = argv + optind;
	ret->operand_count = argc - optind;
	if (ret->help)
		return NSGATE_STATUS_OK;
	if (ret->operand_count < command->operands_min)
		return failure_set(fail, NSGATE_STATUS_USAGE, "%s: too few arguments; it takes %s",
				   command->name, command->operands);
	if (ret->operand_count > command->operands_max)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "%s: %s: too many arguments; it takes %s", command->name,
				   ret->operands[command->operands_max],
				   command->operands[0] != '\0' ? command->operands : "none");
	return NSGATE_STATUS_OK;
}

bool command_given(const struct command_args *args, const char *option)
{
	for (unsigned int i = 0; i < args->given_count; i++) {
		if (strcmp(args->given[i].option->name, option) == 0)
			return true;
	}
	return false;
}

const char *command_value(const struct command_args *args, const char *option)
{
	const char *value = NULL;

	for (unsigned int i = 0; i < args->given_count; i++) {
		if (strcmp(args->given[i].option->name, option) == 0)
			value = args->given[i].value;
	}
	return value;
}

void command_help(const struct command *command, FILE *to)
{
	fprintf(to, "usage: nsgatectl %s%s%s%s\n%s\n\n", command->name,
		command->options != NULL ? " [options]" : "",
		command->operands[0] != '\0' ? " " : "", command->operands, command->summary);
	for (const struct command_option *option = command->options;
	     option != NULL && option->name != NULL; option++) {
		char left[40];

		snprintf(left, sizeof(left), "--%s%s%s", option->name,
			 option->value != NULL ? " " : "",
			 option->value != NULL ? option->value : "");
		fprintf(to, "  %-20s %s%s\n", left, option->summary,
			option->repeats ? "; may be repeated" : "");
	}
	fprintf(to, "  %-20s %s\n", "--timeout SECONDS", COMMAND_TIMEOUT_SUMMARY);
	fprintf(to, "  %-20s %s\n", "--json", "one JSON document on stdout");
	fprintf(to, "  %-20s %s\n", "--help", "this text");
}

static void list_one(const struct command *command, FILE *to)
{
	char left[64];

	snprintf(left, sizeof(left), "%s %s", command->name, command->operands);
	fprintf(to, "  %-30s %s\n", left, command->summary);
}

bool command_group_help(const struct command *table, int argc, char **argv, FILE *to)
{
	if (argc < 2 || strcmp(argv[1], "--help") != 0 || !is_group(table, argv[0]))
		return false;
	fprintf(to, "commands, each of which has a --help of its own:\n");
	for (; table->name != NULL; table++)
		if (is_group((const struct command[]){*table, {0}}, argv[0]))
			list_one(table, to);
	return true;
}

void command_list(const struct command *table, FILE *to)
{
	for (; table->name != NULL; table++)
		list_one(table, to);
}
