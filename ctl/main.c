// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nsgatectl: what people and scripts drive nsgate with. A command asks the broker (attach, detach,
 * doctor) on broker.sock or the agent (everything else) on api.sock; two need neither. The exit
 * codes are enum nsgate_status.
 */
#include "ctl/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "client/patience.h"
#include "client/request.h"

static const struct command_option attach_options[] = {
	{"name", "NAME", "name of the attached namespace; default: made from TARGET", false},
	{"policy", "POLICY", "the policy to judge by; default: \"default\"", false},
	{"label", "K=V", "a label for people and for metrics", true},
	{"pending", NULL, "attach even where the policy does not exist yet", false},
	{"allow-host", NULL, "allow the broker's own namespace as TARGET", false},
	{"replace", NULL, "where NAME is in use, move it to this namespace", false},
	{"queue", "N", "number of the (first) queue; default 32768", false},
	{"queues", "N", "number of queues; default 1", false},
	{0},
};
static_assert(sizeof(attach_options) / sizeof(*attach_options) <= COMMAND_OPTIONS_MAX,
	      "command_parse() has room for them");

static const struct command_option detach_options[] = {
	{"all", NULL, "detach everything that is attached", false},
	{0},
};

static const struct command_option rm_options[] = {
	{"force", NULL, "remove it even where namespaces use it", false},
	{0},
};

static const struct command_option metrics_options[] = {
	{"listen", "ADDR:PORT", "serve them by HTTP on this address, as 127.0.0.1:9469", false},
	{"output", "FILE", "into this file, replaced at once: for a textfile collector", false},
	{0},
};

static const struct command_option run_options[] = {
	{"policy", "POLICY", "the policy to judge by; default: \"default\"", false},
	{"name", "NAME", "name of the attached namespace; default: run-PID", false},
	{"label", "K=V", "a label for people and for metrics", true},
	{"pending", NULL, "run even where the policy does not exist yet", false},
	{"network", "veth|none", "connected through this host (the default), or not at all", false},
	{"user", "USER", "run the command as this user, without privileges", false},
	{0},
};

static const struct command_option ready_options[] = {
	{"wait", "SECONDS", "wait so long for them to work", false},
	{0},
};

static const struct command commands[] = {
	{"attach", "TARGET",
	 "judge a namespace's packets: netns:NAME, pid:N, path:/FILE, self, podman:NAME, "
	 "docker:NAME",
	 1, 1, attach_options, ctl_attach},
	{"detach", "NAME | --all", "let go of a namespace, or of every one", 0, 1, detach_options,
	 ctl_detach},
	{"ls", "", "list the attached namespaces", 0, 0, NULL, ctl_ls},
	{"show", "NAME", "what is known of a namespace", 1, 1, NULL, ctl_show},
	{"stats", "[NAME]", "counters of one namespace or of all", 0, 1, NULL, ctl_stats},
	{"policy check", "FILE", "find every problem of a policy, without a daemon", 1, 1, NULL,
	 ctl_policy_check},
	{"policy set", "NAME FILE", "store a policy and put it in force", 2, 2, NULL,
	 ctl_policy_set},
	{"policy get", "NAME", "print a policy as it is stored", 1, 1, NULL, ctl_policy_get},
	{"policy ls", "", "list the policies", 0, 0, NULL, ctl_policy_ls},
	{"policy rm", "NAME", "remove a policy", 1, 1, rm_options, ctl_policy_rm},
	{"namespace policy", "NAME POLICY", "judge a namespace by another policy", 2, 2, NULL,
	 ctl_namespace_policy},
	{"metrics", "", "print the metrics for Prometheus, or serve them", 0, 0, metrics_options,
	 ctl_metrics},
	{"run", "-- CMD...", "run a command in a namespace of its own, under a policy", 1,
	 COMMAND_LINE, run_options, ctl_run},
	{"lend", "NAME -- CMD...", "run a command with a netfilter socket of a namespace", 2,
	 COMMAND_LINE, NULL, ctl_lend},
	{"ready", "", "do broker and agent both work? exits with 3 where not", 0, 0, ready_options,
	 ctl_ready},
	{"doctor", "", "look for what is missing or wrong on this machine", 0, 0, NULL, ctl_doctor},
	{"schema", "", "print the JSON Schema of policies", 0, 0, NULL, ctl_schema},
	{0},
};

static void print_help(void)
{
	printf("usage: nsgatectl [options] COMMAND ...\n\n"
	       "  --runtime-dir DIR   where the daemons' sockets are; default $NSGATE_RUNTIME_DIR "
	       "or "
	       "%s\n"
	       "  --config-dir DIR    where the agent's policies are; default %s\n"
	       "  --timeout SECONDS   %s\n"
	       "  --json              one JSON document on stdout\n"
	       "  --help, --version\n\n"
	       "commands:\n",
	       NSGATE_RUNTIME_DIR, NSGATE_CONFIG_DIR, COMMAND_TIMEOUT_SUMMARY);
	command_list(commands, stdout);
	printf("\nFILE may be \"-\", the standard input. nsgatectl COMMAND --help tells its "
	       "options.\n"
	       "exit: 0 ok, 1 failed, 2 usage, 3 a daemon is unreachable, 4 no such thing, "
	       "5 refused\n");
}

enum {
	OPTION_RUNTIME_DIR = 256,
	OPTION_CONFIG_DIR,
	OPTION_TIMEOUT,
	OPTION_JSON,
	OPTION_HELP,
	OPTION_VERSION,
};

static enum nsgate_status take_timeout(const char *text, struct failure *fail)
{
	enum nsgate_status status = NSGATE_STATUS_OK;
	int ms;

	if (text != NULL)
		status = request_time("--timeout", text, &ms, fail);
	if (text != NULL && status == NSGATE_STATUS_OK)
		patience_set(ms);
	return status;
}

/* The options before the command. Return: -1 go on (optind is at the command), or the exit code. */
static int parse_globals(int argc, char **argv, struct ctl *ctl, struct failure *fail)
{
	static const struct option options[] = {
		{"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
		{"config-dir", required_argument, NULL, OPTION_CONFIG_DIR},
		{"timeout", required_argument, NULL, OPTION_TIMEOUT},
		{"json", no_argument, NULL, OPTION_JSON},
		{"help", no_argument, NULL, OPTION_HELP},
		{"version", no_argument, NULL, OPTION_VERSION},
		{0},
	};
	const char *runtime_dir = NULL;
	int value;

	opterr = 0;
	while ((value = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
		switch (value) {
		case OPTION_RUNTIME_DIR:
			runtime_dir = optarg;
			break;
		case OPTION_CONFIG_DIR:
			ctl->config_dir = optarg;
			break;
		case OPTION_TIMEOUT:
			if (take_timeout(optarg, fail) != NSGATE_STATUS_OK)
				return NSGATE_STATUS_USAGE;
			break;
		case OPTION_JSON:
			ctl->json = true;
			break;
		case OPTION_HELP:
			print_help();
			return NSGATE_STATUS_OK;
		case OPTION_VERSION:
			printf("nsgatectl %s\n", NSGATE_VERSION);
			return NSGATE_STATUS_OK;
		case ':':
			return failure_set(fail, NSGATE_STATUS_USAGE,
					   "%s: it needs a value; see nsgatectl --help",
					   argv[optind - 1]);
		default:
			return failure_set(fail, NSGATE_STATUS_USAGE,
					   "%s: no such option; see nsgatectl --help",
					   argv[optind - 1]);
		}
	}
	ctl->runtime_dir = options_runtime_dir(runtime_dir);
	return -1;
}

static int run(int argc, char **argv, struct ctl *ctl, struct failure *fail)
{
	static struct command_args args;
	const struct command *command;
	int words, code;

	code = parse_globals(argc, argv, ctl, fail);
	if (code >= 0)
		return code;
	argc -= optind;
	argv += optind;

	if (command_group_help(commands, argc, argv, stdout))
		return NSGATE_STATUS_OK;
	command = command_find(commands, argc, argv, &words, fail);
	if (command == NULL)
		return NSGATE_STATUS_USAGE;
	code = command_parse(command, argc - words + 1, argv + words - 1, &args, fail);
	if (code == NSGATE_STATUS_OK && args.help) {
		command_help(command, stdout);
		return NSGATE_STATUS_OK;
	}
	if (code == NSGATE_STATUS_OK)
		code = take_timeout(args.timeout, fail);
	if (code != NSGATE_STATUS_OK)
		return code;
	ctl->json = ctl->json || args.json;
	return command->run(ctl, &args, fail);
}

int main(int argc, char **argv)
{
	const char *no_color = getenv("NO_COLOR");
	struct ctl ctl = {.config_dir = NSGATE_CONFIG_DIR};
	struct failure fail = {0};
	int code;

	ctl.terminal = isatty(STDOUT_FILENO) == 1;
	ctl.colour = ctl.terminal && (no_color == NULL || no_color[0] == '\0');

	code = run(argc, argv, &ctl, &fail);
	if ((fflush(stdout) != 0 || ferror(stdout)) && code == NSGATE_STATUS_OK)
		code = failure_set(&fail, NSGATE_STATUS_FAILED,
				   "standard output: %s; was it closed, or is the disk full?",
				   strerror(errno));
	if (code != NSGATE_STATUS_OK)
		failure_print(&fail, "nsgatectl", stderr);
	failure_free(&fail);
	return code;
}
