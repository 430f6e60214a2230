/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a thread shares a CPU that asks for nothing it would need a privilege for. */
#include "platform.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define TRIES 200
#define SETTLE_NS 2000000 /* for the woken one to run and to sleep again */

static int wake_fd;
static atomic_uint runs;
static atomic_bool stop;

static void *sleeper(void *arg)
{
	const struct sched_param none = {0};
	eventfd_t ignored;

	(void)arg;
	platform_ok(sched_setscheduler(0, SCHED_BATCH, &none) == 0,
		    "a thread may become SCHED_BATCH");
	while (!atomic_load(&stop) && eventfd_read(wake_fd, &ignored) == 0)
		atomic_fetch_add(&runs, 1);
	platform_ok(sched_setscheduler(0, SCHED_OTHER, &none) == 0, "and SCHED_OTHER again");
	return NULL;
}

/* Return: how often the woken thread ran before the one that woke it came back from that. */
static unsigned int count_interruptions(void)
{
	const struct timespec settle = {.tv_nsec = SETTLE_NS};
	unsigned int interrupted = 0;

	for (int i = 0; i < TRIES; i++) {
		unsigned int before;

		nanosleep(&settle, NULL);
		before = atomic_load(&runs);
		if (eventfd_write(wake_fd, 1) < 0)
			platform_fail("eventfd_write");
		interrupted += atomic_load(&runs) != before;
	}
	return interrupted;
}

static void wake_on_this_cpu(void)
{
	unsigned int interrupted;
	pthread_t thread;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	wake_fd = eventfd(0, EFD_CLOEXEC);
	if (wake_fd < 0 || sched_setaffinity(0, sizeof(one), &one) < 0 ||
	    pthread_create(&thread, NULL, sleeper, NULL))
		platform_fail("thread");
	interrupted = count_interruptions();
	/* The end of a time slice may come in between. */
	platform_ok(interrupted < TRIES / 10,
		    "a SCHED_BATCH thread does not interrupt who wakes it (%u of %d)", interrupted,
		    TRIES);
	atomic_store(&stop, true);
	if (eventfd_write(wake_fd, 1) < 0)
		platform_fail("eventfd_write");
	pthread_join(thread, NULL);
	close(wake_fd);
}

static void read_waits(void)
{
	unsigned long long ran, waited, turns;
	FILE *file = fopen("/proc/thread-self/schedstat", "re");
	const int fields = file ? fscanf(file, "%llu %llu %llu", &ran, &waited, &turns) : 0;

	if (file)
		fclose(file);
	platform_ok(fields == 3 && turns > 0,
		    "schedstat tells how long and how often a thread waited");
}

int main(void)
{
	platform_begin();
	wake_on_this_cpu();
	read_waits();
	return platform_end();
}
