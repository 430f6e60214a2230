// SPDX-License-Identifier: GPL-2.0-or-later
#include "landlock.h"

#include <errno.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The access rights of each ABI: linux/landlock.h; ABI 1 has the first 13. */
#define FS_ABI1 ((1ULL << 13) - 1)
#define FS_REFER (1ULL << 13)	 /* ABI 2 */
#define FS_TRUNCATE (1ULL << 14) /* ABI 3 */

/* Of abstract sockets none but what is connected already. */
#define SCOPE_ABSTRACT_SOCKETS (1ULL << 0) /* ABI 6, Linux 6.12 */

/* struct landlock_ruleset_attr as of ABI 6; older kernels are given as much as they know. */
struct ruleset_attr {
	uint64_t handled_fs, handled_net, scoped;
};

static uint64_t handled_rights(int abi)
{
	uint64_t rights = FS_ABI1;

	if (abi >= 2)
		rights |= FS_REFER;
	if (abi >= 3)
		rights |= FS_TRUNCATE;
	return rights;
}

static uint64_t kept_rights(int abi)
{
	return LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
	       LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
	       LANDLOCK_ACCESS_FS_REMOVE_FILE | (abi >= 3 ? FS_TRUNCATE : 0);
}

/* Return: 0 or -errno. */
static int keep(int ruleset, uint64_t access, int dir_fd)
{
	struct landlock_path_beneath_attr rule = {.parent_fd = dir_fd, .allowed_access = access};

	if (dir_fd < 0)
		return 0;
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
		       ? -errno
		       : 0;
}

int landlock_keep(const int *dir_fds, size_t count)
{
	struct ruleset_attr attr = {.scoped = SCOPE_ABSTRACT_SOCKETS};
	int ruleset, err = 0;
	int abi =
		(int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 1)
		return 0;
	attr.handled_fs = handled_rights(abi);
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr,
			       abi >= 6 ? sizeof(attr) : offsetof(struct ruleset_attr, handled_net),
			       0);
	if (ruleset < 0)
		return -errno;
	for (size_t i = 0; !err && i < count; i++)
		err = keep(ruleset, kept_rights(abi), dir_fds[i]);
	if (!err && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		err = -errno;
	close(ruleset);
	return err ? err : abi;
}
