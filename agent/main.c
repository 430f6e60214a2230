// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * nsgate-agent judges the packets of every attached namespace.
 *
 *   kernel -> queue (receive a batch) -> nfq (attributes) -> pkt (headers) -> policy (decide)
 *          -> queue (verdicts of the batch in one send) -> counters -> stats -> api
 *
 * Workers (worker.c) do the first line, one thread per core, and know nothing else. The control
 * thread, which is this one, does the rest: policies (store), namespaces (ns), the broker's
 * connection (broker_link), the HTTP API (api). It reaches into a worker only between two of its
 * turns.
 *
 * Privileges go in stages (confine.h): everything that needs root is opened first.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/api/api.h"
#include "agent/broker_link.h"
#include "agent/confine.h"
#include "agent/event.h"
#include "agent/front.h"
#include "daemon.h"
#include "ipc.h"
#include "listen_fds.h"
#include "log.h"
#include "loop.h"
#include "notify.h"
#include "agent/notify_relay.h"
#include "agent/ns/ns.h"
#include "agent/ns/policy.h"
#include "agent/ns/serve.h"
#include "options.h"
#include "agent/packet_log.h"
#include "agent/store/store.h"
#include "agent/store/good.h"
#include "agent/worker/worker.h"

#define WORKERS_MAX 64
#define LISTEN_TRIES 100
#define LISTEN_PAUSE_NS 10000000L

struct agent_status agent_status;

static struct {
	const char *runtime_dir;
	const char *config_dir;
	const char *user;
	const char *group;
	unsigned int workers;
	struct daemon_admins admins;
	/* resolved */
	uid_t uid;
	gid_t gid, socket_gid;
} config = {.runtime_dir = NSGATE_RUNTIME_DIR, .config_dir = NSGATE_CONFIG_DIR};

static volatile bool stopping;
static bool failed;
static struct worker *workers[2 * WORKERS_MAX]; /* the second half for flooded queues */
static unsigned int worker_count;

/* ---- options ---- */

static void usage(FILE *out)
{
	fputs("usage: nsgate-agent [options]\n"
	      "Judges the packets of every attached namespace and serves statistics.\n"
	      "\n"
	      "  --runtime-dir DIR     sockets (default $NSGATE_RUNTIME_DIR, "
	      "else " NSGATE_RUNTIME_DIR ")\n"
	      "  --config-dir DIR      policies are DIR/policies/NAME.json "
	      "(default " NSGATE_CONFIG_DIR ")\n"
	      "  --user USER           run as (default nsgate, else nobody)\n"
	      "  --group GROUP         members may read the API (default: the user's group)\n"
	      "  --admin UID           may change things by the API beside root; can be repeated\n"
	      "  --default-policy ACT  drop (default) or accept, for a namespace whose policy is "
	      "missing\n"
	      "  --workers N           threads that judge packets (default: one per core)\n"
	      "  --verbose             log more\n"
	      "  --help, --version\n",
	      out);
}

static void take_default_policy(const char *text)
{
	if (strcmp(text, "accept") != 0 && strcmp(text, "drop") != 0)
		die(NSGATE_STATUS_USAGE, "--default-policy: %s is neither accept nor drop", text);
	agent_status.default_accept = strcmp(text, "accept") == 0;
}

static void take_workers(const char *value)
{
	config.workers = (unsigned int)daemon_number("--workers", value, 1, WORKERS_MAX);
}

static void take_admin(const char *value)
{
	daemon_add_admin(&config.admins, value);
}

static void parse_options(int argc, char **argv)
{
	static const struct daemon_option options[] = {
		{.name = "config-dir", .text = &config.config_dir},
		{.name = "user", .text = &config.user},
		{.name = "group", .text = &config.group},
		{.name = "admin", .take = take_admin},
		{.name = "default-policy", .take = take_default_policy},
		{.name = "workers", .take = take_workers},
	};
	const struct daemon_command_line line = {
		.program = "nsgate-agent",
		.version = NSGATE_VERSION,
		.usage = usage,
		.options = options,
		.option_count = sizeof(options) / sizeof(options[0]),
	};

	config.runtime_dir = daemon_options(argc, argv, &line);
	daemon_no_arguments(argc, argv);
}

/* Not started as root: nothing is left to become. */
static void keep_user(void)
{
	if (config.user || config.group)
		die(NSGATE_STATUS_USAGE,
		    "--user and --group are for an agent that is started as root: say them to "
		    "whoever starts this one");
	config.uid = geteuid();
	config.gid = getegid();
	config.socket_gid = getegid();
}

static void resolve_user(void)
{
	const char *wanted = config.user ? config.user : "nsgate";
	const struct passwd *user;

	if (geteuid() != 0) {
		keep_user();
		return;
	}
	user = getpwnam(wanted);
	if (!user) {
		user = getpwnam("nobody");
		log_event(LOG_LEVEL_WARNING, "user.missing", "user", wanted, "instead", "nobody",
			  "remedy", "make the user with: useradd --system --no-create-home nsgate",
			  NULL);
	}
	if (!user)
		die(1, "neither user %s nor nobody exists: name one with --user", wanted);
	if (user->pw_uid == 0)
		die(NSGATE_STATUS_USAGE, "--user %s is root: the agent must not be", user->pw_name);
	config.uid = user->pw_uid;
	config.gid = user->pw_gid;
	config.socket_gid = user->pw_gid;
	if (config.group) {
		const struct group *group = getgrnam(config.group);

		if (!group)
			die(1, "group %s does not exist: make it, or leave --group out",
			    config.group);
		config.socket_gid = group->gr_gid;
	}
}

/* ---- what needs root ---- */

/* The one that a supervisor passed under that name, else one of our own. */
static int listen_on(const char *name, int type, mode_t mode, gid_t group)
{
	char path[108];
	int fd = listen_fds_claim_socket(name, type);

	if (fd == -EPROTOTYPE)
		die(1,
		    "what was passed as %s is not a listening unix socket of its type: look at "
		    "the socket units",
		    name);
	if (fd >= 0) {
		if (type == SOCK_STREAM)
			(void)ipc_pass_rights(fd, false);
		return fd;
	}
	daemon_must(options_path(config.runtime_dir, name, path, sizeof(path)),
		    "the runtime directory's path is too long for a socket");
	/* What stood before an agent that was just killed may listen for a moment longer. */
	for (int tries = 0; tries <= LISTEN_TRIES; tries++) {
		fd = ipc_listen(path, type, mode, geteuid(), group);
		if (fd != -EADDRINUSE)
			break;
		nanosleep(&(const struct timespec){.tv_nsec = LISTEN_PAUSE_NS}, NULL);
	}
	if (fd < 0)
		die(1, "cannot listen on %s: %s%s", path, strerror(-fd),
		    geteuid() ? ": run as root, or have the socket passed" : "");
	return fd;
}

static void start_front(int fds[NSGATE_FRONT_MAX])
{
	const int err = front_open(fds, config.uid, config.gid);

	if (err == -ENOENT)
		die(1, "nsgate-front is neither beside this program nor in ../libexec/nsgate, and "
		       "this kernel needs it: install it, and mount /proc");
	daemon_must(err, "cannot start nsgate-front");
}

/* Worth an entry in the log, and no reason to judge no packets. */
static void open_last_good(void)
{
	const int err = store_good_open(config.runtime_dir, config.uid, config.gid);

	if (err)
		log_event(LOG_LEVEL_WARNING, "policies.not_kept", "dir", config.runtime_dir,
			  "error", log_errno(err), "note",
			  "an agent that starts and finds a policy's file bad has no version of it",
			  "remedy", "let the agent's user write to last-good there", NULL);
}

static void policy_changed(const char *name, struct policy *policy)
{
	ns_policy_changed(name, policy, NULL);
}

/* The store has logged it; those who read events are told by the namespaces that it concerns. */
static void policy_problem(const char *name, const char *problem)
{
	const char *kind = problem ? "policy.bad" : "policy.mended";
	char detail[NSGATE_TEXT_MAX + NSGATE_NAME_MAX];
	bool is_bound = false;

	snprintf(detail, sizeof(detail), "%s%s%s", name, problem ? ": " : "",
		 problem ? problem : "");
	for (const struct ns *ns = ns_first(); ns; ns = ns->next) {
		if (strcmp(ns->record.policy, name) != 0)
			continue;
		api_event_note(kind, ns->record.name, detail);
		is_bound = true;
	}
	if (!is_bound)
		api_event_note(kind, NULL, detail);
}

/* ---- the control thread's sources ---- */

static struct loop_source api_source, store_source, event_sources[2 * WORKERS_MAX];
static struct loop_source front_sources[NSGATE_FRONT_MAX];

/* What the broker said before somebody asks is known when he is answered. */
static void serve_api(void)
{
	broker_link_read();
	api_run();
}

static void api_ready(struct loop_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	serve_api();
}

static void store_ready(struct loop_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	store_reload();
}

/* A flood that is logged must not keep the control thread from all else. */
#define EVENTS_AT_ONCE 256

static void events_ready(struct loop_source *source, uint32_t events)
{
	struct event_ring *ring = worker_events(workers[source - event_sources]);
	struct event event;
	unsigned int taken = 0;

	(void)events;
	for (; taken < EVENTS_AT_ONCE && event_ring_get(ring, &event); taken++)
		packet_log(&event);
	if (taken == EVENTS_AT_ONCE)
		event_ring_later(ring);
	agent_status.events_lost += event_ring_lost(ring);
	if (event_ring_poked(ring))
		ns_rebalance();
}

static void start_workers(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (!config.workers)
		config.workers = cores < 1	       ? 1
				 : cores > WORKERS_MAX ? WORKERS_MAX
						       : (unsigned int)cores;
	worker_count = 2 * config.workers;
	for (unsigned int i = 0; i < worker_count; i++) {
		const bool for_floods = i >= config.workers;

		workers[i] = worker_start(for_floods ? i - config.workers : i, for_floods);
		if (!workers[i])
			die(1, "cannot start a worker thread: %s", strerror(errno));
		event_sources[i].ready = events_ready;
		daemon_must(loop_add(&event_sources[i], event_ring_fd(worker_events(workers[i])),
				     EPOLLIN),
			    "epoll");
	}
	agent_status.workers = config.workers;
	ns_open(workers, workers + config.workers, config.workers, api_event_note);
}

static void watch_sources(void)
{
	api_source.ready = api_ready;
	store_source.ready = store_ready;
	daemon_must(loop_add(&api_source, api_fd(), EPOLLIN), "epoll");
	daemon_must(loop_add(&store_source, store_inotify_fd(), EPOLLIN), "epoll");
}

/* Nobody can ask any more. Whoever starts the agent starts both again, and no packet is lost. */
static void front_gone(struct loop_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	if (!failed)
		log_event(LOG_LEVEL_ERROR, "front.gone", "remedy",
			  "nsgate-front has ended, and so nsgate-agent does: start it again", NULL);
	failed = stopping = true;
}

/* What it says is the API's to read; that it has ended comes unasked. */
static void watch_front(const int fds[NSGATE_FRONT_MAX])
{
	for (unsigned int i = 0; front_is_open() && i < NSGATE_FRONT_MAX; i++) {
		front_sources[i].ready = front_gone;
		daemon_must(loop_add(&front_sources[i], fds[i], 0), "epoll");
	}
}

/* In the thread that it is called in. `arg`: int *, what confine_files() says. */
static void confine_thread(void *arg)
{
	*(int *)arg = confine_files(store_dir_fd(), store_good_dir_fd());
}

static void confine(void)
{
	int abi;

	daemon_must(confine_user(config.uid, config.gid), "cannot become the unprivileged user");
	start_workers();
	for (unsigned int i = 0; i < worker_count; i++) {
		worker_call(workers[i], confine_thread, &abi);
		daemon_must(abi, "Landlock");
	}
	confine_thread(&abi);
	daemon_must(abi, "Landlock");
	daemon_must(confine_file_size(NSGATE_POLICY_BYTES_MAX), "cannot limit the size of files");
	daemon_must(confine_syscalls(), "cannot install the seccomp filter");
	log_event(LOG_LEVEL_INFO, "confined", "uid", log_number(config.uid), "landlock_abi",
		  log_number(abi), NULL);
}

static void reload(void)
{
	notify_reload(store_reload);
}

/* Have all of them gone round since they were asked last? That we ask at all is our own sign. */
static bool workers_alive(void)
{
	bool alive = true;

	for (unsigned int i = 0; i < worker_count; i++)
		alive = alive && worker_answered(workers[i]);
	for (unsigned int i = 0; alive && i < worker_count; i++)
		worker_ask(workers[i]);
	return alive;
}

static int timeout_ms(void)
{
	const int own = loop_nearest(ns_timeout_ms(), packet_log_timeout_ms());

	return loop_nearest(loop_nearest(api_timeout_ms(), own),
			    notify_watchdog_tick(workers_alive));
}

/*
 * Nothing that a handler leaves undone waits for the next event. Each of these steps may leave
 * something to the ones below it; the last one, which says to the broker what all others want said,
 * leaves nothing but what the socket cannot take, and the loop wakes when it can.
 */
static void finish_turn(void)
{
	ns_tick();
	packet_log_tick();
	if (api_timeout_ms() == 0)
		serve_api();
	broker_link_pump();
}

static void run(void)
{
	while (!stopping && loop_step(timeout_ms()) == 0) {
		finish_turn();
		notify_status("%zu attached, broker %s", ns_count(),
			      broker_link_ready() ? "connected" : "away");
	}
}

int main(int argc, char **argv)
{
	struct api_config api = {.admins = &config.admins};
	int agent_fd, clients[NSGATE_FRONT_MAX];
	uid_t started_by = geteuid();

	log_setup("nsgate-agent", LOG_LEVEL_INFO);
	/*
	 * No lists of small chunks kept apart: a large policy's document is a hundred thousand of
	 * them, and to sort these in again with the rest was a fifth of what reading it cost.
	 */
#ifdef M_MXFAST /* glibc's */
	(void)mallopt(M_MXFAST, 0);
#endif
	parse_options(argc, argv);
	if (started_by != 0 && !confine_may_judge())
		die(NSGATE_STATUS_REFUSED,
		    "must be started as root: it keeps CAP_NET_ADMIN alone and becomes "
		    "an unprivileged user by itself; or as that user, with CAP_NET_ADMIN and all "
		    "sockets passed, as the systemd units do");
	daemon_must(listen_fds_take(), "cannot take over the sockets that were passed");
	resolve_user();
	daemon_raise_nofile();
	notify_open();
	daemon_must(notify_relay_open(config.uid, config.gid), "cannot start what notifies");
	if (started_by == 0) {
		daemon_lock(config.runtime_dir, "agent", "nsgate-agent");
		daemon_must(confine_network(), "cannot make an empty network namespace");
	}
	daemon_must(loop_open(), "epoll");
	daemon_must(loop_signals(&stopping, reload), "signals");
	daemon_must(store_open(config.config_dir, config.uid, config.gid, policy_changed),
		    "cannot open the policy directory");
	open_last_good();
	clients[NSGATE_FRONT_API] = listen_on("api.sock", SOCK_STREAM, 0660, config.socket_gid);
	clients[NSGATE_FRONT_STATS] = listen_on("stats.sock", SOCK_STREAM, 0660, config.socket_gid);
	agent_fd = listen_on("agent.sock", SOCK_SEQPACKET, 0600, getegid());
	(void)listen_fds_close();
	start_front(clients);
	api.api_fd = clients[NSGATE_FRONT_API];
	api.stats_fd = clients[NSGATE_FRONT_STATS];
	confine();
	store_on_problem(policy_problem);
	store_load();
	daemon_must(api_start(&api), "cannot start the API");
	daemon_must(broker_link_open(agent_fd), "epoll");
	watch_sources();
	watch_front(clients);

	agent_status.started_at = time(NULL);
	log_event(LOG_LEVEL_INFO, "started", "version", NSGATE_VERSION, "runtime_dir",
		  config.runtime_dir, "workers", log_number(config.workers), NULL);
	notify_send("READY=1");
	run();

	notify_send("STOPPING=1");
	log_event(LOG_LEVEL_INFO, "stopping", NULL);
	/* No packet is lost: what the workers have read they finish; the rest waits in the kernel.
	 */
	ns_close();
	for (unsigned int i = 0; i < worker_count; i++)
		worker_stop(workers[i]);
	api_stop();
	broker_link_close();
	store_close();
	store_good_close();
	loop_close();
	return failed;
}
