// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * The table shows the namespace of the thread that opens it. So a child enters the namespace,
 * reads the table, writes it into a pipe and is gone; this process never moves.
 */
#include "ctl/consumers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/target.h"

#define TABLE_FILE "/proc/thread-self/net/netfilter/nfnetlink_queue"
#define TABLE_BYTES_MAX 65536 /* a line has about 60: some thousand queues */

size_t consumers_parse(const char *text, struct consumer *ret, size_t max)
{
	size_t count = 0;

	while (*text != '\0') {
		unsigned int queue, portid;

		if (sscanf(text, "%u %u", &queue, &portid) == 2 && queue <= UINT16_MAX) {
			if (count < max)
				ret[count] = (struct consumer){(uint16_t)queue, portid};
			count++;
		}
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return count;
}

static int open_if_inode(const char *path, uint64_t inode)
{
	struct stat info;
	int fd;

	if (stat(path, &info) < 0 || info.st_ino != inode || !S_ISREG(info.st_mode))
		return -ENOENT;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &info) < 0 || info.st_ino != inode) {
		close(fd);
		return -ENOENT;
	}
	return fd;
}

/* Try DIR/ENTRY/rest for every entry. Return: an fd or -ENOENT. */
static int search(const char *directory, const char *rest, uint64_t inode)
{
	DIR *entries = opendir(directory);
	struct dirent *entry;
	int fd = -ENOENT;

	if (entries == NULL)
		return -ENOENT;
	while (fd < 0 && (entry = readdir(entries)) != NULL) {
		char path[NAME_MAX + 64];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s%s", directory, entry->d_name, rest);
		fd = open_if_inode(path, inode);
	}
	closedir(entries);
	return fd < 0 ? -ENOENT : fd;
}

/* In the child: only calls that are safe after fork(). The exit code is an errno. */
static void copy_table(int netns, int to)
{
	char buffer[4096];
	ssize_t got;
	int from;

	if (setns(netns, CLONE_NEWNET) < 0)
		_exit(errno);
	from = open(TABLE_FILE, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		_exit(errno);
	while ((got = read(from, buffer, sizeof(buffer))) > 0) {
		if (write(to, buffer, (size_t)got) != got)
			_exit(EIO);
	}
	_exit(got < 0 ? errno : 0);
}

/* All that comes out of the pipe, as text. Return: its length. */
static size_t drain(int from, char *ret, size_t size)
{
	size_t length = 0;
	ssize_t got;

	while (length + 1 < size && (got = read(from, ret + length, size - 1 - length)) != 0) {
		if (got < 0 && errno != EINTR)
			break;
		length += got > 0 ? (size_t)got : 0;
	}
	ret[length] = '\0';
	return length;
}

ssize_t consumers_of(uint64_t inode, struct consumer *ret, size_t max)
{
	static char table[TABLE_BYTES_MAX];
	int netns, ends[2], state, err = 0;
	pid_t child;

	netns = search(TARGET_NETNS_DIR, "", inode);
	if (netns < 0)
		netns = search("/proc", "/ns/net", inode);
	if (netns < 0)
		return netns;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		err = -errno;
		goto out;
	}
	child = fork();
	if (child == 0)
		copy_table(netns, ends[1]);
	if (child < 0)
		err = -errno;
	close(ends[1]);
	drain(ends[0], table, sizeof(table));
	close(ends[0]);
	if (child < 0)
		goto out;
	while (waitpid(child, &state, 0) < 0) {
		if (errno != EINTR) {
			err = -errno;
			goto out;
		}
	}
	err = WIFEXITED(state) ? -WEXITSTATUS(state) : -EIO;
out:
	close(netns);
	return err != 0 ? err : (ssize_t)consumers_parse(table, ret, max);
}
