/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/worker/cpu.h"

#include <stddef.h>

/* The CPU of `set` that comes after `index` others, round and round. */
static void choose(const cpu_set_t *set, unsigned int index, cpu_set_t *ret)
{
	unsigned int skip = index % (unsigned int)CPU_COUNT(set);

	CPU_ZERO(ret);
	for (size_t i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, set) && skip-- == 0) {
			CPU_SET(i, ret);
			return;
		}
	}
}

void worker_cpu_hold(struct worker_cpu *cpu, unsigned int index, bool hold)
{
	cpu_set_t now;

	if (!hold && !cpu->held)
		return;
	if (sched_getaffinity(0, sizeof(now), &now) < 0)
		return; /* more CPUs than the set can name */
	if (cpu->held && !CPU_EQUAL(&now, &cpu->own))
		cpu->held = false;
	if (hold == cpu->held)
		return;
	if (!hold) {
		cpu->held = sched_setaffinity(0, sizeof(cpu->allowed), &cpu->allowed) < 0;
		return;
	}
	if (CPU_COUNT(&now) < 2)
		return;
	cpu->allowed = now;
	choose(&now, index, &cpu->own);
	cpu->held = sched_setaffinity(0, sizeof(cpu->own), &cpu->own) == 0;
}
