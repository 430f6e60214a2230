// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nsgatectl run: a command in a network namespace of its own, judged from its first packet.
 *
 * Theory of Operation
 *
 *      nsgatectl                                the command to be
 *      fork                             ->      unshare the network
 *                                       <-      WORD_UNSHARED
 *      attach its namespace (by pidfd)
 *      veth pair, masquerade
 *      struct go                        ->      lo, eth0, addresses, routes; user; exec
 *      end of file, or why not          <-
 *      pass signals on, wait
 *      end what it left running, detach, remove the pair
 *
 * No link of the namespace is up before its rules are in force. nsgatectl adopts what the command
 * leaves behind (a child subreaper), so the end of the command is the end of its namespace. Should
 * nsgatectl be killed, the kernel kills the command, and the broker lets go of the namespace.
 */
#include "ctl/run.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl/attach.h"
#include "ctl/ctl.h"
#include "client/dial.h"
#include "ipc.h"
#include "client/query.h"
#include "client/target.h"
#include "ctl/wire.h"

#define DETACH_ID 2
#define LEFTOVERS_DEADLINE_S 5
#define RESOLV_CONF "/etc/resolv.conf"
#define RESOLV_CONF_UPSTREAM "/run/systemd/resolve/resolv.conf" /* see systemd-resolved(8) */

/* What the child says: how far it has come, or what stopped it. */
enum word_kind { WORD_UNSHARED, WORD_NO_UNSHARE, WORD_NO_NETWORK, WORD_NO_USER, WORD_NO_EXEC };

struct word {
	enum word_kind kind;
	int error; /* errno */
};

/* What the child is told: the namespace is attached. */
struct go {
	bool has_wire;
	struct wire wire; /* its numbers; nothing in it is used but them */
};

struct run {
	const struct ctl *ctl;
	char **command;
	const struct passwd *user; /* NULL: as we are */
	bool connected;
	sigset_t passed, before; /* signals that are passed on; the mask to give back */
	pid_t pid;
	int channel; /* to the child; close-on-exec at its end */
	struct nsgate_msg_attach attach;
	bool attached;
	struct wire wire;
};

/* ---- the child ---- */

static void say(int channel, enum word_kind kind, int error)
{
	struct word word = {.kind = kind, .error = error};

	if (send(channel, &word, sizeof(word), MSG_NOSIGNAL) != sizeof(word))
		_exit(RUN_FAILED);
}

static bool only_loopback_resolvers(void)
{
	FILE *file = fopen(RESOLV_CONF, "re");
	char line[256], server[128];
	bool local = false, other = false;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, " nameserver %127s", server) != 1)
			continue;
		if (strncmp(server, "127.", 4) == 0 || strcmp(server, "::1") == 0)
			local = true;
		else
			other = true;
	}
	if (file != NULL)
		fclose(file);
	return local && !other;
}

/*
 * A resolver on the host's loopback is out of reach inside. Where systemd-resolved is one, it names
 * those that it asks itself. Without success the command has no names, and says so itself.
 */
static void give_resolvers(void)
{
	if (!only_loopback_resolvers() || access(RESOLV_CONF_UPSTREAM, R_OK) < 0 ||
	    unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return;
	if (mount(RESOLV_CONF_UPSTREAM, RESOLV_CONF, NULL, MS_BIND, NULL) < 0)
		fprintf(stderr, "nsgatectl: " RESOLV_CONF ": %s; names will not resolve inside\n",
			strerror(errno));
}

static int become(const struct passwd *user)
{
	if (initgroups(user->pw_name, user->pw_gid) < 0 || setgid(user->pw_gid) < 0 ||
	    setuid(user->pw_uid) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

/* Also where the parent has gone already. The kernel forgets it when the uid changes. */
static void end_with_parent(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(RUN_FAILED);
}

static void be_command(const struct run *run, pid_t parent, int channel)
{
	struct go go;
	int err;

	if (unshare(CLONE_NEWNET) < 0) {
		say(channel, WORD_NO_UNSHARE, errno);
		_exit(RUN_FAILED);
	}
	say(channel, WORD_UNSHARED, 0);
	if (recv(channel, &go, sizeof(go), 0) != sizeof(go))
		_exit(RUN_FAILED); /* nsgatectl gave up */
	err = wire_inside(go.has_wire ? &go.wire : NULL);
	if (err != 0) {
		say(channel, WORD_NO_NETWORK, -err);
		_exit(RUN_FAILED);
	}
	if (go.has_wire)
		give_resolvers();
	err = run->user != NULL ? become(run->user) : 0;
	if (err != 0) {
		say(channel, WORD_NO_USER, -err);
		_exit(RUN_FAILED);
	}
	end_with_parent(parent);
	sigprocmask(SIG_SETMASK, &run->before, NULL);
	execvp(run->command[0], run->command);
	say(channel, WORD_NO_EXEC, errno);
	_exit(RUN_FAILED);
}

static enum nsgate_status start_child(struct run *run, struct failure *fail)
{
	pid_t parent = getpid();
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return failure_set(fail, NSGATE_STATUS_FAILED, "socketpair: %s; raise ulimit -n",
				   strerror(errno));
	run->pid = fork();
	if (run->pid == 0) {
		close(ends[0]);
		end_with_parent(parent);
		be_command(run, parent, ends[1]);
	}
	close(ends[1]);
	run->channel = ends[0];
	if (run->pid < 0)
		return failure_set(fail, NSGATE_STATUS_FAILED, "fork: %s; raise ulimit -u",
				   strerror(errno));
	return NSGATE_STATUS_OK;
}

/* ---- beginning ---- */

/* Return: true with the child's word; false where its end is closed: it runs, or has died. */
static bool hear(const struct run *run, struct word *ret)
{
	return recv(run->channel, ret, sizeof(*ret), 0) == sizeof(*ret);
}

static enum nsgate_status await_unshared(const struct run *run, struct failure *fail)
{
	struct word word;

	if (!hear(run, &word))
		return failure_set(fail, NSGATE_STATUS_FAILED,
				   "the command's process ended early; try again");
	if (word.kind == WORD_UNSHARED)
		return NSGATE_STATUS_OK;
	return failure_set(fail, NSGATE_STATUS_FAILED, "a network namespace: %s; run as root",
			   strerror(word.error));
}

static enum nsgate_status attach(struct run *run, const struct command_args *args,
				 struct failure *fail)
{
	enum nsgate_status status;
	struct target target;
	char text[32];
	int fd;

	snprintf(text, sizeof(text), "pid:%d", (int)run->pid);
	status = target_parse(text, &target, fail);
	snprintf(target.name, sizeof(target.name), "run-%d", (int)run->pid);
	if (status == NSGATE_STATUS_OK)
		status = attach_build(args, &target, &run->attach, fail);
	if (status == NSGATE_STATUS_OK)
		status = target_open(&target, &fd, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	status = dial_once(run->ctl->runtime_dir, &run->attach.header, &fd, 1, fail);
	fd_close(&fd);
	run->attached = status == NSGATE_STATUS_OK;
	return status;
}

int run_exec_failed(const char *command, int error, struct failure *fail)
{
	failure_set(fail, NSGATE_STATUS_FAILED, "%s: %s", command,
		    error == ENOENT ? "no such command; check its name and PATH" : strerror(error));
	return error == ENOENT ? RUN_NOT_FOUND : RUN_NOT_INVOKED;
}

/* Return: 0 where the command runs, or the exit code with the reason in `fail`. */
static int let_go(const struct run *run, struct failure *fail)
{
	struct go go = {.has_wire = run->connected, .wire = run->wire};
	struct word word;

	if (send(run->channel, &go, sizeof(go), MSG_NOSIGNAL) != sizeof(go) || !hear(run, &word))
		return 0; /* where it has died, waiting for it tells how */
	if (word.kind == WORD_NO_EXEC)
		return run_exec_failed(run->command[0], word.error, fail);
	failure_set(fail, NSGATE_STATUS_FAILED, "%s: %s",
		    word.kind == WORD_NO_USER ? "--user" : "the network inside",
		    strerror(word.error));
	return RUN_FAILED;
}

/* ---- while it runs ---- */

/* The terminal's signals reach the command by themselves: it is in the same process group. */
static void pass_on(const struct run *run, const siginfo_t *info)
{
	if (info->si_code <= 0)
		kill(run->pid, info->si_signo);
}

/* Also reaps what the command leaves to us. Return: its exit code, as a shell would tell it. */
static int wait_for(const struct run *run)
{
	siginfo_t info;
	int status;

	for (;;) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid == run->pid)
			return WIFEXITED(status) ? WEXITSTATUS(status)
						 : RUN_SIGNALED + WTERMSIG(status);
		if (pid < 0 && errno != EINTR)
			return RUN_FAILED;
		if (pid == 0 && sigwaitinfo(&run->passed, &info) > 0 && info.si_signo != SIGCHLD)
			pass_on(run, &info);
	}
}

/* ---- the end ---- */

/* The first child there is, 0: none. */
static pid_t any_child(void)
{
	char path[64];
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);
	return pid;
}

/* End the processes that are left; theirs become ours as they go. */
static void end_leftovers(void)
{
	time_t deadline = time(NULL) + LEFTOVERS_DEADLINE_S;
	pid_t pid;

	while ((pid = any_child()) > 0 && time(NULL) < deadline) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

static void detach(const struct run *run)
{
	struct nsgate_msg_detach message = {.name = ""};
	struct failure ignored = {0}; /* its end may have been noticed already: the same outcome */

	ipc_header(&message.header, NSGATE_MSG_DETACH, DETACH_ID);
	memcpy(message.name, run->attach.name, sizeof(message.name));
	dial_once(run->ctl->runtime_dir, &message.header, NULL, 0, &ignored);
	failure_free(&ignored);
}

/* ---- all of it ---- */

static enum nsgate_status parse(const struct command_args *args, struct run *run,
				struct failure *fail)
{
	const char *network = command_value(args, "network");
	const char *user = command_value(args, "user");

	run->connected = network == NULL || strcmp(network, "veth") == 0;
	if (!run->connected && strcmp(network, "none") != 0)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "--network: %s: no such network; give veth or none", network);
	run->user = user != NULL ? getpwnam(user) : NULL;
	if (user != NULL && run->user == NULL)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "--user: %s: no such user; getent passwd shows those there are",
				   user);
	return NSGATE_STATUS_OK;
}

static void take_signals(struct run *run)
{
	static const int signals[] = {SIGINT,  SIGTERM, SIGHUP,	  SIGQUIT,
				      SIGUSR1, SIGUSR2, SIGWINCH, SIGCHLD};

	sigemptyset(&run->passed);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaddset(&run->passed, signals[i]);
	sigprocmask(SIG_BLOCK, &run->passed, &run->before);
}

int ctl_run(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	struct run run = {.ctl = ctl, .command = args->operands, .channel = -1, .wire = WIRE_NONE};
	enum nsgate_status status = parse(args, &run, fail);
	int code = RUN_FAILED;

	if (status != NSGATE_STATUS_OK)
		return status;
	take_signals(&run);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	status = start_child(&run, fail);
	if (status == NSGATE_STATUS_OK)
		status = await_unshared(&run, fail);
	if (status == NSGATE_STATUS_OK)
		status = attach(&run, args, fail);
	if (status == NSGATE_STATUS_OK && run.connected)
		status = wire_up(ctl->runtime_dir, run.pid, &run.wire, fail);
	if (status == NSGATE_STATUS_OK) {
		code = let_go(&run, fail);
		if (code == 0)
			code = wait_for(&run);
	}
	end_leftovers();
	if (run.attached)
		detach(&run);
	wire_down(&run.wire);
	fd_close(&run.channel);
	return code;
}
