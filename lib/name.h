/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of namespaces and policies: they become file names, URL parts and labels. */
#ifndef NSGATE_NAME_H
#define NSGATE_NAME_H

#include <stdbool.h>

#define NAME_RULE "a letter or digit, then letters, digits, '_', '.' and '-', 63 at most"

/* Is `name` as NAME_RULE says? */
bool name_valid(const char *name);

#endif
