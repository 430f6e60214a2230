// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nsgatectl lend: a NETLINK_NETFILTER socket of an attached namespace for a program that stays
 * where it is. The socket belongs for ever to the namespace that it was made in, so whoever has it
 * can serve a queue there. It is made with the caller's own rights, not the broker's, and handed
 * over by the convention of sd_listen_fds(3): descriptor 3, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ipc.h"
#include "client/query.h"
#include "client/request.h"
#include "ctl/run.h"
#include "client/target.h"

#define LISTEN_FDS_START 3 /* sd_listen_fds(3) */

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* asm-generic/socket.h, since Linux 5.14; musl lacks it */
#endif

/* How the namespace was attached, and which it is: its cookie is never used twice. */
static enum nsgate_status look_up(const struct ctl *ctl, const char *name, struct target *ret,
				  uint64_t *ret_cookie, struct failure *fail)
{
	struct json_object *found = NULL, *target, *netns, *cookie;
	enum nsgate_status status = request_name("NAME", name, fail);

	if (status == NSGATE_STATUS_OK)
		status = query_get(ctl, fail, &found, "/v1/namespaces/%s", name);
	if (status != NSGATE_STATUS_OK)
		return status;
	if (json_object_object_get_ex(found, "target", &target) &&
	    json_object_object_get_ex(found, "netns", &netns) &&
	    json_object_object_get_ex(netns, "cookie", &cookie)) {
		*ret_cookie = json_object_get_uint64(cookie);
		status = strcmp(json_object_get_string(target), "handoff") != 0
				 ? target_parse(json_object_get_string(target), ret, fail)
				 : failure_set(fail, NSGATE_STATUS_FAILED,
					       "%s: attached from inside, no way leads there; run "
					       "the program inside",
					       name);
	} else {
		status = failure_set(fail, NSGATE_STATUS_FAILED,
				     "%s: the agent does not say where it is; install all of "
				     "nsgate from one release",
				     name);
	}
	json_object_put(found);
	return status;
}

/* Make the socket in the namespace behind `netns` (of which a pidfd will do) and come back. */
static int socket_there(int netns, int *ret)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int made = -1, err = home < 0 || setns(netns, CLONE_NEWNET) < 0 ? -errno : 0;

	if (err == 0) {
		made = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
		err = made < 0 ? -errno : 0;
		if (setns(home, CLONE_NEWNET) < 0)
			abort(); /* we have just been there; the command must not run elsewhere */
	}
	fd_close(&home);
	if (err == 0)
		*ret = made;
	return err;
}

static enum nsgate_status borrow(const struct target *target, uint64_t cookie, const char *name,
				 int *ret, struct failure *fail)
{
	enum nsgate_status status;
	socklen_t length = sizeof(uint64_t);
	uint64_t found = 0;
	int netns, err;

	status = target_open(target, &netns, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	err = socket_there(netns, ret);
	fd_close(&netns);
	if (err != 0)
		return failure_set(
			fail, err == -EPERM ? NSGATE_STATUS_REFUSED : NSGATE_STATUS_FAILED,
			"%s: cannot make a socket there: %s; run as root", name, strerror(-err));
	if (getsockopt(*ret, SOL_SOCKET, SO_NETNS_COOKIE, &found, &length) == 0 && found == cookie)
		return NSGATE_STATUS_OK;
	fd_close(ret);
	return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
			   "%s: %s does not lead to that namespace from here, or no more; run the "
			   "program inside",
			   name, target->text);
}

static int hand_over(int fd, const char *name)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	/* dup2() leaves out close-on-exec, but not where both are the same. */
	if (fd != LISTEN_FDS_START && dup2(fd, LISTEN_FDS_START) < 0)
		return -errno;
	if (fd != LISTEN_FDS_START)
		close(fd);
	if (setenv("LISTEN_PID", pid, 1) < 0 || setenv("LISTEN_FDS", "1", 1) < 0 ||
	    setenv("LISTEN_FDNAMES", name, 1) < 0)
		return -errno;
	return 0;
}

int ctl_lend(const struct ctl *ctl, const struct command_args *args, struct failure *fail)
{
	const char *name = args->operands[0];
	char **command = args->operands + 1;
	enum nsgate_status status;
	struct target target;
	uint64_t cookie = 0;
	int fd = -1, err;

	/* getopt stopped at NAME; the "--" behind it is ours. */
	if (strcmp(command[0], "--") == 0)
		command++;
	if (command[0] == NULL)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "lend: no command given; see nsgatectl lend --help");
	status = look_up(ctl, name, &target, &cookie, fail);
	if (status == NSGATE_STATUS_OK)
		status = borrow(&target, cookie, name, &fd, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	err = hand_over(fd, name);
	if (err != 0)
		return failure_set(fail, NSGATE_STATUS_FAILED, "descriptor %d: %s",
				   LISTEN_FDS_START, strerror(-err));
	execvp(command[0], command);
	return run_exec_failed(command[0], errno, fail);
}
