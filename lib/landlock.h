/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving up the file system but for some directories: landlock(7). */
#ifndef NSGATE_LANDLOCK_H
#define NSGATE_LANDLOCK_H

#include <stddef.h>

/*
 * From now on this thread may open, make, write, rename and remove files below these directories
 * only (-1: passed over), and connect to no abstract socket (from Linux 6.12 on); what is open or
 * connected stays. no_new_privs is set.
 * Return: the ABI version, 0 where the kernel has no Landlock, or -errno.
 */
int landlock_keep(const int *dir_fds, size_t count);

#endif
