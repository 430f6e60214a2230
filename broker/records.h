/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is attached, on disk: RUNTIME_DIR/attached/COOKIE is a struct nsgate_ns_record behind a
 * header, COOKIE.counters the counters, COOKIE.members the containers that share it. A broker that
 * finds neither a predecessor nor an agent alive takes up from here. Root alone can read or write
 * the directory.
 */
#ifndef NSGATE_RECORDS_H
#define NSGATE_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#include "nsgate/proto.h"
#include "nsgate/shm.h"

/* Make and open the directory. Return: 0 or -errno. */
int records_open(const char *runtime_dir);
void records_close(void);

/* Write or replace the record of a namespace, atomically. Return: 0 or -errno. */
int records_save(const struct nsgate_ns_record *record);

/* Forget a namespace: its record and its counters. */
void records_remove(uint64_t cookie);

/* Forget what was made for an attach that came to nothing; where there is a record, nothing. */
void records_discard(uint64_t cookie);

/*
 * The counters of a namespace (nsgate/shm.h): those of an earlier attachment that was never
 * detached, as whoever made them has laid them out; else new ones, all zero.
 * Return: a descriptor, the caller's, or -errno (-ENOSPC).
 */
int records_counters(uint64_t cookie, unsigned int queue_count);

/*
 * The layout of the blocks in such a file, of which the agent is the other writer.
 * Return: 0, -EBADMSG where it makes no sense for so many queues, -errno.
 */
int records_counters_layout(int counters, unsigned int queue_count, struct shm_layout *ret);

#define RECORDS_MEMBER_MAGIC 0x324d534eU /* "NSM2" */

/* A container behind a namespace (members.h), on disk. */
struct record_member {
	uint32_t magic; /* RECORDS_MEMBER_MAGIC */
	uint32_t size;	/* of this and what a later release has added at its end */
	int32_t pid;
	char container[NSGATE_ID_MAX];
	char policy[NSGATE_NAME_MAX]; /* that it asked for */
};

/* Write the containers of a namespace, atomically; none removes the file. Return: 0 or -errno. */
int records_save_members(uint64_t cookie, const struct record_member *list, size_t count);

/* Read them. Return: how many, at most `max`; 0 where there are none; -errno. */
int records_load_members(uint64_t cookie, struct record_member *ret, size_t max);

/* The counters as they are, of whatever size. Return: a descriptor, the caller's, or -errno. */
int records_counters_found(uint64_t cookie);

/* Read one. Return: 0; -ENOENT: there is none; -EBADMSG: it is none of ours; -errno. */
int records_load(uint64_t cookie, struct nsgate_ns_record *ret);

/*
 * Call `take` for every record; files that are none are removed.
 * Return: 0 or -errno where some could not be read.
 */
int records_each(void (*take)(const struct nsgate_ns_record *record));

#endif
