/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asking nsgate-enter (nsgate/enter.h). What cannot take long, by a descriptor, is waited for. What
 * may depend on others, a path or a namespace that somebody inside owns, is asked for, and answered
 * from the loop.
 */
#ifndef NSGATE_BROKER_ENTER_H
#define NSGATE_BROKER_ENTER_H

#include <stdbool.h>

#include "nsgate/enter.h"

struct enter_result {
	struct nsgate_enter_answer answer;
	int fds[NSGATE_ENTER_FDS_MAX]; /* the receiver's to close */
	unsigned int fd_count;
};

/*
 * Start nsgate-enter: the program beside this one, or in ../libexec/nsgate. It ends with the
 * broker. Return: 0 or -errno: -ENOENT it is not there.
 */
int enter_start(void);

/* End the broker, by `gone`, when nsgate-enter ends. Return: 0 or -errno. */
int enter_watch(void (*gone)(void));

/* What is asked; see nsgate/enter.h. */
struct enter_question {
	enum nsgate_enter_op op;
	int fd; /* -1: none. It stays the caller's */
	uint32_t queues, want;
	uint32_t mask;
	const char *path; /* NULL: none */
};

/*
 * Ask and wait. Return: 0, or -errno, which may be the answer's: then nothing was opened.
 */
int enter_call(const struct enter_question *question, struct enter_result *ret);

/* A question on its way, part of whatever waits for the answer. */
struct enter_pending {
	struct enter_pending *next;
	/* From the loop; `pending` is out of the list then. `err` as of enter_call(). */
	void (*done)(struct enter_pending *pending, int err, struct enter_result *result);
	struct enter_question question;
	enum enter_state { ENTER_IDLE, ENTER_UNSENT, ENTER_SENT, ENTER_ANSWERED } state;
	uint32_t id;
	int err;
	struct enter_result result;
};

/*
 * Ask, and have `done` called. The descriptor and the path must stay until then.
 */
void enter_ask(struct enter_pending *pending, const struct enter_question *question,
	       void (*done)(struct enter_pending *pending, int err, struct enter_result *result));

/* As if it had been asked and answered by `fd`, a descriptor that becomes the asker's, or -errno.
 */
void enter_answer(struct enter_pending *pending, int fd,
		  void (*done)(struct enter_pending *pending, int err,
			       struct enter_result *result));

/* Wait until all questions are answered; enter_tick() then tells. */
void enter_wait(void);

/* Nobody waits for the answer any more; an idle one is passed over. */
void enter_forget(struct enter_pending *pending);

/* Milliseconds until enter_tick() has something to do; -1: nothing. */
int enter_timeout_ms(void);
void enter_tick(void);

void enter_stop(void);

#endif
