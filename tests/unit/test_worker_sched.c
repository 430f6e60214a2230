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
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "agent/worker/cpu.h"
#include "agent/worker/sched.h"
#include "clock.h"

#define DEADLINE_NS 20000000000U

static atomic_bool busy;

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
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + DEADLINE_NS;

	(void)arg;
	while (atomic_load(&busy) && clock_ns(CLOCK_MONOTONIC) < end)
		;
	return NULL;
}

/* Rounds of a worker to which a packet comes every millisecond, until it is `crowded` or not. */
static bool becomes(struct worker_sched *sched, bool crowded)
{
	const struct timespec gap = {.tv_nsec = 1000000};
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + DEADLINE_NS;

	while (sched->crowded != crowded && clock_ns(CLOCK_MONOTONIC) < end) {
		clock_nanosleep(CLOCK_MONOTONIC, 0, &gap, NULL);
		worker_sched_after_round(sched, 1, clock_ns(CLOCK_MONOTONIC));
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
	worker_sched_after_round(&sched, 1, clock_ns(CLOCK_MONOTONIC));
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
	worker_sched_after_round(&sched, 1, clock_ns(CLOCK_MONOTONIC));
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
	worker_sched_close(&sched);
}

/* ---- against figures of our own in place of /proc/thread-self/schedstat ---- */

#define LOOK_NS 10000000U

struct story {
	struct worker_sched sched;
	uint64_t now_ns, waited_ns, turns;
};

static struct story begin_story(void)
{
	struct story story = {.sched = {.stat_fd = memfd_create("schedstat", MFD_CLOEXEC),
					.patience_ns = 1000000000U}};

	assert_true(story.sched.stat_fd >= 0);
	return story;
}

static void end_story(struct story *story)
{
	const struct sched_param none = {0};

	worker_sched_close(&story->sched);
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &none), 0);
}

/* Looks, each after ten more turns with a wait of `wait_ns` and `packets`. */
static void tell(struct story *story, int looks, uint64_t wait_ns, unsigned int packets)
{
	for (int i = 0; i < looks; i++) {
		story->turns += 10;
		story->waited_ns += 10 * wait_ns;
		story->now_ns += LOOK_NS;
		assert_int_equal(lseek(story->sched.stat_fd, 0, SEEK_SET), 0);
		assert_true(dprintf(story->sched.stat_fd, "1 %lu %lu\n",
				    (unsigned long)story->waited_ns,
				    (unsigned long)story->turns) > 0);
		assert_true(worker_sched_after_round(&story->sched, packets, story->now_ns));
	}
}

static void test_a_moment_without_a_cpu_is_no_crowd(void **state)
{
	struct story story = begin_story();

	(void)state;
	tell(&story, 3, 1000000, 1);
	tell(&story, 1, 10000, 1);
	tell(&story, 3, 1000000, 1);
	assert_false(story.sched.crowded);
	tell(&story, 1, 1000000, 1);
	assert_true(story.sched.crowded);
	end_story(&story);
}

static void test_a_stream_of_packets_wants_a_cpu(void **state)
{
	struct story story = begin_story();

	(void)state;
	tell(&story, 1, 10000, 90); /* 9 per millisecond */
	assert_false(story.sched.wants_cpu);
	tell(&story, 1, 10000, 110);
	assert_true(story.sched.wants_cpu);
	tell(&story, 1, 10000, 60);
	assert_true(story.sched.wants_cpu);
	tell(&story, 1, 10000, 40);
	assert_false(story.sched.wants_cpu);
	tell(&story, 1, 10000, 60);
	assert_false(story.sched.wants_cpu);
	end_story(&story);
}

static void test_a_cpu_that_others_fill_is_given_up(void **state)
{
	struct story story = begin_story();

	(void)state;
	tell(&story, 4, 1000000, 500);
	assert_true(story.sched.crowded);
	assert_true(story.sched.wants_cpu);
	tell(&story, 4, 1000000, 500);
	assert_false(story.sched.wants_cpu);
	tell(&story, 50, 10000, 500); /* as things are better where it went */
	assert_false(story.sched.wants_cpu);
	tell(&story, 160, 10000, 500); /* two seconds later it is tried again */
	assert_false(story.sched.crowded);
	assert_true(story.sched.wants_cpu);
	end_story(&story);
}

/* ---- a CPU of its own ---- */

static void allow(const cpu_set_t *set)
{
	assert_int_equal(sched_setaffinity(0, sizeof(*set), set), 0);
}

static void assert_allowed(const cpu_set_t *set)
{
	cpu_set_t now;

	assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
	assert_true(CPU_EQUAL(&now, set));
}

static cpu_set_t first_cpus(unsigned int count)
{
	cpu_set_t all, some;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	CPU_ZERO(&some);
	for (size_t cpu = 0; cpu < CPU_SETSIZE && (unsigned int)CPU_COUNT(&some) < count; cpu++)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &some);
	return some;
}

static void *hold_and_let_go(void *arg)
{
	struct worker_cpu cpu = {.held = false};
	const cpu_set_t first = first_cpus(1), both = first_cpus(2);
	cpu_set_t second;

	(void)arg;
	CPU_XOR(&second, &both, &first);
	allow(&both);
	worker_cpu_hold(&cpu, 0, true);
	assert_allowed(&first);
	worker_cpu_hold(&cpu, 0, false);
	assert_allowed(&both);
	worker_cpu_hold(&cpu, 2, true); /* there are two: round again */
	assert_allowed(&first);
	worker_cpu_hold(&cpu, 2, false);
	worker_cpu_hold(&cpu, 1, true);
	assert_allowed(&second);

	allow(&first); /* an operator's word */
	worker_cpu_hold(&cpu, 1, true);
	assert_allowed(&first);
	worker_cpu_hold(&cpu, 1, false);
	assert_allowed(&first);
	return NULL;
}

static void test_an_own_cpu_is_one_of_those_allowed(void **state)
{
	cpu_set_t all;
	pthread_t thread;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	if (CPU_COUNT(&all) < 2) {
		print_message("there is only one CPU\n");
		skip();
	}
	assert_int_equal(pthread_create(&thread, NULL, hold_and_let_go, NULL), 0);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_moment_without_a_cpu_is_no_crowd),
		cmocka_unit_test(test_a_stream_of_packets_wants_a_cpu),
		cmocka_unit_test(test_a_cpu_that_others_fill_is_given_up),
		cmocka_unit_test(test_an_own_cpu_is_one_of_those_allowed),
		/* From here on this thread stays on one CPU. */
		cmocka_unit_test(test_waits_for_its_turn_unless_that_takes_long),
		cmocka_unit_test(test_the_last_one_stays_so),
		cmocka_unit_test(test_a_policy_that_somebody_chose_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
