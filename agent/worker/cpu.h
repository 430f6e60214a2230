/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A CPU of its own for a thread that has much to do. */
#ifndef NSGATE_WORKER_CPU_H
#define NSGATE_WORKER_CPU_H

#include <sched.h>
#include <stdbool.h>

struct worker_cpu {
	bool held;
	cpu_set_t allowed; /* before it was held */
	cpu_set_t own;
};

/*
 * Hold the calling thread, number `index` of its like, on one of the CPUs it may use, the one whose
 * turn it is by that number, or let it go. While it is to be held, a call costs a system call. If
 * somebody else has changed the affinity of the thread meanwhile, his will is done: `own` is chosen
 * from what he left.
 */
void worker_cpu_hold(struct worker_cpu *cpu, unsigned int index, bool hold);

#endif
