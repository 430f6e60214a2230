/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The calls that can be made to fail, one line each:
 *
 *   CALL(type of what is returned, what says that it failed, name, (parameters), (arguments))
 *
 * Those with errno in the second column return their error as a value. Calls that need more than
 * that (allocation, clone() with its variable arguments, what can be cut short) are written out in
 * libfault.c and only named here.
 */
CALL(int, -1, open, (const char *path, int flags, mode_t mode), (path, flags, mode))
CALL(int, -1, openat, (int dir, const char *path, int flags, mode_t mode), (dir, path, flags, mode))
CALL(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
CALL(int, -1, bind, (int fd, const struct sockaddr *address, socklen_t length),
     (fd, address, length))
CALL(int, -1, listen, (int fd, int backlog), (fd, backlog))
CALL(int, -1, connect, (int fd, const struct sockaddr *address, socklen_t length),
     (fd, address, length))
CALL(int, -1, accept4, (int fd, struct sockaddr *address, socklen_t *length, int flags),
     (fd, address, length, flags))
CALL(int, -1, shutdown, (int fd, int how), (fd, how))
CALL(int, -1, getsockopt, (int fd, int level, int option, void *value, socklen_t *length),
     (fd, level, option, value, length))
CALL(int, -1, setsockopt, (int fd, int level, int option, const void *value, socklen_t length),
     (fd, level, option, value, length))
CALL(ssize_t, -1, recvfrom,
     (int fd, void *to, size_t size, int flags, struct sockaddr *address, socklen_t *length),
     (fd, to, size, flags, address, length))
CALL(int, -1, recvmmsg,
     (int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout),
     (fd, messages, count, flags, timeout))
CALL(ssize_t, -1, sendto,
     (int fd, const void *data, size_t size, int flags, const struct sockaddr *address,
      socklen_t length),
     (fd, data, size, flags, address, length))
CALL(ssize_t, -1, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
CALL(int, -1, epoll_create1, (int flags), (flags))
CALL(int, -1, epoll_wait, (int epoll, struct epoll_event *events, int count, int timeout),
     (epoll, events, count, timeout))
CALL(int, -1, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))
CALL(int, -1, eventfd, (unsigned int count, int flags), (count, flags))
CALL(int, -1, eventfd_read, (int fd, eventfd_t *value), (fd, value))
CALL(int, -1, eventfd_write, (int fd, eventfd_t value), (fd, value))
CALL(int, -1, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags))
CALL(int, -1, timerfd_create, (int clock, int flags), (clock, flags))
CALL(int, -1, timerfd_settime,
     (int fd, int flags, const struct itimerspec *value, struct itimerspec *old),
     (fd, flags, value, old))
CALL(int, -1, inotify_init1, (int flags), (flags))
CALL(int, -1, inotify_add_watch, (int fd, const char *path, uint32_t mask), (fd, path, mask))
CALL(void *, MAP_FAILED, mmap,
     (void *address, size_t size, int protection, int flags, int fd, off_t offset),
     (address, size, protection, flags, fd, offset))
CALL(int, -1, ftruncate, (int fd, off_t size), (fd, size))
CALL(int, -1, fstat, (int fd, struct stat *status), (fd, status))
CALL(int, -1, fstatfs, (int fd, struct statfs *status), (fd, status))
CALL(int, -1, fsync, (int fd), (fd))
CALL(int, -1, flock, (int fd, int operation), (fd, operation))
CALL(int, -1, fchown, (int fd, uid_t user, gid_t group), (fd, user, group))
CALL(int, -1, chown, (const char *path, uid_t user, gid_t group), (path, user, group))
CALL(int, -1, chmod, (const char *path, mode_t mode), (path, mode))
CALL(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
CALL(int, -1, unlink, (const char *path), (path))
CALL(int, -1, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
CALL(int, -1, renameat, (int from_dir, const char *from, int to_dir, const char *to),
     (from_dir, from, to_dir, to))
CALL(ssize_t, -1, readlink, (const char *path, char *to, size_t size), (path, to, size))
CALL(DIR *, NULL, opendir, (const char *path), (path))
CALL(DIR *, NULL, fdopendir, (int fd), (fd))
CALL(struct dirent *, NULL, readdir, (DIR * directory), (directory))
CALL(int, -1, fcntl, (int fd, int command, unsigned long argument), (fd, command, argument))
CALL(int, -1, ioctl, (int fd, unsigned long request, unsigned long argument),
     (fd, request, argument))
CALL(long, -1, syscall, (long number, long a, long b, long c, long d, long e, long f),
     (number, a, b, c, d, e, f))
CALL(int, -1, prctl,
     (int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d),
     (option, a, b, c, d))
CALL(int, -1, setns, (int fd, int kind), (fd, kind))
CALL(int, -1, unshare, (int flags), (flags))
CALL(int, -1, setgroups, (size_t count, const gid_t *groups), (count, groups))
CALL(int, -1, setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))
CALL(int, -1, setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))
CALL(int, -1, sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
CALL(pid_t, -1, waitpid, (pid_t pid, int *status, int options), (pid, status, options))
CALL(pid_t, -1, fork, (void), ())
CALL(int, -1, pipe2, (int fds[2], int flags), (fds, flags))
CALL(int, errno, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument),
     (thread, attributes, start, argument))

WRITTEN(read)
WRITTEN(pread)
WRITTEN(recv)
WRITTEN(recvmsg)
WRITTEN(descriptors) /* recvmsg() that brings some; ECTRUNC takes the last of them away */
WRITTEN(write)
WRITTEN(pwrite)
WRITTEN(send)
WRITTEN(clone)
WRITTEN(epoll_ctl) /* that adds: the others need nothing that can be short */
WRITTEN(malloc)	   /* and all else that allocates */
