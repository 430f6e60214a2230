// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/front.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fdmsg.h"
#include "ipc.h"
#include "program.h"

#define PASSED (2 * NSGATE_FRONT_MAX)
#define NUMBER_MAX 16

static bool is_open;

/* Return: can the kernel keep descriptors out of them? */
static bool is_needless(const int fds[NSGATE_FRONT_MAX])
{
	for (unsigned int i = 0; i < NSGATE_FRONT_MAX; i++)
		if (ipc_pass_rights(fds[i], false) < 0)
			return false;
	return true;
}

/* From NSGATE_FRONT_FD on; first out of the way of each other. */
static bool place_fds(int fds[PASSED])
{
	for (int i = 0; i < PASSED; i++)
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, NSGATE_FRONT_FD + PASSED);
	for (int i = 0; i < PASSED; i++)
		if (fds[i] < 0 || dup2(fds[i], NSGATE_FRONT_FD + i) < 0)
			return false;
	return true;
}

static void run_program(const char *path, int fds[PASSED], uid_t uid, gid_t gid)
	__attribute__((noreturn));

static void run_program(const char *path, int fds[PASSED], uid_t uid, gid_t gid)
{
	char name[] = "nsgate-front", user[NUMBER_MAX], group[NUMBER_MAX];
	char *argv[] = {name, user, group, NULL}, *environment[] = {NULL};

	snprintf(user, sizeof(user), "%u", uid);
	snprintf(group, sizeof(group), "%u", gid);
	/* What a service manager let the agent keep would be kept. */
	if (place_fds(fds) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0) {
		(void)syscall(SYS_close_range, NSGATE_FRONT_FD + PASSED, ~0U, 0);
		execve(path, argv, environment);
	}
	_exit(127);
}

static int start(const char *path, const int listeners[NSGATE_FRONT_MAX],
		 const int theirs[NSGATE_FRONT_MAX], uid_t uid, gid_t gid)
{
	int fds[PASSED];
	pid_t pid;

	for (unsigned int i = 0; i < NSGATE_FRONT_MAX; i++) {
		fds[i] = listeners[i];
		fds[NSGATE_FRONT_MAX + i] = theirs[i];
	}
	pid = fork();
	if (pid == 0)
		run_program(path, fds, uid, gid);
	return pid < 0 ? -errno : 0;
}

int front_open(int fds[NSGATE_FRONT_MAX], uid_t uid, gid_t gid)
{
	int ours[NSGATE_FRONT_MAX], theirs[NSGATE_FRONT_MAX], err = 0;
	char path[PATH_MAX];

	if (is_needless(fds))
		return 0;
	err = program_find("nsgate-front", path, sizeof(path));
	for (unsigned int i = 0; i < NSGATE_FRONT_MAX; i++) {
		int pair[2] = {-1, -1};

		if (!err &&
		    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
			err = -errno;
		ours[i] = pair[0];
		theirs[i] = pair[1];
	}
	if (!err)
		err = start(path, fds, theirs, uid, gid);
	fds_close(theirs, NSGATE_FRONT_MAX);
	if (err) {
		fds_close(ours, NSGATE_FRONT_MAX);
		return err;
	}
	for (unsigned int i = 0; i < NSGATE_FRONT_MAX; i++) {
		close(fds[i]);
		fds[i] = ours[i];
	}
	is_open = true;
	return 0;
}

bool front_is_open(void)
{
	return is_open;
}

static int accept_from_front(int fd, uid_t *ret_uid)
{
	struct nsgate_front_client client;
	struct fdmsg about;
	int connection = -1,
	    err = fdmsg_receive(fd, &client, sizeof(client), &connection, 1, 0, &about);

	if (err)
		return err;
	if (about.length == sizeof(client) && about.fd_count == 1 && !about.cut && !about.surplus) {
		*ret_uid = client.uid;
		return connection;
	}
	fd_close(&connection);
	return !about.length ? -ENOTCONN : about.fds_lost ? -EMFILE : -EBADMSG;
}

int front_accept(int fd, uid_t *ret_uid)
{
	gid_t gid;
	pid_t pid;
	int connection, err;

	if (is_open)
		return accept_from_front(fd, ret_uid);
	connection = ipc_accept(fd);
	err = connection < 0 ? connection : ipc_peer(connection, ret_uid, &gid, &pid);
	if (!err)
		return connection;
	fd_close(&connection);
	return err;
}
