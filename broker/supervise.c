// SPDX-License-Identifier: GPL-2.0-or-later
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"

/* At once after the first death: packets wait. An agent that never gets up must not spin. */
#define BACKOFF_FIRST_MS 5
#define BACKOFF_MAX_MS 1000
#define HEALTHY_MS 1000

static volatile sig_atomic_t stopping;
static volatile pid_t agent_pid;

static void on_term(int number)
{
	(void)number;
	stopping = 1;
	if (agent_pid > 0)
		kill(agent_pid, SIGTERM);
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

static void run_agent(const char *path, char *const argv[])
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGINT, SIG_DFL);
		execv(path, argv);
		log_event(LOG_LEVEL_ERROR, "supervise.exec", "path", path, "error",
			  log_errno(errno), NULL);
		_exit(127);
	}
	agent_pid = pid;
	if (stopping && pid > 0)
		kill(pid, SIGTERM);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	agent_pid = 0;
}

static void pause_ms(int ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	nanosleep(&pause, NULL);
}

static void supervise(const char *path, char *const argv[], const char *lock_path)
{
	int backoff_ms = BACKOFF_FIRST_MS;

	while (!stopping) {
		int64_t started;

		wait_for_lock(lock_path);
		if (stopping)
			break;
		started = loop_now_ms();
		run_agent(path, argv);
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

pid_t supervise_start(const char *path, char *const argv[], const char *lock_path)
{
	pid_t broker = getpid();
	pid_t pid = fork();

	if (pid != 0)
		return pid < 0 ? -errno : pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	catch_term();
	if (getppid() == broker) /* else it died before the line above */
		supervise(path, argv, lock_path);
	_exit(0);
}

void supervise_stop(pid_t supervisor)
{
	if (supervisor <= 0)
		return;
	kill(supervisor, SIGTERM);
	while (waitpid(supervisor, NULL, 0) < 0 && errno == EINTR)
		;
}
