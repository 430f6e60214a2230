// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Everything goes through the directory's descriptor: after privileges are dropped its ancestors
 * may be out of reach. Names may be symbolic links (a ConfigMap's are); what they lead to must be
 * a regular file. It is opened non-blocking, so that a FIFO under the name of a policy hangs
 * nothing.
 *
 * Size, times and inode tell an unchanged file without reading it, but only once its last change
 * is older than the clock's steps: until then it is read and its content compared.
 */
#include "hash.h"
#include "agent/store/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "name.h"

#define SETTLED_S 2
#define TEMPORARY ".put.tmp" /* one at a time: the control thread is alone */

static void file_name(const char *name, char ret[STORE_FILE_NAME_MAX])
{
	snprintf(ret, STORE_FILE_NAME_MAX, "%s" STORE_SUFFIX, name);
}

/* ---- reading ---- */

static bool same_time(const struct timespec *one, const struct timespec *other)
{
	return one->tv_sec == other->tv_sec && one->tv_nsec == other->tv_nsec;
}

static bool looks_the_same(const struct store_file *file, const struct stat *st)
{
	return file->settled && file->device == st->st_dev && file->inode == st->st_ino &&
	       file->size == st->st_size && same_time(&file->modified, &st->st_mtim) &&
	       same_time(&file->changed, &st->st_ctim);
}

static void note_looks(struct store_file *file, const struct stat *st)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	file->device = st->st_dev;
	file->inode = st->st_ino;
	file->size = st->st_size;
	file->modified = st->st_mtim;
	file->changed = st->st_ctim;
	file->settled = st->st_ctim.tv_sec + SETTLED_S <= now.tv_sec;
}

/* One byte more than allowed is enough to know. */
static int read_content(int fd, char **ret_text, size_t *ret_length)
{
	size_t size = 4096, used = 0;
	char *text = NULL;

	for (;;) {
		char *more = realloc(text, size + 1);
		ssize_t got;

		if (!more) {
			free(text);
			return -ENOMEM;
		}
		text = more;
		got = read(fd, text + used, size - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			const int error = -errno;

			free(text);
			return error;
		}
		if (got == 0)
			break;
		used += (size_t)got;
		if (used > NSGATE_POLICY_BYTES_MAX) {
			free(text);
			return -EFBIG;
		}
		if (used == size)
			size *= 2;
	}
	text[used] = '\0';
	*ret_text = text;
	*ret_length = used;
	return 0;
}

static int open_file(int dir_fd, const char *name, struct stat *ret_st)
{
	char path[STORE_FILE_NAME_MAX];
	int fd, err;

	file_name(name, path);
	fd = openat(dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = fstat(fd, ret_st) < 0 ? -errno : S_ISREG(ret_st->st_mode) ? 0 : -EBADF;
	if (err)
		close(fd);
	return err ? err : fd;
}

/* Return: as store_file_read(), but an error each time. */
static int read_if_changed(int dir_fd, const char *name, struct store_file *file, char **ret_text,
			   size_t *ret_length)
{
	struct stat st = {0};
	char *text = NULL;
	size_t length = 0;
	uint64_t hash;
	int err;
	int fd = open_file(dir_fd, name, &st);

	if (fd < 0)
		return fd;
	if (looks_the_same(file, &st)) {
		close(fd);
		return file->error ? -file->error : 0;
	}
	err = st.st_size > NSGATE_POLICY_BYTES_MAX ? -EFBIG : read_content(fd, &text, &length);
	close(fd);
	/* How a file looks that could not be read says nothing; too large is too large. */
	file->settled = false;
	if (!err || err == -EFBIG)
		note_looks(file, &st);
	if (err)
		return err;
	hash = hash_bytes(text, length);
	if (file->read && !file->error && file->hash == hash) {
		free(text);
		return 0;
	}
	file->read = true;
	file->hash = hash;
	*ret_text = text;
	*ret_length = length;
	return 1;
}

int store_file_read(int dir_fd, const char *name, struct store_file *file, char **ret_text,
		    size_t *ret_length)
{
	const int earlier = file->error;
	const int result = read_if_changed(dir_fd, name, file, ret_text, ret_length);

	if (result >= 0) {
		file->error = 0;
		return result;
	}
	file->error = -result;
	return file->error == earlier ? 0 : result;
}

void store_file_note(struct store_file *file, const char *text, size_t length)
{
	file->read = true;
	file->hash = hash_bytes(text, length);
	file->error = 0;
	file->gone = false;
	file->settled = false;
}

/* ---- writing ---- */

static int write_all(int fd, const char *text, size_t length)
{
	while (length > 0) {
		const ssize_t written = write(fd, text, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		text += written;
		length -= (size_t)written;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

int store_file_write(int dir_fd, const char *name, const char *text, size_t length)
{
	char path[STORE_FILE_NAME_MAX];
	int fd, err;

	file_name(name, path);
	(void)unlinkat(dir_fd, TEMPORARY, 0); /* of an agent that died while writing */
	fd = openat(dir_fd, TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	err = write_all(fd, text, length);
	if (close(fd) < 0 && !err)
		err = -errno;
	if (!err && renameat(dir_fd, TEMPORARY, dir_fd, path) < 0)
		err = -errno;
	if (err) {
		(void)unlinkat(dir_fd, TEMPORARY, 0);
		return err;
	}
	/* The new file is in force already; a disk that fails now is told of by the next write. */
	(void)fsync(dir_fd);
	return 0;
}

int store_file_remove(int dir_fd, const char *name)
{
	char path[STORE_FILE_NAME_MAX];

	file_name(name, path);
	if (unlinkat(dir_fd, path, 0) < 0)
		return -errno;
	(void)fsync(dir_fd);
	return 0;
}

/* ---- listing ---- */

static bool policy_name(const char *file, char ret[NSGATE_NAME_MAX])
{
	const size_t suffix = sizeof(STORE_SUFFIX) - 1;
	const size_t length = strlen(file);

	if (length <= suffix || length - suffix >= NSGATE_NAME_MAX ||
	    strcmp(file + length - suffix, STORE_SUFFIX) != 0)
		return false;
	memcpy(ret, file, length - suffix);
	ret[length - suffix] = '\0';
	return name_valid(ret);
}

static int compare_names(const void *one, const void *other)
{
	return strcmp(one, other);
}

static DIR *open_list(int dir_fd)
{
	struct stat st;
	const int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && st.st_nlink == 0) {
		close(fd);
		errno = ENOENT;
		return NULL;
	}
	dir = fdopendir(fd);
	if (!dir)
		close(fd);
	return dir;
}

/* The names of the files; the array grows as they come. */
struct names {
	char (*list)[NSGATE_NAME_MAX];
	size_t count, room;
	bool more;
};

static int add_name(struct names *names, const char name[NSGATE_NAME_MAX])
{
	if (names->count == STORE_NAMES_MAX) {
		names->more = true;
		return 0;
	}
	if (names->count == names->room) {
		const size_t room = names->room ? names->room * 2 : 64;
		char(*list)[NSGATE_NAME_MAX] = reallocarray(names->list, room, sizeof(*list));

		if (!list)
			return -ENOMEM;
		names->list = list;
		names->room = room;
	}
	memcpy(names->list[names->count++], name, NSGATE_NAME_MAX);
	return 0;
}

static int read_names(DIR *dir, struct names *names)
{
	const struct dirent *file;
	int err = 0;

	for (errno = 0; !err && (file = readdir(dir)); errno = 0) {
		char name[NSGATE_NAME_MAX] = "";

		if (policy_name(file->d_name, name))
			err = add_name(names, name);
	}
	return err ? err : -errno;
}

int store_file_list(int dir_fd, char (**ret_names)[NSGATE_NAME_MAX], size_t *ret_count,
		    bool *ret_more)
{
	struct names names = {.count = 0};
	DIR *dir = open_list(dir_fd);
	int err;

	if (!dir)
		return -errno;
	err = read_names(dir, &names);
	closedir(dir);
	if (err) {
		free(names.list);
		return err;
	}
	if (names.count > 0)
		qsort(names.list, names.count, sizeof(*names.list), compare_names);
	*ret_names = names.list;
	*ret_count = names.count;
	*ret_more = names.more;
	return 0;
}
