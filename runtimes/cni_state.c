// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtimes/cni_state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc.h"
#include "name.h"

#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

static void file_name(char ret[NAME_MAX + 1], const char *network, const char *ifname)
{
	snprintf(ret, NAME_MAX + 1, "%s:%s", network, ifname); /* names have no colon */
}

static enum cni_code failed(struct cni_error *error, const char *what, const char *container)
{
	return cni_error_set(error, CNI_CODE_IO,
			     "%s of container %s below the runtime directory: %s", what, container,
			     strerror(errno));
}

/* ---- directories ---- */

static enum cni_code open_parent(const char *runtime_dir, bool make, int *ret,
				 struct cni_error *error)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/cni", runtime_dir);
	if (make && mkdir(path, 0700) < 0 && errno != EEXIST) {
		if (errno == ENOENT)
			return cni_error_set(error, CNI_CODE_AGAIN,
					     "%s: no such directory; is nsgate-broker running with "
					     "--runtime-dir %s?",
					     runtime_dir, runtime_dir);
		return cni_error_set(error, CNI_CODE_IO, "%s: %s", path, strerror(errno));
	}
	*ret = open(path, OPEN_DIRECTORY);
	if (*ret < 0 && (make || errno != ENOENT))
		return cni_error_set(error, CNI_CODE_IO, "%s: %s", path, strerror(errno));
	return CNI_CODE_OK;
}

/* Does the name still lead to it? Whoever had the lock may have removed it. */
static bool is_current(const struct cni_state *state)
{
	struct stat mine, there;

	return fstat(state->dir, &mine) == 0 &&
	       fstatat(state->parent, state->container, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

/* Return: the locked directory; -1 with errno. */
static int open_locked(const struct cni_state *state, bool make)
{
	int dir;

	if (make && mkdirat(state->parent, state->container, 0700) < 0 && errno != EEXIST)
		return -1;
	dir = openat(state->parent, state->container, OPEN_DIRECTORY);
	if (dir < 0)
		return -1;
	while (flock(dir, LOCK_EX) < 0) {
		if (errno == EINTR)
			continue;
		close(dir);
		return -1;
	}
	return dir;
}

enum cni_code cni_state_open(const char *runtime_dir, const char *container, bool make,
			     struct cni_state *ret, struct cni_error *error)
{
	enum cni_code code = open_parent(runtime_dir, make, &ret->parent, error);

	snprintf(ret->container, sizeof(ret->container), "%s", container);
	if (code || ret->parent < 0)
		return code;
	for (;;) {
		ret->dir = open_locked(ret, make);
		if (ret->dir < 0 && errno == ENOENT && make)
			continue;
		if (ret->dir < 0)
			return errno == ENOENT ? CNI_CODE_OK
					       : failed(error, "the directory", container);
		if (is_current(ret))
			return CNI_CODE_OK;
		fd_close(&ret->dir);
	}
}

void cni_state_close(struct cni_state *state)
{
	fd_close(&state->dir);
	fd_close(&state->parent);
}

void cni_state_remove(struct cni_state *state)
{
	unlinkat(state->parent, state->container, AT_REMOVEDIR);
	cni_state_close(state);
}

DIR *cni_state_containers(const char *runtime_dir)
{
	struct cni_error ignored;
	DIR *stream;
	int parent = -1;

	open_parent(runtime_dir, false, &parent, &ignored);
	stream = parent < 0 ? NULL : fdopendir(parent);
	if (!stream)
		fd_close(&parent);
	return stream;
}

/* ---- files ---- */

enum cni_code cni_state_put(const struct cni_state *state, const char *network, const char *ifname,
			    const char *policy, struct cni_error *error)
{
	const size_t length = strlen(policy);
	char name[NAME_MAX + 1];
	ssize_t written;
	int fd;

	file_name(name, network, ifname);
	fd = openat(state->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return failed(error, "a file", state->container);
	written = write(fd, policy, length);
	close(fd);
	if (written == (ssize_t)length)
		return CNI_CODE_OK;
	unlinkat(state->dir, name, 0);
	return failed(error, "a file", state->container);
}

enum cni_code cni_state_drop(const struct cni_state *state, const char *network, const char *ifname,
			     struct cni_error *error)
{
	char name[NAME_MAX + 1];

	file_name(name, network, ifname);
	if (unlinkat(state->dir, name, 0) < 0 && errno != ENOENT)
		return failed(error, "a file", state->container);
	return CNI_CODE_OK;
}

bool cni_state_has(const struct cni_state *state, const char *network, const char *ifname)
{
	char name[NAME_MAX + 1];

	file_name(name, network, ifname);
	return state->dir >= 0 && faccessat(state->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void read_policy(const struct cni_state *state, const char *name, char ret[NSGATE_NAME_MAX])
{
	int fd = openat(state->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t length = fd < 0 ? 0 : read(fd, ret, NSGATE_NAME_MAX - 1);

	fd_close(&fd);
	ret[length > 0 ? length : 0] = '\0';
}

/* A stream of the directory of its own, from the first entry on. */
static DIR *list(const struct cni_state *state)
{
	int fd = state->dir < 0 ? -1 : openat(state->dir, ".", OPEN_DIRECTORY);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);

	if (!stream)
		fd_close(&fd);
	return stream;
}

unsigned int cni_state_count(const struct cni_state *state, const char *network, const char *ifname,
			     char ret_policy[NSGATE_NAME_MAX])
{
	DIR *stream = list(state);
	const struct dirent *entry;
	char but[NAME_MAX + 1];
	unsigned int count = 0;

	file_name(but, network, ifname);
	ret_policy[0] = '\0';
	while (stream && (entry = readdir(stream))) {
		if (!strchr(entry->d_name, ':') || strcmp(entry->d_name, but) == 0)
			continue;
		count++;
		read_policy(state, entry->d_name, ret_policy);
	}
	if (stream)
		closedir(stream);
	return count;
}

void cni_state_each(const struct cni_state *state, const char *network,
		    void (*visit)(const struct cni_state *state, const char *ifname, void *context),
		    void *context)
{
	const size_t length = strlen(network);
	DIR *stream = list(state);
	const struct dirent *entry;

	while (stream && (entry = readdir(stream)))
		if (strncmp(entry->d_name, network, length) == 0 && entry->d_name[length] == ':')
			visit(state, entry->d_name + length + 1, context);
	if (stream)
		closedir(stream);
}
