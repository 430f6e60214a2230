/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_FRONT_CONFINE_H
#define NSGATE_FRONT_CONFINE_H

#include <sys/types.h>

/* Become that user, without any capability, and keep some twenty system calls. 0 or -errno. */
int confine_front(uid_t uid, gid_t gid);

#endif
