// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/request.h"

static enum nsgate_status parse_netns(const char *rest, struct target *ret, struct failure *fail)
{
	if (rest[0] == '\0' || strchr(rest, '/') != NULL || strcmp(rest, ".") == 0 ||
	    strcmp(rest, "..") == 0)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "netns:%s: not a name below " TARGET_NETNS_DIR
				   "; use path:/FILE for other places",
				   rest);
	snprintf(ret->path, sizeof(ret->path), TARGET_NETNS_DIR "/%s", rest);
	snprintf(ret->name, sizeof(ret->name), "%s", rest);
	return NSGATE_STATUS_OK;
}

static enum nsgate_status parse_pid(const char *rest, struct target *ret, struct failure *fail)
{
	unsigned long pid;
	enum nsgate_status status = request_number("pid", rest, 1, INT_MAX, &pid, fail);

	if (status != NSGATE_STATUS_OK)
		return status;
	ret->pid = (pid_t)pid;
	snprintf(ret->name, sizeof(ret->name), "pid-%lu", pid);
	return NSGATE_STATUS_OK;
}

static enum nsgate_status parse_path(const char *rest, struct target *ret, struct failure *fail)
{
	char number[16];
	unsigned int pid;
	int length = 0;

	if (rest[0] != '/')
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "path:%s: not an absolute path; give it from / on", rest);
	/* A path into /proc ends with its process, and only a pidfd tells when. */
	if (sscanf(rest, "/proc/%9u/ns/net%n", &pid, &length) == 1 && length > 0 && !rest[length]) {
		ret->kind = NSGATE_TARGET_PID;
		snprintf(number, sizeof(number), "%u", pid);
		return parse_pid(number, ret, fail);
	}
	snprintf(ret->path, sizeof(ret->path), "%s", rest);
	snprintf(ret->name, sizeof(ret->name), "%s", strrchr(rest, '/') + 1);
	return NSGATE_STATUS_OK;
}

static enum nsgate_status parse_self(const char *rest, struct target *ret, struct failure *fail)
{
	(void)rest;
	(void)fail;
	snprintf(ret->path, sizeof(ret->path), "/proc/self/ns/net");
	snprintf(ret->name, sizeof(ret->name), "self");
	return NSGATE_STATUS_OK;
}

/* Which process it is has to be known now: the default of --name is the container's own. */
static enum nsgate_status parse_container(enum container_engine engine, const char *rest,
					  struct target *ret, struct failure *fail)
{
	enum nsgate_status status = container_look_up(engine, rest, &ret->container, fail);
	char typed[sizeof(ret->text)];

	if (status != NSGATE_STATUS_OK)
		return status;
	ret->engine = engine;
	ret->pid = ret->container.pid;
	/* The broker finds the process again by the pid; the rest is for people. */
	memcpy(typed, ret->text, sizeof(typed));
	if (snprintf(ret->text, sizeof(ret->text), "pid:%d (%s)", ret->pid, typed) >=
	    (int)sizeof(ret->text))
		snprintf(ret->text, sizeof(ret->text), "pid:%d", ret->pid);
	snprintf(ret->name, sizeof(ret->name), "%s", ret->container.name);
	return NSGATE_STATUS_OK;
}

static enum nsgate_status parse_podman(const char *rest, struct target *ret, struct failure *fail)
{
	return parse_container(CONTAINER_ENGINE_PODMAN, rest, ret, fail);
}

static enum nsgate_status parse_docker(const char *rest, struct target *ret, struct failure *fail)
{
	return parse_container(CONTAINER_ENGINE_DOCKER, rest, ret, fail);
}

static const struct {
	const char *prefix;
	enum nsgate_target_kind kind;
	enum nsgate_status (*parse)(const char *rest, struct target *ret, struct failure *fail);
} kinds[] = {
	{"netns:", NSGATE_TARGET_NETNS, parse_netns}, {"pid:", NSGATE_TARGET_PID, parse_pid},
	{"path:", NSGATE_TARGET_PATH, parse_path},    {"self", NSGATE_TARGET_SELF, parse_self},
	{"podman:", NSGATE_TARGET_PID, parse_podman}, {"docker:", NSGATE_TARGET_PID, parse_docker},
};

enum nsgate_status target_parse(const char *text, struct target *ret, struct failure *fail)
{
	size_t length = strlen(text);

	*ret = (struct target){0};
	if (length >= sizeof(ret->text))
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "TARGET: longer than %zu bytes; choose a shorter path",
				   sizeof(ret->text) - 1);
	for (size_t i = 0; i < length; i++) {
		if (text[i] < ' ' || text[i] > '~')
			return failure_set(fail, NSGATE_STATUS_USAGE,
					   "TARGET: \"%s\" is not printable ASCII; choose another "
					   "path",
					   text);
	}
	memcpy(ret->text, text, length + 1);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		size_t prefix = strlen(kinds[i].prefix);

		if (strncmp(text, kinds[i].prefix, prefix) != 0)
			continue;
		if (kinds[i].kind == NSGATE_TARGET_SELF && text[prefix] != '\0')
			break;
		ret->kind = kinds[i].kind;
		return kinds[i].parse(text + prefix, ret, fail);
	}
	return failure_set(
		fail, NSGATE_STATUS_USAGE,
		"%s: not a TARGET; give podman:NAME, docker:NAME, netns:NAME, pid:N, path:/FILE "
		"or self",
		text);
}

static enum nsgate_status open_process(const struct target *target, int *ret_fd,
				       struct failure *fail)
{
	int fd = (int)syscall(SYS_pidfd_open, target->pid, 0);

	if (fd >= 0) {
		*ret_fd = fd; /* pidfds are close-on-exec from birth */
		return NSGATE_STATUS_OK;
	}
	if (errno == ESRCH)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "%s: no such process; ps shows those there are", target->text);
	if (errno == EINVAL)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "%s: a thread, not a process; give the process it belongs to",
				   target->text);
	return failure_set(fail, NSGATE_STATUS_FAILED, "%s: pidfd_open: %s; see nsgatectl doctor",
			   target->text, strerror(errno));
}

/*
 * Between the look-up and the pidfd the container may have ended, and another process may have got
 * the number. If the container runs as that process afterwards, the pidfd is of that process.
 */
static enum nsgate_status open_container(const struct target *target, int *ret_fd,
					 struct failure *fail)
{
	struct container now;
	enum nsgate_status status;
	int fd = -1;

	status = open_process(target, &fd, fail);
	if (status != NSGATE_STATUS_OK)
		return status;
	status = container_look_up(target->engine, target->container.id, &now, fail);
	if (status == NSGATE_STATUS_OK && !container_same(&now, &target->container))
		status = failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				     "%s: the container was restarted just now; try again",
				     target->text);
	if (status != NSGATE_STATUS_OK) {
		close(fd);
		return status;
	}
	*ret_fd = fd;
	return NSGATE_STATUS_OK;
}

static enum nsgate_status cannot_open(const struct target *target, int error, struct failure *fail)
{
	if (error == ENOENT && target->kind == NSGATE_TARGET_NETNS)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "%s: no such network namespace; ip netns shows those there are",
				   target->text);
	if (error == ENOENT || error == ENOTDIR)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "%s: no such file; check the path", target->text);
	if (error == EACCES || error == EPERM)
		return failure_set(fail, NSGATE_STATUS_REFUSED,
				   "%s: permission denied; run as root", target->text);
	return failure_set(fail, NSGATE_STATUS_FAILED, "%s: %s; check %s", target->text,
			   strerror(error), target->path);
}

/* A FIFO, a device or a file must not pass for a namespace, nor block or act when opened. */
static bool is_netns(int fd)
{
	struct statfs filesystem;

	return fstatfs(fd, &filesystem) == 0 && filesystem.f_type == NSFS_MAGIC &&
	       ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

/* What a crash left below /run/netns is the name of a namespace that is no more. */
static enum nsgate_status not_netns(const struct target *target, struct failure *fail)
{
	if (target->kind == NSGATE_TARGET_NETNS)
		return failure_set(fail, NSGATE_STATUS_NOT_FOUND,
				   "%s: no namespace is behind that name; remove it by ip netns "
				   "delete",
				   target->text);
	return failure_set(fail, NSGATE_STATUS_USAGE,
			   "%s: not a network namespace; give the file of one, such as "
			   "/proc/PID/ns/net",
			   target->text);
}

enum nsgate_status target_open(const struct target *target, int *ret_fd, struct failure *fail)
{
	struct stat info;
	int fd;

	if (target->engine != CONTAINER_ENGINE_NONE)
		return open_container(target, ret_fd, fail);
	if (target->kind == NSGATE_TARGET_PID)
		return open_process(target, ret_fd, fail);

	if (stat(target->path, &info) < 0)
		return cannot_open(target, errno, fail);
	fd = S_ISREG(info.st_mode) ? open(target->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
	if (fd < 0 && S_ISREG(info.st_mode))
		return cannot_open(target, errno, fail);
	if (fd < 0 || !is_netns(fd)) {
		if (fd >= 0)
			close(fd);
		return not_netns(target, fail);
	}
	*ret_fd = fd;
	return NSGATE_STATUS_OK;
}
