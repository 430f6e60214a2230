// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

#define ARGUMENTS_MAX 80
#define STOP_FD 3 /* as supervise/main.c has it: a word in it means stop, its end nothing */

static int stop_fd = -1;

static void pass(int fd)
{
	if (fd != STOP_FD)
		(void)dup2(fd, STOP_FD);
	else
		(void)fcntl(fd, F_SETFD, 0);
	/* A queue's socket that is held there would outlive its detach. */
	(void)syscall(SYS_close_range, STOP_FD + 1, ~0U, 0);
}

static void run(const char *path, pid_t broker, const char *runtime_dir, char *const agent[],
		int watchdog_ms) __attribute__((noreturn));

static void run(const char *path, pid_t broker, const char *runtime_dir, char *const agent[],
		int watchdog_ms)
{
	char name[] = "nsgate-supervise", pid[16], ms[16], *dir = strdup(runtime_dir);
	char *argv[ARGUMENTS_MAX] = {name, pid, ms, dir};
	int n = 4;

	snprintf(pid, sizeof(pid), "%d", (int)broker);
	snprintf(ms, sizeof(ms), "%d", watchdog_ms);
	for (int i = 0; agent[i] && n < ARGUMENTS_MAX - 1; i++)
		argv[n++] = agent[i];
	/* What the broker itself is told is not for it. */
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	execv(path, argv);
	_exit(127);
}

pid_t supervise_start(char *const agent[], const char *runtime_dir, int watchdog_ms)
{
	const pid_t broker = getpid();
	char path[PATH_MAX];
	int stop[2], err = program_find("nsgate-supervise", path, sizeof(path));
	pid_t pid;

	if (err)
		return err;
	if (pipe2(stop, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		pass(stop[0]);
		run(path, broker, runtime_dir, agent, watchdog_ms);
	}
	err = pid < 0 ? -errno : 0;
	close(stop[0]);
	if (err)
		close(stop[1]);
	else
		stop_fd = stop[1];
	return err ? err : pid;
}

void supervise_stop(pid_t supervisor)
{
	if (supervisor <= 0)
		return;
	(void)!write(stop_fd, "", 1);
	while (waitpid(supervisor, NULL, 0) < 0 && errno == EINTR)
		;
}
