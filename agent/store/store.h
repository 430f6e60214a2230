/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The policies that exist: files CONFIG/policies/NAME.json, compiled, kept in step with the
 * directory by inotify. The directory is opened once, before privileges are dropped; everything
 * afterwards goes through that descriptor.
 */
#ifndef NSGATE_STORE_H
#define NSGATE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "nsgate/limits.h"
#include "policy/policy.h"

#define STORE_POLICIES_MAX 4096 /* policies at most; further files are refused, see below */

struct store_file; /* what is known of the file behind an entry */

struct store_entry {
	struct store_entry *next; /* by name */
	char name[NSGATE_NAME_MAX];
	struct policy *policy;	       /* in force under that name; NULL: the file never was good */
	uint32_t revision;	       /* counts the good versions since the agent started */
	char problem[NSGATE_TEXT_MAX]; /* the file as it is now is bad: why; empty otherwise */
	struct store_file *file;       /* the store's own */
};

/* Called when the policy of a name changed in the directory; NULL policy: it is gone. */
typedef void store_changed_fn(const char *name, struct policy *policy);

/* Called when a file turns out to be bad (one line: why), or is no longer (NULL). */
typedef void store_problem_fn(const char *name, const char *problem);
void store_on_problem(store_problem_fn *problem); /* NULL: nobody wants to know */

/*
 * Open CONFIG/policies (made where missing, handed to uid:gid so that PUT can write there) and
 * watch it. Call while still privileged. Nothing is read yet. Return: 0 or -errno.
 */
int store_open(const char *config_dir, uid_t uid, gid_t gid, store_changed_fn *changed);

/*
 * Read every file for the first time; call it when privileges are gone, so that the parser never
 * has them and a file is readable at start if and only if it is later. Bad files are logged and
 * kept as entries with a problem.
 */
void store_load(void);
void store_close(void);

int store_dir_fd(void);	    /* for Landlock */
int store_inotify_fd(void); /* readable: call store_reload() (an epoll fd: it has a timer too) */

/*
 * Read what changed, call `changed` for each. A file that is gone is believed to be gone
 * STORE_GRACE_MS later, because editors and version control remove before they create.
 */
void store_reload(void);
#define STORE_GRACE_MS 250

/*
 * Files that were refused because there are STORE_POLICIES_MAX policies, and the first of them by
 * name (NULL: none). They take no other out of force, and come in when there is room.
 */
size_t store_refused(const char **ret_first);

/* Why the file of that name is bad; NULL: it is not. And how many are. */
const char *store_problem(const char *name);
size_t store_bad(void);

struct store_entry *store_first(void);
struct store_entry *store_find(const char *name); /* NULL: no such */

/*
 * Validate, compile, write atomically (temporary file, fsync, rename, fsync of the directory) and
 * enter. Does not call `changed`: the caller applies it (ns_policy_changed()).
 * Return: 1 created, 0 replaced, -EINVAL see problems, -E2BIG there are STORE_POLICIES_MAX
 * already, -errno of the write (nothing changed): -EROFS, -EACCES or -EPERM where the directory
 * is read-only.
 */
int store_put(const char *name, const char *json, size_t length, struct policy_problems *problems);

/* Remove file and entry. Does not call `changed`. Return: 0, -ENOENT, -errno. */
int store_delete(const char *name);

#endif
