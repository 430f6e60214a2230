// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/store/good.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/store/file.h"

#define SUBDIRECTORY "last-good"

static int dir_fd = -1;

/* Root hands it over; who is not root finds it made, or may make it. */
static int own(int fd, uid_t uid, gid_t gid)
{
	if (geteuid() == 0) {
		/* The mode first: to change it afterwards would take one more capability. */
		if (fchown(fd, 0, 0) < 0 || fchmod(fd, 0700) < 0 || fchown(fd, uid, gid) < 0)
			return -errno;
		return 0;
	}
	return faccessat(fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

int store_good_open(const char *runtime_dir, uid_t uid, gid_t gid)
{
	char *path;
	int fd, err = 0;

	if (asprintf(&path, "%s/" SUBDIRECTORY, runtime_dir) < 0)
		return -ENOMEM;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		err = -errno;
	fd = err ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (!err && fd < 0)
		err = -errno;
	free(path);
	if (!err)
		err = own(fd, uid, gid);
	if (err) {
		if (fd >= 0)
			close(fd);
		return err;
	}
	store_good_close();
	dir_fd = fd;
	return 0;
}

void store_good_close(void)
{
	if (dir_fd >= 0)
		close(dir_fd);
	dir_fd = -1;
}

int store_good_dir_fd(void)
{
	return dir_fd;
}

int store_good_read(const char *name, char **ret_text, size_t *ret_length)
{
	struct store_file unknown = {.inode = 0};
	int result;

	if (dir_fd < 0)
		return 0;
	result = store_file_read(dir_fd, name, &unknown, ret_text, ret_length);
	return result == -ENOENT ? 0 : result;
}

static bool is_kept(const char *name, const char *text, size_t length)
{
	char *kept;
	size_t kept_length;
	bool same;

	if (store_good_read(name, &kept, &kept_length) != 1)
		return false;
	same = kept_length == length && memcmp(kept, text, length) == 0;
	free(kept);
	return same;
}

int store_good_keep(const char *name, const char *text, size_t length)
{
	int err;

	if (dir_fd < 0 || is_kept(name, text, length))
		return 0;
	err = store_file_write(dir_fd, name, text, length);
	/* An older version must not come back in the place of this one. */
	if (err)
		store_good_remove(name);
	return err;
}

void store_good_remove(const char *name)
{
	if (dir_fd >= 0)
		(void)store_file_remove(dir_fd, name);
}

int store_good_list(char (**ret_names)[NSGATE_NAME_MAX], size_t *ret_count)
{
	bool more;

	*ret_names = NULL;
	*ret_count = 0;
	return dir_fd < 0 ? 0 : store_file_list(dir_fd, ret_names, ret_count, &more);
}
