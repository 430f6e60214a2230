// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum nsgate_status unreadable(const char *path, int error, struct failure *fail)
{
	if (error == ENOENT)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "%s: no such file; check the path", path);
	if (error == EACCES || error == EPERM)
		return failure_set(fail, NSGATE_STATUS_REFUSED,
				   "%s: permission denied; run as a user that may read it", path);
	return failure_set(fail, NSGATE_STATUS_FAILED, "%s: cannot read: %s; check what it is",
			   path, strerror(error));
}

enum nsgate_status file_read(const char *path, size_t max, char **ret, size_t *ret_length,
			     struct failure *fail)
{
	int fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
					: open(path, O_RDONLY | O_CLOEXEC);
	char *text;
	size_t length = 0;
	ssize_t got;
	int error = errno;

	if (fd < 0)
		return unreadable(path, error, fail);
	text = malloc(max + 2);
	if (text == NULL) {
		close(fd);
		return unreadable(path, ENOMEM, fail);
	}
	do {
		got = read(fd, text + length, max + 1 - length);
		error = errno;
		if (got > 0)
			length += (size_t)got;
	} while ((got > 0 && length <= max) || (got < 0 && error == EINTR));
	close(fd);
	if (got < 0) {
		free(text);
		return unreadable(path, error, fail);
	}
	text[length] = '\0';
	*ret = text;
	*ret_length = length;
	return NSGATE_STATUS_OK;
}
