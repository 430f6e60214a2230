/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A CPU of its own for a thread that has much to do. */
#ifndef NSGATE_WORKER_CPU_H
#define NSGATE_WORKER_CPU_H

#include <sched.h>
#include <stdbool.h>

struct worker_cpu {
	unsigned int index; /* of the thread among its like */
	bool held;
	cpu_set_t allowed; /* before it was held */
	cpu_set_t own;
};

/*
 * Hold the calling thread on one of the CPUs it may use, the one whose turn it is by `index`, or
 * let it go. Costs a system call if nothing changes. If somebody else has changed the affinity of
 * the thread meanwhile, his will is done: `own` is chosen from what he left.
 */
void worker_cpu_hold(struct worker_cpu *cpu, bool hold);

#endif
