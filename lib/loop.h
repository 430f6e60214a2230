/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A level-triggered epoll loop for control planes. One event is fetched at a time, so a handler
 * may remove and free any source, its own included.
 */
#ifndef NSGATE_LOOP_H
#define NSGATE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop_source {
	int fd; /* the owner's; -1: not in the loop */
	/* `events`: EPOLLIN and so on. `source` is embedded in what the handler works on. */
	void (*ready)(struct loop_source *source, uint32_t events);
};

/* The structure of type `type` whose member `member` is `source`. */
#define loop_owner(source, type, member) ((type *)(void *)((char *)(source)-offsetof(type, member)))

/* Return: 0 or -errno. One loop per process. */
int loop_open(void);
void loop_close(void);

int loop_add(struct loop_source *source, int fd, uint32_t events); /* 0 or -errno */
int loop_change(struct loop_source *source, uint32_t events);
void loop_remove(struct loop_source *source); /* leaves the fd open; harmless when not added */

/* Handle at most one event, waiting at most timeout_ms (-1: for ever). Return: 0 or -errno. */
int loop_step(int timeout_ms);

/* The shorter of two timeouts, where a negative one stands for ever. */
int loop_nearest(int a_ms, int b_ms);

/* CLOCK_MONOTONIC in milliseconds. */
int64_t loop_now_ms(void);

/* From now until a moment of loop_now_ms(), for loop_step(): 0 once it is there. */
static inline int loop_left_ms(int64_t at_ms)
{
	const int64_t left = at_ms - loop_now_ms();

	return left > 0 ? (int)left : 0;
}

/*
 * Block SIGTERM, SIGINT and SIGHUP and receive them as events: `stop` turns true at the first two,
 * `reload` is called for the third. Ignores SIGPIPE. Return: 0 or -errno.
 */
int loop_signals(volatile bool *stop, void (*reload)(void));

#endif
