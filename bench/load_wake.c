/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the machine takes to wake up a thread on another CPU that sleeps. A verdict is at least one
 * such wake-up where packet and judge are not on one CPU, so this is the measure of the delays.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "load.h"

#define COUNT_MAX 100000
#define IDLE_US_MAX 100000
#define TIMER_SLACK_NS 1

struct wake {
	int fd, cpu;
	size_t count;
	uint64_t *values;
	_Atomic uint64_t sent_ns;
	atomic_size_t taken;
};

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	load_need(sched_setaffinity(0, sizeof(set), &set) == 0, "affinity");
}

static void *sleeper(void *arg)
{
	struct wake *wake = arg;
	eventfd_t ignored;

	stay_on(wake->cpu);
	for (size_t i = 0; i < wake->count && eventfd_read(wake->fd, &ignored) == 0; i++) {
		wake->values[i] = load_now_ns() - atomic_load(&wake->sent_ns);
		atomic_store(&wake->taken, i + 1);
	}
	return NULL;
}

int load_wake(char **argv)
{
	const int cpu = (int)load_number(argv[0], CPU_SETSIZE - 1);
	const uint64_t idle_ns = 1000 * load_number(argv[3], IDLE_US_MAX);
	struct wake wake = {
		.fd = eventfd(0, EFD_CLOEXEC),
		.cpu = (int)load_number(argv[1], CPU_SETSIZE - 1),
		.count = load_number(argv[2], COUNT_MAX),
	};
	pthread_t thread;

	wake.values = calloc(wake.count + 1, sizeof(*wake.values));
	load_need(wake.fd >= 0 && wake.values, "eventfd");
	stay_on(cpu);
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
	load_need(pthread_create(&thread, NULL, sleeper, &wake) == 0, "thread");
	for (size_t i = 0; i < wake.count; i++) {
		do
			load_sleep_until(load_now_ns() + idle_ns);
		while (atomic_load(&wake.taken) < i);
		atomic_store(&wake.sent_ns, load_now_ns());
		load_need(eventfd_write(wake.fd, 1) == 0, "wake");
	}
	pthread_join(thread, NULL);
	printf("{");
	load_print_percentiles(wake.values, wake.count);
	printf("}\n");
	free(wake.values);
	return 0;
}
