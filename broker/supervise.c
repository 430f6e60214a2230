// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * The supervisor is to the agent what systemd is: it starts it again when it ends, and listens to
 * its sd_notify(3) messages on a socket of its own. An agent that pinged and has gone silent hangs;
 * it is killed, as nothing less reaches a process that is stopped. Before it is ready it may take
 * as long as it likes, so that many policies are no reason to die.
 */
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ipc.h"
#include "listen_fds.h"
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
static int stop_pipe[2] = {-1, -1};

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
	if (read(stop_pipe[0], &word, 1) == 1)
		stop();
	errno = error;
}

/* Return: 0 or -errno. */
static int catch_pipe(void)
{
	struct sigaction action = {.sa_handler = on_pipe};

	close(stop_pipe[1]);
	if (sigaction(SIGIO, &action, NULL) < 0 || fcntl(stop_pipe[0], F_SETOWN, getpid()) < 0 ||
	    fcntl(stop_pipe[0], F_SETFL, O_ASYNC | O_NONBLOCK) < 0)
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
	char name[32];	/* for $NOTIFY_SOCKET */
	int64_t due_ms; /* 0: the agent is not ready yet */
} watchdog = {.fd = -1};

/* In the abstract namespace, under a name that the kernel makes up: unix(7), autobind. */
static int watchdog_open(int timeout_ms)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t length = sizeof(address);
	int one = 1, fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	snprintf(watchdog.name, sizeof(watchdog.name), "@%.*s",
		 (int)(length - offsetof(struct sockaddr_un, sun_path) - 1), address.sun_path + 1);
	watchdog.timeout_ms = timeout_ms;
	watchdog.fd = fd;
	return 0;
}

/* For the agent to be: where to ping, and how often. What the broker itself is told is not for it.
 */
static void watchdog_environment(void)
{
	char usec[32];

	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	if (watchdog.fd < 0)
		return;
	snprintf(usec, sizeof(usec), "%lld", 1000LL * watchdog.timeout_ms);
	setenv("NOTIFY_SOCKET", watchdog.name, 1);
	setenv("WATCHDOG_USEC", usec, 1);
}

/* Whose message is it? An abstract socket is open to all. Return: false: none is left. */
static bool watchdog_receive(pid_t agent)
{
	char text[256];
	struct iovec part = {.iov_base = text, .iov_len = sizeof(text) - 1};
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))]; /* and none for descriptors */
		struct cmsghdr align;
	} control;
	struct msghdr datagram = {.msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes)};
	struct ucred sender = {.pid = 0};
	ssize_t length = recvmsg(watchdog.fd, &datagram, 0);

	if (length < 0)
		return false;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&datagram); cmsg;
	     cmsg = CMSG_NXTHDR(&datagram, cmsg))
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_CREDENTIALS)
			memcpy(&sender, CMSG_DATA(cmsg), sizeof(sender));
	text[length] = '\0';
	if (sender.pid == agent && (strstr(text, "READY=1") || strstr(text, "WATCHDOG=1")))
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

	watchdog.due_ms = 0;
	while (wait[0].fd >= 0 && !wait[0].revents) {
		int64_t left = watchdog.due_ms - loop_now_ms();

		if (poll(wait, 2, watchdog.due_ms ? (int)(left > 0 ? left : 0) : -1) < 0) {
			wait[0].revents = 0;
			continue;
		}
		while (watchdog_receive(agent))
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

static void run_agent(const char *path, char *const argv[])
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGINT, SIG_DFL);
		watchdog_environment();
		execv(path, argv);
		log_event(LOG_LEVEL_ERROR, "supervise.exec", "path", path, "error",
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

pid_t supervise_start(const char *path, char *const argv[], const char *lock_path, int watchdog_ms)
{
	pid_t broker = getpid();
	pid_t pid;

	if (pipe2(stop_pipe, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid != 0) {
		close(stop_pipe[0]);
		return pid < 0 ? -errno : pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (catch_pipe() < 0)
		_exit(1);
	(void)listen_fds_close(); /* a queue's socket that is held here would outlive its detach */
	catch_term();
	if (watchdog_ms && watchdog_open(watchdog_ms) < 0)
		log_event(LOG_LEVEL_WARNING, "supervise.unwatched", NULL);
	if (getppid() == broker) /* else it died before the line above */
		supervise(path, argv, lock_path);
	_exit(0);
}

void supervise_stop(pid_t supervisor)
{
	if (supervisor <= 0)
		return;
	(void)!write(stop_pipe[1], "", 1);
	while (waitpid(supervisor, NULL, 0) < 0 && errno == EINTR)
		;
}
