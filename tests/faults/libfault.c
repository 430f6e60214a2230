// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Preloaded into a program (LD_PRELOAD), this library stands between it, with all its libraries,
 * and the C library. Each call that calls.h names is counted, and the one that the plan names
 * fails: the error is there without the call having been made.
 *
 * The plan is a file that the harness made and maps too (NSGATE_FAULT_PLAN). So a running daemon
 * can be armed, disarmed and looked at from outside, and no call of the library's own is needed
 * once it is mapped: neither Landlock nor seccomp notices it. Without a plan nothing ever fails.
 *
 * What happens before main() counts as nothing: the dynamic linker's failures are not nsgate's.
 *
 * Blocks of memory that are in use are counted too. Where they are more after a failure than
 * before, with the same things attached, something leaked.
 *
 * The broker's child shares the memory and has a small stack (clone() with CLONE_VM), and
 * allocation is called by dlsym() itself: hence no lock, no thread-local storage, no allocation.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <unistd.h>

/* Numbers of the calls, in the order of calls.h. */
enum call {
#define CALL(type, failed, name, parameters, arguments) CALL_##name,
#define WRITTEN(name) CALL_##name,
#include "calls.h"
#undef CALL
#undef WRITTEN
	CALL_MAX
};

#define ESHORT 4001  /* no error: half of it */
#define ECTRUNC 4002 /* no error: the last descriptor did not fit, MSG_CTRUNC says so */

/* Laid out as in harness.py. */
struct plan {
	uint32_t armed;
	uint32_t call;
	uint64_t nth;	   /* the first one to fail, from 1; 0: none */
	uint32_t for_good; /* and all that follow */
	int32_t error;	   /* errno, ESHORT or ECTRUNC */
	uint64_t fired;	   /* how many have failed */
	int64_t blocks;	   /* of memory in use */
	uint64_t counts[CALL_MAX];
};

const unsigned int fault_call_count = CALL_MAX;
const char *const fault_call_names[CALL_MAX] = {
#define CALL(type, failed, name, parameters, arguments) #name,
#define WRITTEN(name) #name,
#include "calls.h"
#undef CALL
#undef WRITTEN
};

static struct plan no_plan;
static struct plan *plan = &no_plan;
static bool in_main;
static bool exempt; /* the control thread is in a library that is not tested */

/* With NSGATE_FAULT_TRACE set: who made the first call that failed, for addr2line(1). */
static bool traced;

static void show_stack(void)
{
	void *frames[32];

	backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
}

/* Return: 0, or how this call has to fail. */
static int next_fault(enum call call)
{
	uint64_t number;

	if (!in_main || (exempt && call == CALL_malloc) ||
	    !__atomic_load_n(&plan->armed, __ATOMIC_ACQUIRE))
		return 0;
	number = __atomic_add_fetch(&plan->counts[call], 1, __ATOMIC_RELAXED);
	if (plan->call != call || !plan->nth || number < plan->nth ||
	    (number > plan->nth && !plan->for_good))
		return 0;
	if (__atomic_add_fetch(&plan->fired, 1, __ATOMIC_RELAXED) == 1 && traced)
		show_stack();
	return plan->error;
}

static bool fails(enum call call)
{
	int error = next_fault(call);

	if (error)
		errno = error;
	return error != 0;
}

/* The C library's own, or that of a sanitizer that stands between. */
static void *next_of(enum call call)
{
	static void *found[CALL_MAX];

	if (!found[call])
		found[call] = dlsym(RTLD_NEXT, fault_call_names[call]);
	return found[call];
}

/* Types and lists of parameters cannot stand in parentheses.
 * NOLINTBEGIN(bugprone-macro-parentheses) */

/* Under names of their own: some are declared with variable arguments, which are integers all. */
#define CALL(type, failed, name, parameters, arguments)                                            \
	type fault_##name parameters __asm__(#name);                                               \
	type fault_##name parameters                                                               \
	{                                                                                          \
		type(*next) parameters = (type(*) parameters)next_of(CALL_##name);                 \
                                                                                                   \
		if (fails(CALL_##name))                                                            \
			return failed;                                                             \
		return next arguments;                                                             \
	}
#define WRITTEN(name)
#include "calls.h"
#undef CALL
#undef WRITTEN

/* ---- what can be cut short ---- */

static size_t half(size_t size)
{
	return size > 1 ? size / 2 : size;
}

#define SHORTENED(name, parameters, size, arguments)                                               \
	ssize_t fault_##name parameters __asm__(#name);                                            \
	ssize_t fault_##name parameters                                                            \
	{                                                                                          \
		ssize_t(*next) parameters = (ssize_t(*) parameters)next_of(CALL_##name);           \
		int error = next_fault(CALL_##name);                                               \
                                                                                                   \
		if (error && error != ESHORT) {                                                    \
			errno = error;                                                             \
			return -1;                                                                 \
		}                                                                                  \
		if (error)                                                                         \
			(size) = half(size);                                                       \
		return next arguments;                                                             \
	}
SHORTENED(read, (int fd, void *to, size_t size), size, (fd, to, size))
SHORTENED(pread, (int fd, void *to, size_t size, off_t at), size, (fd, to, size, at))
SHORTENED(recv, (int fd, void *to, size_t size, int flags), size, (fd, to, size, flags))
SHORTENED(write, (int fd, const void *data, size_t size), size, (fd, data, size))
SHORTENED(pwrite, (int fd, const void *data, size_t size, off_t at), size, (fd, data, size, at))
SHORTENED(send, (int fd, const void *data, size_t size, int flags), size, (fd, data, size, flags))

/* NOLINTEND(bugprone-macro-parentheses) */

static struct cmsghdr *find_descriptors(struct msghdr *message)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg; cmsg = CMSG_NXTHDR(message, cmsg))
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
			return cmsg;
	return NULL;
}

/* As the kernel does where the table of descriptors is full. */
static void take_last_descriptor(struct msghdr *message, struct cmsghdr *cmsg)
{
	int fd;

	cmsg->cmsg_len -= sizeof(fd);
	memcpy(&fd, (char *)cmsg + cmsg->cmsg_len, sizeof(fd));
	close(fd);
	message->msg_flags |= MSG_CTRUNC;
	if (cmsg->cmsg_len == CMSG_LEN(0))
		message->msg_controllen = 0;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t (*next)(int, struct msghdr *, int) =
		(ssize_t(*)(int, struct msghdr *, int))next_of(CALL_recvmsg);
	int error = next_fault(CALL_recvmsg);
	struct cmsghdr *cmsg;
	struct iovec whole;
	ssize_t got;

	if (error && error != ESHORT) {
		errno = error;
		return -1;
	}
	if (error && message->msg_iovlen) {
		whole = message->msg_iov[0];
		message->msg_iov[0].iov_len = half(whole.iov_len);
		got = next(fd, message, flags);
		message->msg_iov[0] = whole;
	} else {
		got = next(fd, message, flags);
	}
	cmsg = got >= 0 && message->msg_controllen ? find_descriptors(message) : NULL;
	if (cmsg && next_fault(CALL_descriptors))
		take_last_descriptor(message, cmsg);
	return got;
}

int clone(int (*fn)(void *), void *stack, int flags, void *argument, ...)
{
	int (*next)(int (*)(void *), void *, int, void *, ...) =
		(int (*)(int (*)(void *), void *, int, void *, ...))next_of(CALL_clone);

	return fails(CALL_clone) ? -1 : next(fn, stack, flags, argument);
}

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	int (*next)(int, int, int, struct epoll_event *) =
		(int (*)(int, int, int, struct epoll_event *))next_of(CALL_epoll_ctl);

	return op == EPOLL_CTL_ADD && fails(CALL_epoll_ctl) ? -1 : next(epoll, op, fd, event);
}

/* ---- memory ---- */

/* What glibc's own allocator is called inside; dlsym() cannot be used to find it. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static void *taken(void *block)
{
	if (block)
		__atomic_add_fetch(&plan->blocks, 1, __ATOMIC_RELAXED);
	return block;
}

void *malloc(size_t size)
{
	return fails(CALL_malloc) ? NULL : taken(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
	return fails(CALL_malloc) ? NULL : taken(__libc_calloc(count, size));
}

void *realloc(void *block, size_t size)
{
	void *moved;

	if (fails(CALL_malloc))
		return NULL;
	moved = __libc_realloc(block, size);
	if (!block)
		return taken(moved);
	if (!moved && !size)
		__atomic_sub_fetch(&plan->blocks, 1, __ATOMIC_RELAXED);
	return moved;
}

void *reallocarray(void *block, size_t count, size_t size)
{
	size_t whole;

	if (__builtin_mul_overflow(count, size, &whole)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(block, whole);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return fails(CALL_malloc) ? NULL : taken(__libc_memalign(alignment, size));
}

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size)
{
	return aligned_alloc(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
	void *block = aligned_alloc(alignment, size);

	if (!block)
		return ENOMEM;
	*ret = block;
	return 0;
}

void free(void *block)
{
	if (block)
		__atomic_sub_fetch(&plan->blocks, 1, __ATOMIC_RELAXED);
	__libc_free(block);
}

/*
 * What two libraries do without memory is theirs: nothing fails inside these two.
 *
 * libseccomp (2.5) makes half a filter, or loops for ever. nsgate looks at what it made
 * (lib/filter.c). The parser of json-c (0.16) leaves members out, or loses them, or crashes on a
 * name that it could not copy: an agent that crashes is one that dies.
 */
struct json_object *json_tokener_parse_ex(void *tokener, const char *text, int length);
struct json_object *json_tokener_parse_ex(void *tokener, const char *text, int length)
{
	struct json_object *(*next)(void *, const char *, int) =
		(struct json_object * (*)(void *, const char *, int))
			dlsym(RTLD_NEXT, "json_tokener_parse_ex");
	struct json_object *made;

	exempt = true;
	made = next(tokener, text, length);
	exempt = false;
	return made;
}

int seccomp_export_bpf(const void *filter, int fd);
int seccomp_export_bpf(const void *filter, int fd)
{
	int (*next)(const void *, int) =
		(int (*)(const void *, int))dlsym(RTLD_NEXT, "seccomp_export_bpf");
	int err;

	exempt = true;
	err = next(filter, fd);
	exempt = false;
	return err;
}

/* ---- start ---- */

static int (*real_main)(int argc, char **argv, char **environment);

static void open_plan(void)
{
	const char *path = getenv("NSGATE_FAULT_PLAN");
	void *map;
	int fd;

	if (!path)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0)
		abort(); /* a test without its faults would pass */
	map = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		abort();
	close(fd);
	plan = map;
	plan->blocks = 0; /* a process before this one may have been killed */
}

static int faulty_main(int argc, char **argv, char **environment)
{
	for (unsigned int call = 0; call < CALL_MAX; call++)
		next_of((enum call)call);
	open_plan();
	traced = getenv("NSGATE_FAULT_TRACE");
	if (traced)
		(void)backtrace(&(void *){NULL}, 1); /* it allocates the first time */
	in_main = true;
	return real_main(argc, argv, environment);
}

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
		      void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
		      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
	typeof(&__libc_start_main) next =
		(typeof(&__libc_start_main))dlsym(RTLD_NEXT, "__libc_start_main");

	real_main = main;
	return next(faulty_main, argc, argv, init, fini, rtld_fini, stack_end);
}
