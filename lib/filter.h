/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Putting a seccomp filter in force. */
#ifndef NSGATE_FILTER_H
#define NSGATE_FILTER_H

#include <seccomp.h>
#include <stddef.h>

/*
 * Have the kernel apply `filter`, which has `rules` rules of one system call each, to all threads;
 * no_new_privs is set. libseccomp (2.5) does not tell where it ran out of memory in the making of
 * a filter, so what it made is looked at first. Return: 0 or -errno.
 */
int filter_load(scmp_filter_ctx filter, size_t rules);

#endif
