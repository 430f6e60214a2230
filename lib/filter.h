/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Putting a seccomp filter in force. */
#ifndef NSGATE_FILTER_H
#define NSGATE_FILTER_H

#include <seccomp.h>
#include <stddef.h>

/* A system call of which one argument, as far as `mask` goes (0: all of it), must be `value`. */
struct filter_narrowed {
	int call;
	unsigned int argument;
	scmp_datum_t mask, value;
};

/*
 * What is allowed, beside tgkill() to the process itself (abort() does); all else fails with EPERM.
 * clone3() fails with ENOSYS: its flags are in memory, where no filter looks, and libc then takes
 * clone().
 */
struct filter_list {
	const int *allowed;
	size_t allowed_count;
	const struct filter_narrowed *narrowed;
	size_t narrowed_count;
};

/* Put a list in force, in all threads; no_new_privs is set. Return: 0 or -errno. */
int filter_allow(const struct filter_list *list);

/*
 * Have the kernel apply `filter`, which has `rules` rules of one system call each, to all threads;
 * no_new_privs is set. libseccomp (2.5) does not tell where it ran out of memory in the making of
 * a filter, so what it made is looked at first. Return: 0 or -errno.
 */
int filter_load(scmp_filter_ctx filter, size_t rules);

#endif
