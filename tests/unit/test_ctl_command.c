// SPDX-License-Identifier: GPL-2.0-or-later
/* Finding a command in the table and parsing what follows it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "ctl/command.h"

static const struct command_option attach_options[] = {
	{"name", "NAME", "its name", false},
	{"label", "K=V", "a label", true},
	{"pending", NULL, "a flag", false},
	{0},
};

static const struct command table[] = {
	{"attach", "TARGET", "attach it", 1, 1, attach_options, NULL},
	{"ls", "", "list", 0, 0, NULL, NULL},
	{"policy check", "FILE", "check", 1, 1, NULL, NULL},
	{"policy set", "NAME FILE", "set", 2, 2, NULL, NULL},
	{0},
};

static int count(char **argv)
{
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	return argc;
}

#define WORDS(...) ((char *[]){__VA_ARGS__, NULL})

static const struct command *find(char **argv, int *ret_words, struct failure *fail)
{
	return command_find(table, count(argv), argv, ret_words, fail);
}

static enum nsgate_status parse(const struct command *command, char **argv,
				struct command_args *ret, struct failure *fail)
{
	memset(fail, 0, sizeof(*fail));
	return command_parse(command, count(argv), argv, ret, fail);
}

static void test_finds_by_one_word_and_by_two(void **state)
{
	struct failure fail = {0};
	int words = 0;

	(void)state;
	assert_ptr_equal(find(WORDS("attach", "self"), &words, &fail), &table[0]);
	assert_int_equal(words, 1);
	assert_ptr_equal(find(WORDS("policy", "check", "x"), &words, &fail), &table[2]);
	assert_int_equal(words, 2);
	assert_ptr_equal(find(WORDS("policy", "set"), &words, &fail), &table[3]);
	assert_string_equal(fail.text, "");
}

static void test_tells_what_is_no_command(void **state)
{
	static const struct {
		const char *first, *second, *text;
	} cases[] = {
		{NULL, NULL, "no command given; see nsgatectl --help"},
		{"att", NULL, "att: no such command; see nsgatectl --help"},
		{"", NULL, ": no such command; see nsgatectl --help"},
		{"policy", NULL, "policy: it needs a second word; see nsgatectl --help"},
		{"policy", "--json", "policy: it needs a second word; see nsgatectl --help"},
		{"policy", "chec", "policy chec: no such command; see nsgatectl --help"},
		{"policy check", NULL, "policy check: no such command; see nsgatectl --help"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char first[32] = "", second[32] = "";
		char *argv[] = {first, second, NULL};
		struct failure fail = {0};
		int words, argc = cases[i].first == NULL ? 0 : cases[i].second == NULL ? 1 : 2;

		snprintf(first, sizeof(first), "%s", argc > 0 ? cases[i].first : "");
		snprintf(second, sizeof(second), "%s", argc > 1 ? cases[i].second : "");
		assert_null(command_find(table, argc, argv, &words, &fail));
		assert_string_equal(fail.text, cases[i].text);
	}
}

static void test_parses_options_around_operands(void **state)
{
	struct command_args args;
	struct failure fail;

	(void)state;
	assert_int_equal(parse(&table[0],
			       WORDS("attach", "--label", "a=1", "netns:web", "--name=w", "--json",
				     "--label", "b=2"),
			       &args, &fail),
			 NSGATE_STATUS_OK);
	assert_int_equal(args.operand_count, 1);
	assert_string_equal(args.operands[0], "netns:web");
	assert_true(args.json);
	assert_false(args.help);
	assert_string_equal(command_value(&args, "name"), "w");
	assert_false(command_given(&args, "pending"));
	assert_null(command_value(&args, "pending"));
	assert_int_equal(args.given_count, 3);
	assert_string_equal(args.given[0].value, "a=1");
	assert_string_equal(args.given[2].value, "b=2");

	/* A second parse starts over, and "--" ends the options. */
	assert_int_equal(
		parse(&table[0], WORDS("attach", "--pending", "--", "--name"), &args, &fail),
		NSGATE_STATUS_OK);
	assert_true(command_given(&args, "pending"));
	assert_false(args.json);
	assert_string_equal(args.operands[0], "--name");

	/* "-" is an operand: the standard input. */
	assert_int_equal(parse(&table[2], WORDS("check", "-"), &args, &fail), NSGATE_STATUS_OK);
	assert_string_equal(args.operands[0], "-");

	/* Help asks for no operands. */
	assert_int_equal(parse(&table[0], WORDS("attach", "--help"), &args, &fail),
			 NSGATE_STATUS_OK);
	assert_true(args.help);
}

static void test_refuses_bad_arguments(void **state)
{
	struct command_args args;
	struct failure fail;

	(void)state;
	assert_int_equal(parse(&table[0], WORDS("attach"), &args, &fail), NSGATE_STATUS_USAGE);
	assert_string_equal(fail.text, "attach: too few arguments; it takes TARGET");
	assert_int_equal(parse(&table[1], WORDS("ls", "x"), &args, &fail), NSGATE_STATUS_USAGE);
	assert_string_equal(fail.text, "ls: x: too many arguments; it takes none");
	assert_int_equal(parse(&table[0], WORDS("attach", "self", "--bogus"), &args, &fail),
			 NSGATE_STATUS_USAGE);
	assert_string_equal(fail.text,
			    "attach: --bogus: no such option; see nsgatectl attach --help");
	assert_int_equal(parse(&table[0], WORDS("attach", "self", "--name"), &args, &fail),
			 NSGATE_STATUS_USAGE);
	assert_string_equal(fail.text, "attach: --name needs a value; see nsgatectl attach --help");
	assert_int_equal(parse(&table[0], WORDS("attach", "--name", "a", "--name", "b", "self"),
			       &args, &fail),
			 NSGATE_STATUS_USAGE);
	assert_string_equal(fail.text, "attach: --name is given twice; give it once");
	assert_int_equal(parse(&table[0], WORDS("attach", "self", "--pending=1"), &args, &fail),
			 NSGATE_STATUS_USAGE);
	assert_int_equal(parse(&table[2], WORDS("check", "f", "-x"), &args, &fail),
			 NSGATE_STATUS_USAGE);
}

static void test_prints_help(void **state)
{
	char *text = NULL;
	size_t size;
	FILE *memory = open_memstream(&text, &size);

	(void)state;
	command_help(&table[0], memory);
	command_list(table, memory);
	assert_true(command_group_help(table, 2, WORDS("policy", "--help"), memory));
	assert_false(command_group_help(table, 2, WORDS("policy", "set"), memory));
	assert_false(command_group_help(table, 2, WORDS("ls", "--help"), memory));
	assert_false(command_group_help(table, 1, WORDS("policy"), memory));
	fclose(memory);
	assert_string_equal(text, "usage: nsgatectl attach [options] TARGET\n"
				  "attach it\n"
				  "\n"
				  "  --name NAME          its name\n"
				  "  --label K=V          a label; may be repeated\n"
				  "  --pending            a flag\n"
				  "  --timeout SECONDS    " COMMAND_TIMEOUT_SUMMARY "\n"
				  "  --json               one JSON document on stdout\n"
				  "  --help               this text\n"
				  "  attach TARGET                  attach it\n"
				  "  ls                             list\n"
				  "  policy check FILE              check\n"
				  "  policy set NAME FILE           set\n"
				  "commands, each of which has a --help of its own:\n"
				  "  policy check FILE              check\n"
				  "  policy set NAME FILE           set\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_by_one_word_and_by_two),
		cmocka_unit_test(test_tells_what_is_no_command),
		cmocka_unit_test(test_parses_options_around_operands),
		cmocka_unit_test(test_refuses_bad_arguments),
		cmocka_unit_test(test_prints_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
