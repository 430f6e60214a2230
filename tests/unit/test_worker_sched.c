/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a worker shares a CPU, against the scheduler of this kernel. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "../../agent/worker_sched.h"

#define DEADLINE_NS 20000000000U

static atomic_bool busy;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Threads that this one starts stay there, too. */
static void stay_on_one_cpu(void)
{
	cpu_set_t all, one;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

static void *keep_busy(void *arg)
{
	const uint64_t end = now_ns() + DEADLINE_NS;

	(void)arg;
	while (atomic_load(&busy) && now_ns() < end)
		;
	return NULL;
}

/* Rounds of a worker to which a packet comes every millisecond, until it is `crowded` or not. */
static bool becomes(struct worker_sched *sched, bool crowded)
{
	const struct timespec gap = {.tv_nsec = 1000000};
	const uint64_t end = now_ns() + DEADLINE_NS;

	while (sched->crowded != crowded && now_ns() < end) {
		clock_nanosleep(CLOCK_MONOTONIC, 0, &gap, NULL);
		worker_sched_after_round(sched, now_ns());
	}
	return sched->crowded == crowded;
}

static void test_waits_for_its_turn_unless_that_takes_long(void **state)
{
	struct worker_sched sched;
	pthread_t hog;

	(void)state;
	stay_on_one_cpu();
	worker_sched_open(&sched, false);
	if (sched.stat_fd < 0) {
		print_message("this kernel does not say how long a thread waits\n");
		skip();
	}
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);

	atomic_store(&busy, true);
	assert_int_equal(pthread_create(&hog, NULL, keep_busy, NULL), 0);
	assert_true(becomes(&sched, true));
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);

	atomic_store(&busy, false);
	pthread_join(hog, NULL);
	assert_true(becomes(&sched, false));
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
	worker_sched_close(&sched);
}

static void test_the_last_one_stays_so(void **state)
{
	const struct sched_param none = {0};
	struct worker_sched sched;

	(void)state;
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &none), 0);
	worker_sched_open(&sched, true);
	assert_true(sched.stat_fd < 0);
	worker_sched_after_round(&sched, now_ns());
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
}

static void test_a_policy_that_somebody_chose_is_left_alone(void **state)
{
	const struct sched_param none = {0};
	struct worker_sched sched;

	(void)state;
	assert_int_equal(sched_setscheduler(0, SCHED_BATCH, &none), 0);
	worker_sched_open(&sched, false);
	assert_true(sched.stat_fd < 0);
	worker_sched_after_round(&sched, now_ns());
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
	worker_sched_close(&sched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits_for_its_turn_unless_that_takes_long),
		cmocka_unit_test(test_the_last_one_stays_so),
		cmocka_unit_test(test_a_policy_that_somebody_chose_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
