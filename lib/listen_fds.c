// SPDX-License-Identifier: GPL-2.0-or-later
#include "listen_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc.h"

#define FIRST_FD 3	/* SD_LISTEN_FDS_START of sd-daemon.h */
#define FDS_MAX 1048576 /* nobody passes more; it keeps a forged variable from costing anything */

static unsigned int count;
static int *fds;
static char *names;	     /* $LISTEN_FDNAMES, cut at its colons */
static const char **fd_name; /* into `names` */

/* Is there a number for us? Return: how many descriptors. */
static unsigned int announced(void)
{
	const char *pid = getenv("LISTEN_PID"), *number = getenv("LISTEN_FDS");
	unsigned long n;

	if (!pid || !number || strtol(pid, NULL, 10) != (long)getpid())
		return 0;
	n = strtoul(number, NULL, 10);
	return n > FDS_MAX ? 0 : (unsigned int)n;
}

/* Fewer names than descriptors: the rest has none. */
static void name_all(unsigned int n)
{
	char *rest = names;

	for (unsigned int i = 0; i < n; i++) {
		const char *name = rest ? strsep(&rest, ":") : NULL;

		fd_name[i] = name ? name : "";
	}
}

int listen_fds_take(void)
{
	unsigned int n = announced();
	const char *all = getenv("LISTEN_FDNAMES");

	if (n) {
		fds = calloc(n, sizeof(*fds));
		fd_name = calloc(n, sizeof(*fd_name));
		names = strdup(all ? all : "");
		if (!fds || !fd_name || !names)
			return -ENOMEM;
		name_all(n);
	}
	for (unsigned int i = 0; i < n; i++) {
		fds[i] = FIRST_FD + (int)i;
		if (fcntl(fds[i], F_SETFD, FD_CLOEXEC) < 0)
			return -errno;
	}
	count = n;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return 0;
}

int listen_fds_claim(const char *name)
{
	for (unsigned int i = 0; i < count; i++) {
		int fd = fds[i];

		if (fd < 0 || strcmp(fd_name[i], name) != 0)
			continue;
		fds[i] = -1;
		return fd;
	}
	return -1;
}

static bool is_option(int fd, int option, int wanted)
{
	int value = -1;
	socklen_t length = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 && value == wanted;
}

int listen_fds_claim_socket(const char *name, int type)
{
	int flags, fd = listen_fds_claim(name);

	if (fd < 0)
		return -ENOENT;
	flags = fcntl(fd, F_GETFL);
	if (is_option(fd, SO_DOMAIN, AF_UNIX) && is_option(fd, SO_TYPE, type) &&
	    is_option(fd, SO_ACCEPTCONN, 1) && flags >= 0 &&
	    fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0)
		return fd;
	close(fd);
	return -EPROTOTYPE;
}

void listen_fds_each(bool (*take)(const char *name, int fd))
{
	for (unsigned int i = 0; i < count; i++)
		if (fds[i] >= 0 && take(fd_name[i], fds[i]))
			fds[i] = -1;
}

unsigned int listen_fds_close(void)
{
	unsigned int closed = 0;

	for (unsigned int i = 0; i < count; i++) {
		closed += fds[i] >= 0;
		fd_close(&fds[i]);
	}
	count = 0;
	free(fds);
	free(fd_name);
	free(names);
	fds = NULL;
	fd_name = NULL;
	names = NULL;
	return closed;
}
