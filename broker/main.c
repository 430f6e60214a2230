// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * nsgate-broker is the privileged half: it enters network namespaces (in throw-away children),
 * binds queues there, installs rules, hands the queues' sockets to the agent and keeps a dup of
 * each, so that no queue dies with an agent. It reads no packet, no policy and no JSON.
 *
 *   server      broker.sock: who may ask what; discard: closing what strangers sent
 *   attachment  the list of what is attached, and the states that one goes through
 *   attach      the life of an attachment; prepare: its first steps; release: letting go of it;
 *               deferred_close: what is closed later
 *   enforce     which rules are in force, also while no agent is there; audit: whether they still
 *               are
 *   probe       what the kernel has, before anything is changed
 *   netns         entering; queue_setup: binding; rules, nft_*: nftables; links: names of links
 *   records     what is attached, on disk; restore: finding it again; names: noticing that it goes
 *   members     the containers that share a namespace
 *   recover     taking over from a broker before; held: what the agent holds
 *   fdstore     what systemd keeps for us, so that queues outlive both daemons
 *   agent_link  agent.sock: what the agent is told and may say
 *   confine     what the broker gives up; supervise: starting and watching the agent
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/agent_link.h"
#include "broker/attach.h"
#include "broker/audit.h"
#include "broker/broker.h"
#include "broker/confine.h"
#include "broker/enforce.h"
#include "broker/enter.h"
#include "broker/fdstore.h"
#include "daemon.h"
#include "broker/discard.h"
#include "ipc.h"
#include "listen_fds.h"
#include "log.h"
#include "loop.h"
#include "broker/names.h"
#include "notify.h"
#include "options.h"
#include "broker/deferred_close.h"
#include "broker/probe.h"
#include "broker/queue_setup.h"
#include "broker/records.h"
#include "broker/server.h"
#include "broker/supervise.h"
#include "broker/recover.h"
#include "broker/release.h"
#include "timer.h"

static volatile bool stopping;
static bool failed;

static struct {
	bool wanted;
	const char *config_dir; /* NULL: the agent's default */
	char **arguments;	/* after "--", for the agent */
	int watchdog_ms;
	int argument_count;
	pid_t pid;
} supervised = {.watchdog_ms = 10000};

static void usage(FILE *out)
{
	fputs("usage: nsgate-broker [options] [--supervise [-- AGENT-OPTIONS]]\n"
	      "The privileged half of nsgate: enters network namespaces and queues their packets.\n"
	      "\n"
	      "  --runtime-dir DIR     sockets (default $NSGATE_RUNTIME_DIR, "
	      "else " NSGATE_RUNTIME_DIR ")\n"
	      "  --config-dir DIR      accepted like everywhere; the broker reads no "
	      "configuration\n"
	      "  --admin UID           may attach and detach beside root; can be repeated\n"
	      "  --queue-length N      packets that may wait in a queue (default 8192, at most "
	      "65536)\n"
	      "  --netns-dir DIR       where `ip netns` keeps names (default /run/netns)\n"
	      "  --no-owned-tables     make plain tables and repair them, as on kernels before "
	      "6.9\n"
	      "  --no-egress-guard     refuse strict policies, as on kernels before 5.16\n"
	      "  --supervise           run nsgate-agent too, and again whenever it ends; what "
	      "stands\n"
	      "                        behind -- is for it\n"
	      "  --watchdog SECONDS    with --supervise: end an agent that has hung for so long "
	      "(default 10, 0: never)\n"
	      "  --verbose             log more\n"
	      "  --help, --version\n",
	      out);
}

static void take_admin(const char *value)
{
	daemon_add_admin(&broker_config.admins, value);
}

static void take_watchdog(const char *value)
{
	supervised.watchdog_ms = 1000 * (int)daemon_number("--watchdog", value, 0, 86400);
}

/* KERNEL: a queue never holds more than 65,536 packets, whatever it is told. */
static void take_queue_length(const char *value)
{
	broker_config.queue_length = (uint32_t)daemon_number("--queue-length", value, 1, 65536);
}

static void parse_options(int argc, char **argv)
{
	static const struct daemon_option options[] = {
		{.name = "config-dir", .text = &supervised.config_dir},
		{.name = "admin", .take = take_admin},
		{.name = "queue-length", .take = take_queue_length},
		{.name = "netns-dir", .text = &broker_config.netns_dir},
		{.name = "no-owned-tables", .flag = &broker_config.plain_tables},
		{.name = "no-egress-guard", .flag = &broker_config.no_guard},
		{.name = "supervise", .flag = &supervised.wanted},
		{.name = "watchdog", .take = take_watchdog},
	};
	const struct daemon_command_line line = {
		.program = "nsgate-broker",
		.version = NSGATE_VERSION,
		.usage = usage,
		.options = options,
		.option_count = sizeof(options) / sizeof(options[0]),
	};

	broker_config.runtime_dir = daemon_options(argc, argv, &line);
	supervised.arguments = argv + optind;
	supervised.argument_count = argc - optind;
	if (!supervised.wanted)
		daemon_no_arguments(argc, argv);
}

/* The agent beside this very program, told the same directories. */
static void start_agent(void)
{
	char path[4096];
	char *argv[64] = {path, (char[]){"--runtime-dir"}, NULL};
	int n = 2;
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - sizeof("nsgate-agent"));
	char *slash;

	if (!supervised.wanted)
		return;
	path[length < 0 ? 0 : length] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		die(1, "cannot tell where this program is, so neither where nsgate-agent is: mount "
		       "/proc");
	memcpy(slash + 1, "nsgate-agent", sizeof("nsgate-agent"));
	argv[n++] = strdup(broker_config.runtime_dir);
	if (supervised.config_dir) {
		argv[n++] = strdup("--config-dir");
		argv[n++] = strdup(supervised.config_dir);
	}
	for (int i = 0; i < supervised.argument_count; i++) {
		if (n == (int)(sizeof(argv) / sizeof(argv[0])) - 1)
			die(NSGATE_STATUS_USAGE, "too many arguments for the agent");
		argv[n++] = supervised.arguments[i];
	}
	supervised.pid = supervise_start(argv, broker_config.runtime_dir, supervised.watchdog_ms);
	if (supervised.pid == -ENOENT)
		die(1, "nsgate-supervise is neither beside this program nor in "
		       "../libexec/nsgate: install it, and mount /proc");
	if (supervised.pid < 0)
		die(1, "cannot start the agent's supervisor: %s", strerror(-supervised.pid));
}

/* Nothing can be entered any more: the service manager starts both again. */
static void enter_gone(void)
{
	log_event(LOG_LEVEL_ERROR, "enter.gone", "remedy",
		  "nsgate-enter has ended, and so nsgate-broker does: start it again", NULL);
	failed = stopping = true;
}

/* From here on neither of the two is in the host's network namespace. */
static void start_enter(void)
{
	int err = confine_network();

	if (err == -EPERM)
		probe_no_rights();
	daemon_must(err, "cannot make a network namespace for the broker itself");
	err = enter_start();
	if (err == -ENOENT)
		die(1,
		    "nsgate-enter is neither beside this program nor in ../libexec/nsgate: install "
		    "it, and mount /proc");
	daemon_must(err, "cannot start nsgate-enter");
}

static struct timer watchdog;

static void ping_watchdog(struct timer *timer)
{
	const int left = notify_watchdog_tick(NULL);

	if (left >= 0)
		timer_set(timer, loop_now_ms() + left);
}

static void run_loop(void)
{
	watchdog.due = ping_watchdog;
	ping_watchdog(&watchdog);
	while (!stopping) {
		enter_tick();
		timer_run();
		agent_link_pump();
		attach_answer();
		notify_status("%u attached, agent %s", attachment_count(),
			      broker_agent_here ? "connected" : "away");
		if (loop_step(loop_nearest(enter_timeout_ms(), timer_nearest_ms())) < 0)
			break;
	}
}

int main(int argc, char **argv)
{
	char path[108];

	log_setup("nsgate-broker", LOG_LEVEL_INFO);
	parse_options(argc, argv);
	daemon_must(listen_fds_take(), "cannot take over the descriptors that were passed");
	daemon_raise_nofile();
	notify_open();
	probe_cookie();
	start_enter();
	daemon_must(discard_open(), "cannot start what closes strangers' descriptors");
	probe_kernel();
	daemon_lock(broker_config.runtime_dir, "broker", "nsgate-broker");
	start_agent();
	daemon_must(loop_open(), "epoll");
	daemon_must(loop_signals(&stopping, NULL), "signals");
	daemon_must(enter_watch(enter_gone), "cannot watch nsgate-enter");
	daemon_must(records_open(broker_config.runtime_dir),
		    "cannot make the directory of records");
	daemon_must(options_path(broker_config.runtime_dir, "broker.sock", path, sizeof(path)),
		    "the runtime directory's path is too long for a socket");
	daemon_must(server_open(path), "cannot listen on broker.sock");
	attachment_handlers(attach_orphaned, enforce_links);
	fdstore_take();
	(void)listen_fds_close();
	daemon_must(agent_link_open(), "cannot watch the runtime directory");
	daemon_must(names_watch(broker_config.netns_dir, attach_name_removed),
		    "cannot watch the directory of netns names");
	daemon_must(confine_broker(broker_config.runtime_dir), "cannot give up privileges");
	recover_begin();

	log_event(LOG_LEVEL_INFO, "started", "version", NSGATE_VERSION, "runtime_dir",
		  broker_config.runtime_dir, "backend",
		  broker_features.backend == NSGATE_BACKEND_NFT_QUEUE ? "nft-queue" : "nft-xt",
		  "owned_tables", broker_features.owned_tables ? "yes" : "no", NULL);
	notify_send("READY=1");
	run_loop();

	notify_send("STOPPING=1");
	log_event(LOG_LEVEL_INFO, "stopping", NULL);
	supervise_stop(supervised.pid);
	server_close();
	agent_link_close();
	names_close();
	records_close();
	fdstore_close();
	while (attachment_first())
		release(attachment_first());
	enter_stop();
	loop_close();
	return failed;
}
