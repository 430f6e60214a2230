// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/records.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "grow.h"
#include "ipc.h"
#include "log.h"
#include "record.h"

#define RECORD_MAGIC 0x3352534eU /* "NSR3" */
#define RECORD_LEAST 1640	 /* bytes of a record in the first release that had this magic */
#define MEMBER_LEAST 332	 /* of a member, the same */
#define FILE_NAME_MAX 48
#define TEMPORARY "record.tmp"
#define MEMBERS_SUFFIX ".members"

#define FILE_MAX 4096 /* written whole or not at all */

/* `size` bytes in all, as their writer knows it. */
struct record_file {
	uint32_t magic;
	uint32_t size;
	struct nsgate_ns_record record;
};

static_assert(sizeof(struct record_file) <= FILE_MAX, "written whole or not at all");
static_assert(sizeof(struct record_member) >= MEMBER_LEAST, "what has a place keeps it");

static int dir_fd = -1;

static void file_name(char name[FILE_NAME_MAX], uint64_t cookie, const char *suffix)
{
	snprintf(name, FILE_NAME_MAX, "%" PRIu64 "%s", cookie, suffix);
}

int records_open(const char *runtime_dir)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/attached", runtime_dir);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return dir_fd < 0 ? -errno : 0;
}

void records_close(void)
{
	fd_close(&dir_fd);
}

/*
 * A record is smaller than a page, and the kernel does not stop within one: a broker that is killed
 * has written all of it or nothing. No fsync: a power cut ends the namespaces too.
 */
static int write_all(int fd, const void *data, size_t size)
{
	const ssize_t written = pwrite(fd, data, size, 0);
	const int err = written < 0 ? -errno : written == (ssize_t)size ? 0 : -EIO;

	close(fd);
	return err;
}

/* A new file in place of the one that may be there. */
static int replace_file(const char *name, const void *data, size_t size)
{
	const int fd = openat(dir_fd, TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int err;

	if (fd < 0)
		return -errno;
	err = write_all(fd, data, size);
	if (!err && renameat(dir_fd, TEMPORARY, dir_fd, name) < 0)
		err = -errno;
	return err;
}

int records_save(const struct nsgate_ns_record *record)
{
	const struct record_file file = {
		.magic = RECORD_MAGIC, .size = sizeof(file), .record = *record};
	char name[FILE_NAME_MAX];
	int fd;

	file_name(name, record->cookie, "");
	fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? replace_file(name, &file, sizeof(file))
		      : write_all(fd, &file, sizeof(file));
}

int records_save_members(uint64_t cookie, const struct record_member *list, size_t count)
{
	char name[FILE_NAME_MAX];

	file_name(name, cookie, MEMBERS_SUFFIX);
	if (count)
		return replace_file(name, list, count * sizeof(*list));
	return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static bool member_valid(const struct record_member *member)
{
	return member->magic == RECORDS_MEMBER_MAGIC && member->pid > 0 &&
	       ipc_text_valid(member->container, sizeof(member->container)) &&
	       ipc_text_valid(member->policy, sizeof(member->policy));
}

/* The one at an offset. Return: its size in the file; 0: there is none; -errno. */
static ssize_t load_member(int fd, off_t at, struct record_member *ret)
{
	union {
		struct record_member member;
		unsigned char bytes[FILE_MAX];
	} file;
	const ssize_t got = pread(fd, &file, sizeof(file), at);
	size_t size;

	if (got < 0)
		return -errno;
	if (got < MEMBER_LEAST || file.member.size > (size_t)got)
		return 0;
	size = file.member.size;
	if (grow_to_ours(&file, size, MEMBER_LEAST, sizeof(*ret)) == -EBADMSG ||
	    !member_valid(&file.member))
		return 0;
	*ret = file.member;
	ret->size = sizeof(*ret);
	return (ssize_t)size;
}

int records_load_members(uint64_t cookie, struct record_member *ret, size_t max)
{
	char name[FILE_NAME_MAX];
	size_t count = 0;
	ssize_t size = 1;
	off_t at = 0;
	int fd;

	file_name(name, cookie, MEMBERS_SUFFIX);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	for (; count < max && size > 0; at += size) {
		size = load_member(fd, at, &ret[count]);
		count += size > 0;
	}
	close(fd);
	return size < 0 ? (int)size : (int)count;
}

void records_remove(uint64_t cookie)
{
	char name[FILE_NAME_MAX];

	file_name(name, cookie, "");
	unlinkat(dir_fd, name, 0);
	file_name(name, cookie, ".counters");
	unlinkat(dir_fd, name, 0);
	file_name(name, cookie, MEMBERS_SUFFIX);
	unlinkat(dir_fd, name, 0);
}

int records_counters_layout(int counters, unsigned int queue_count, struct shm_layout *ret)
{
	struct shm_layout layout;
	struct stat st;
	const ssize_t got = pread(counters, &layout, sizeof(layout), 0);

	if (got < 0 || fstat(counters, &st) < 0)
		return -errno;
	if (got != sizeof(layout) || !shm_layout_valid(&layout, queue_count, (uint64_t)st.st_size))
		return -EBADMSG;
	*ret = layout;
	return 0;
}

/* All zero, but for the layout of each block. */
static int lay_out(int counters, unsigned int queue_count)
{
	struct shm_layout layout;

	shm_lay_out(&layout);
	if (ftruncate(counters, 0) < 0 ||
	    ftruncate(counters, (off_t)layout.size * (off_t)queue_count) < 0)
		return -errno;
	for (unsigned int i = 0; i < queue_count; i++)
		if (pwrite(counters, &layout, sizeof(layout), (off_t)i * layout.size) < 0)
			return -errno;
	return 0;
}

/*
 * What of a block is used from the start: the agent maps it, and would end where the file system
 * turns out to be full (nsgate/shm.h). Of the slots of rules that is the first group, which is on
 * one page; all of them would take 400 KB. Nothing that is there changes.
 */
static int allocate(int counters, const struct shm_layout *layout, unsigned int index)
{
	const off_t length = layout->rules_at + SHM_RULES_GROUP * (off_t)sizeof(struct shm_rule);

	return fallocate(counters, 0, (off_t)index * layout->size, length) < 0 &&
			       errno != EOPNOTSUPP
		       ? -errno
		       : 0;
}

int records_counters(uint64_t cookie, unsigned int queue_count)
{
	struct shm_layout layout = {.size = 0};
	char name[FILE_NAME_MAX];
	int fd, err;

	file_name(name, cookie, ".counters");
	fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	err = records_counters_layout(fd, queue_count, &layout);
	if (!err && lseek(fd, 0, SEEK_END) != (off_t)layout.size * (off_t)queue_count)
		err = -EBADMSG;
	if (err == -EBADMSG) { /* new, or of another number of queues */
		err = lay_out(fd, queue_count);
		shm_lay_out(&layout);
	}
	for (unsigned int i = 0; !err && i < queue_count; i++)
		err = allocate(fd, &layout, i);
	if (!err)
		return fd;
	close(fd);
	return err;
}

int records_counters_found(uint64_t cookie)
{
	char name[FILE_NAME_MAX];
	int fd;

	file_name(name, cookie, ".counters");
	fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	return fd;
}

/* What a later release has added behind our end stays unread, and goes with the next change. */
static int fit_record(struct record_file *file, size_t length)
{
	const size_t before = offsetof(struct record_file, record);

	if (length < before || file->magic != RECORD_MAGIC || file->size > length ||
	    grow_to_ours(file, file->size, before + RECORD_LEAST, sizeof(*file)) == -EBADMSG ||
	    !record_valid(&file->record))
		return -EBADMSG;
	record_rules_forget_unknown(&file->record.rules);
	return 0;
}

/* Return: 0, -EBADMSG where it is none of ours, -errno. */
static int read_record(const char *name, struct nsgate_ns_record *ret)
{
	union {
		struct record_file file;
		unsigned char bytes[FILE_MAX];
	} found;
	int err, fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t length;

	if (fd < 0)
		return -errno;
	length = pread(fd, &found, sizeof(found), 0);
	err = length < 0 ? -errno : fit_record(&found.file, (size_t)length);
	close(fd);
	if (!err)
		*ret = found.file.record;
	return err;
}

int records_load(uint64_t cookie, struct nsgate_ns_record *ret)
{
	char name[FILE_NAME_MAX];
	struct nsgate_ns_record record = {.cookie = 0};
	int err;

	file_name(name, cookie, "");
	err = read_record(name, &record);
	if (!err && record.cookie != cookie)
		err = -EBADMSG;
	if (!err)
		*ret = record;
	return err;
}

void records_discard(uint64_t cookie)
{
	struct nsgate_ns_record record;

	if (records_load(cookie, &record) == -ENOENT)
		records_remove(cookie);
}

/* Return: 0 or -errno where it is there and could not be read. */
static int take_record(const char *name, void (*take)(const struct nsgate_ns_record *record))
{
	struct nsgate_ns_record record;
	int err = read_record(name, &record);

	if (!err)
		take(&record);
	if (!err || err == -ENOENT)
		return 0;
	log_event(LOG_LEVEL_WARNING, "record.bad", "file", name, "error", log_errno(err), NULL);
	if (err != -EBADMSG)
		return err;
	unlinkat(dir_fd, name, 0);
	return 0;
}

int records_each(void (*take)(const struct nsgate_ns_record *record))
{
	int err = 0, fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!dir) {
		err = -errno;
		fd_close(&fd);
		return err;
	}
	for (errno = 0; (entry = readdir(dir)); errno = 0) {
		int one = 0;

		if (strspn(entry->d_name, "0123456789") == strlen(entry->d_name))
			one = take_record(entry->d_name, take);
		if (one)
			err = one;
	}
	if (errno)
		err = -errno;
	closedir(dir);
	return err;
}
