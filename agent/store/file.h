/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files behind the store: reading one without being fooled, writing one atomically. */
#ifndef NSGATE_STORE_FILE_H
#define NSGATE_STORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "nsgate/limits.h"

#define STORE_SUFFIX ".json"
#define STORE_FILE_NAME_MAX (NSGATE_NAME_MAX + sizeof(STORE_SUFFIX))

/* What tells one version of a file from another. */
struct store_file {
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec modified, changed;
	bool settled;  /* read so long after its last change that a later one would show above */
	bool read;     /* `hash` is that of its content */
	uint64_t hash; /* FNV-1a */
	int error;     /* why it could not be read: errno, or 0 */
	bool gone;     /* not there any more */
	int64_t gone_since_ms; /* CLOCK_MONOTONIC */
};

/*
 * Read NAME.json of the directory, as far as it differs from what is known of it.
 * @file: what is known; updated
 * @ret_text: the content, malloc()ed and NUL-terminated
 * Return: 1 with the content; 0 nothing changed; -errno where it cannot be read and could before
 * or never was tried: -ENOENT, -EFBIG over NSGATE_POLICY_BYTES_MAX, -EBADF not a regular file.
 */
int store_file_read(int dir_fd, const char *name, struct store_file *file, char **ret_text,
		    size_t *ret_length);

/* What was written there just now is what is known of it; how the file looks is not. */
void store_file_note(struct store_file *file, const char *text, size_t length);

/* Replace or create NAME.json whole, durably. Return: 0 or -errno with nothing changed. */
int store_file_write(int dir_fd, const char *name, const char *text, size_t length);

/* Return: 0 or -errno. */
int store_file_remove(int dir_fd, const char *name);

/*
 * The names NAME of all NAME.json with a valid NAME in the directory, sorted; dot files and the
 * like are left out. At most STORE_NAMES_MAX; *ret_more tells whether there are more.
 * Return: 0, -ENOENT where the directory itself was removed, -errno.
 */
#define STORE_NAMES_MAX 65536
int store_file_list(int dir_fd, char (**ret_names)[NSGATE_NAME_MAX], size_t *ret_count,
		    bool *ret_more);

#endif
