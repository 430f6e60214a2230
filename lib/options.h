/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options that every program takes. */
#ifndef NSGATE_OPTIONS_H
#define NSGATE_OPTIONS_H

#include <stddef.h>

#define NSGATE_RUNTIME_DIR "/run/nsgate"
#define NSGATE_CONFIG_DIR "/etc/nsgate"

/* --runtime-dir, else $NSGATE_RUNTIME_DIR, else /run/nsgate. `given` may be NULL. */
const char *options_runtime_dir(const char *given) __attribute__((returns_nonnull));

/* "DIR/NAME" into `ret`. Return: 0 or -ENAMETOOLONG (also where a unix socket cannot bear it). */
int options_path(const char *dir, const char *name, char *ret, size_t size);

#endif
