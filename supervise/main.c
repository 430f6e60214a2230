// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * nsgate-supervise is to the agent what systemd is: it starts it again when it ends, and listens to
 * its sd_notify(3) messages on a socket of its own. An agent that pinged and has gone silent hangs;
 * it is killed, as nothing less reaches a process that is stopped. Before it is ready it may take
 * as long as it likes, so that many policies are no reason to die.
 *
 * nsgate-broker starts it, with --supervise, and it dies with the broker; the agent does not: the
 * next one waits for the agent's lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "supervise/confine.h"
#include "ipc.h"
#include "log.h"
#include "loop.h"

/* At once after the first death: packets wait. An agent that never gets up must not spin. */
#define BACKOFF_FIRST_MS 5
#define BACKOFF_MAX_MS 1000
#define HEALTHY_MS 1000

static volatile sig_atomic_t stopping;
static volatile pid_t agent_pid;

/*
 * The broker has given up kill(), so it writes here when it stops. Its death is no reason to: the
 * agent lives on then, and the pipe has an end and no word in it.
 */
#define STOP_FD 3 /* as broker/supervise.c has it */

static void stop(void)
{
	stopping = 1;
	if (agent_pid > 0)
		kill(agent_pid, SIGTERM);
}

static void on_term(int number)
{
	(void)number;
	stop();
}

static void on_pipe(int number)
{
	const int error = errno;
	char word;

	(void)number;
	if (read(STOP_FD, &word, 1) == 1)
		stop();
	errno = error;
}

/* Return: 0 or -errno. */
static int catch_pipe(void)
{
	struct sigaction action = {.sa_handler = on_pipe};

	if (fcntl(STOP_FD, F_SETFD, FD_CLOEXEC) < 0 || sigaction(SIGIO, &action, NULL) < 0 ||
	    fcntl(STOP_FD, F_SETOWN, getpid()) < 0 ||
	    fcntl(STOP_FD, F_SETFL, O_ASYNC | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static void catch_term(void)
{
	struct sigaction action = {.sa_handler = on_term};
	sigset_t none;

	sigemptyset(&none);
	sigaction(SIGTERM, &action, NULL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C reaches the broker, which then stops us */
}

/* Until the agent of an earlier broker, if there is one, has ended. */
static void wait_for_lock(const char *lock_path)
{
	int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return; /* the agent will say what is wrong */
	while (flock(fd, LOCK_EX) < 0 && errno == EINTR && !stopping)
		;
	close(fd);
}

/* ---- the watchdog ---- */

static struct {
	int timeout_ms; /* 0: none */
	int fd;		/* where the agent's messages come in */
	char name[108]; /* for $NOTIFY_SOCKET */
	int64_t due_ms; /* 0: the agent is not ready yet */
} watchdog = {.fd = -1};

/* A file that root alone can write to: the agent connects while it is root. */
static int watchdog_open(const char *runtime_dir, int timeout_ms)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int err, fd;

	if (snprintf(watchdog.name, sizeof(watchdog.name), "%s/supervise.sock", runtime_dir) >=
	    (int)sizeof(watchdog.name))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, watchdog.name, strlen(watchdog.name) + 1);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (unlink(watchdog.name) < 0 && errno != ENOENT) {
		close(fd);
		return -errno;
	}
	mask = umask(0177);
	err = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (err) {
		close(fd);
		return err;
	}
	watchdog.timeout_ms = timeout_ms;
	watchdog.fd = fd;
	return 0;
}

/* For the agent to be: where to ping, and how often. */
static void watchdog_environment(void)
{
	char usec[32];

	if (watchdog.fd < 0)
		return;
	snprintf(usec, sizeof(usec), "%lld", 1000LL * watchdog.timeout_ms);
	setenv("NOTIFY_SOCKET", watchdog.name, 1);
	setenv("WATCHDOG_USEC", usec, 1);
}

/* Return: false: none is left. */
static bool watchdog_receive(void)
{
	char text[256];
	const ssize_t length = recv(watchdog.fd, text, sizeof(text) - 1, 0);

	if (length < 0)
		return false;
	text[length] = '\0';
	if (strstr(text, "READY=1") || strstr(text, "WATCHDOG=1"))
		watchdog.due_ms = loop_now_ms() + watchdog.timeout_ms;
	return true;
}

/* Until the agent has ended, or should be made to. */
static void watch_agent(pid_t agent)
{
	struct pollfd wait[] = {
		{.fd = (int)syscall(SYS_pidfd_open, agent, 0), .events = POLLIN},
		{.fd = watchdog.fd, .events = POLLIN},
	};

	while (wait[0].fd >= 0 && !wait[0].revents) {
		int64_t left = watchdog.due_ms - loop_now_ms();

		if (poll(wait, 2, watchdog.due_ms ? (int)(left > 0 ? left : 0) : -1) < 0) {
			wait[0].revents = 0;
			continue;
		}
		while (watchdog_receive())
			;
		if (!watchdog.due_ms || watchdog.due_ms > loop_now_ms() || wait[0].revents)
			continue;
		log_event(LOG_LEVEL_ERROR, "supervise.hung", "pid", log_number(agent), "silent_ms",
			  log_number(watchdog.timeout_ms), NULL);
		kill(agent, SIGKILL);
		break;
	}
	fd_close(&wait[0].fd);
}

/* ---- the agent ---- */

static void run_agent(char *const argv[])
{
	int status;
	pid_t pid;

	while (watchdog.fd >= 0 && watchdog_receive()) /* the last words of the one before */
		;
	watchdog.due_ms = 0;
	pid = fork();

	if (pid == 0) {
		signal(SIGINT, SIG_DFL);
		watchdog_environment();
		execv(argv[0], argv);
		log_event(LOG_LEVEL_ERROR, "supervise.exec", "path", argv[0], "error",
			  log_errno(errno), NULL);
		_exit(127);
	}
	agent_pid = pid;
	if (stopping && pid > 0)
		kill(pid, SIGTERM);
	if (pid > 0 && watchdog.fd >= 0)
		watch_agent(pid);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	agent_pid = 0;
}

static void pause_ms(int ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	nanosleep(&pause, NULL);
}

static void supervise(char *const argv[], const char *lock_path)
{
	int backoff_ms = BACKOFF_FIRST_MS;

	while (!stopping) {
		int64_t started;

		wait_for_lock(lock_path);
		if (stopping)
			break;
		started = loop_now_ms();
		run_agent(argv);
		if (stopping)
			break;
		if (loop_now_ms() - started >= HEALTHY_MS)
			backoff_ms = BACKOFF_FIRST_MS;
		log_event(LOG_LEVEL_WARNING, "supervise.restart", "after_ms",
			  log_number(backoff_ms), NULL);
		pause_ms(backoff_ms);
		backoff_ms = backoff_ms * 2 < BACKOFF_MAX_MS ? backoff_ms * 2 : BACKOFF_MAX_MS;
	}
}

/* ---- the program ---- */

enum argument { ARGUMENT_BROKER = 1, ARGUMENT_WATCHDOG_MS, ARGUMENT_DIR, ARGUMENT_AGENT };

int main(int argc, char **argv)
{
	char lock_path[4096];
	int err;

	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return puts("nsgate-supervise " NSGATE_VERSION) < 0;
	if (argc <= ARGUMENT_AGENT || getppid() != (pid_t)atol(argv[ARGUMENT_BROKER])) {
		fputs("nsgate-supervise: this is a part of nsgate-broker, which starts it: run "
		      "nsgate-broker --supervise\n",
		      stderr);
		return 2;
	}
	log_setup("nsgate-supervise", LOG_LEVEL_INFO);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	catch_term();
	err = catch_pipe();
	if (err) {
		log_event(LOG_LEVEL_ERROR, "supervise.unstoppable", "error", log_errno(err), NULL);
		return 1;
	}
	on_pipe(0); /* what was written before */
	snprintf(lock_path, sizeof(lock_path), "%s/agent.lock", argv[ARGUMENT_DIR]);
	err = atoi(argv[ARGUMENT_WATCHDOG_MS]);
	if (err)
		err = watchdog_open(argv[ARGUMENT_DIR], err);
	if (err)
		log_event(LOG_LEVEL_WARNING, "supervise.unwatched", "error", log_errno(err), NULL);
	err = confine_supervise();
	if (err) {
		log_event(LOG_LEVEL_ERROR, "supervise.unconfined", "error", log_errno(err), NULL);
		return 1;
	}
	if (getppid() == (pid_t)atol(argv[ARGUMENT_BROKER])) /* else it died before prctl() */
		supervise(argv + ARGUMENT_AGENT, lock_path);
	if (watchdog.fd >= 0)
		unlink(watchdog.name);
	return 0;
}
