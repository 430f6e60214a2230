/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The last good version of each policy, for an agent that starts and finds the file bad:
 * RUNTIME/last-good/NAME.json.
 *
 * It is in the runtime directory because it is about what is attached: that ends with the host's
 * running, and so does this. What is attached after that is new, and is refused a policy whose file
 * is bad. The directory is the agent's own (mode 0700): nobody but root can put anything there
 * otherwise, and a copy counts only while the policy's file is there and bad.
 */
#ifndef NSGATE_STORE_GOOD_H
#define NSGATE_STORE_GOOD_H

#include <stddef.h>
#include <sys/types.h>

#include "nsgate/limits.h"

/*
 * Open the directory, made where missing and handed to uid:gid. Call while still privileged.
 * Return: 0; -errno: nothing is kept, and the functions below do nothing.
 */
int store_good_open(const char *runtime_dir, uid_t uid, gid_t gid);
void store_good_close(void);
int store_good_dir_fd(void); /* for Landlock; -1: none */

/* What is kept of a name is this text now; nothing, where it cannot be written. 0 or -errno. */
int store_good_keep(const char *name, const char *text, size_t length);

/* Return: 1 with the text, malloc()ed; 0 there is none; -errno. */
int store_good_read(const char *name, char **ret_text, size_t *ret_length);

void store_good_remove(const char *name);

/* The names, sorted; malloc()ed. Return: 0 or -errno. */
int store_good_list(char (**ret_names)[NSGATE_NAME_MAX], size_t *ret_count);

#endif
