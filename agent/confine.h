/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the agent gives up what it does not need, in numbered stages. doc/PRIVSEP.md is the prose. */
#ifndef NSGATE_AGENT_CONFINE_H
#define NSGATE_AGENT_CONFINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Have we got CAP_NET_ADMIN? */
bool confine_may_judge(void);

/* Stage 1, before any socket but unix ones: an empty network namespace of its own. 0 or -errno. */
int confine_network(void);

/*
 * Stage 2, once every file and socket is open and before any thread: uid and gid, no groups,
 * CAP_NET_ADMIN alone, no_new_privs. Not started as root, the caller is that user already.
 * Return: 0 or -errno.
 */
int confine_user(uid_t uid, gid_t gid);

/*
 * Stage 3, in every thread, once it has opened what it reads: Landlock leaves the directories of
 * policies and of their last good versions (-1: none), and nothing else of the file system; nor
 * (Linux 6.12) abstract sockets. It holds for the calling thread and those that it starts.
 * Return: the ABI version in force; 0: this kernel has none; -errno.
 */
int confine_files(int policy_dir_fd, int good_dir_fd);

/*
 * No file that the agent writes to grows beyond that: the counters, which have their size, would
 * hold whatever the file system has. A log that is a file would end there; then there is no limit.
 * Return: 0 or -errno.
 */
int confine_file_size(uint64_t bytes);

/* Stage 4: the system calls that serving needs, for all threads. */
int confine_syscalls(void);

#endif
