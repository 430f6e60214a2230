/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a worker asks of the kernel's scheduler: see agent/worker/sched.c. */
#ifndef NSGATE_WORKER_SCHED_H
#define NSGATE_WORKER_SCHED_H

#include <stdbool.h>
#include <stdint.h>

struct worker_sched {
	int stat_fd; /* below 0: the kernel does as it likes */
	int32_t nice;
	bool crowded;
	bool busy;		 /* many packets */
	bool wants_cpu;		 /* one of its own: agent/worker/cpu.h */
	bool stuck;		 /* crowded, and waits for long all the same */
	unsigned int packets;	 /* since the last look */
	unsigned int long_waits; /* looks in a row at which it had waited for long */
	uint64_t looked_at_ns;
	uint64_t changed_at_ns, patience_ns;
	uint64_t waited_ns, turns; /* as of the last look */
};

/*
 * For the calling thread, before files and system calls are taken from it (confine.h). It will
 * never put itself before others if it is to be `last`.
 */
void worker_sched_open(struct worker_sched *sched, bool last);
void worker_sched_close(struct worker_sched *sched);

/*
 * After a round of `packets`, by the same thread; most calls do nothing. `now_ns`: CLOCK_MONOTONIC.
 * Return: whether it looked, so that `wants_cpu` is of now.
 */
bool worker_sched_after_round(struct worker_sched *sched, unsigned int packets, uint64_t now_ns);

#endif
