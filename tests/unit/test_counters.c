/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counters: nothing lost or counted twice on the way to shared memory, no mixed snapshot. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "agent/stats/counters.h"

static struct shm_queue *new_block(void)
{
	struct shm_queue *shm = calloc(1, sizeof(*shm));

	assert_non_null(shm);
	return shm;
}

static void publishing_adds_once(void **state)
{
	struct shm_queue *shm = new_block();
	struct counters counters = {.malformed = 2, .readmitted = 5, .protocol = {1, 0, 0, 0, 3}};

	(void)state;
	counters_add(&counters.fate[SHM_FATE_REJECTED], 100);
	counters_add(&counters.fate[SHM_FATE_REJECTED], 50);
	counters_add(&counters.direction[SHM_DIRECTION_FORWARD], 7);
	counters_publish(shm, &counters);
	counters_publish(shm, &counters);
	counters_add(&counters.replies, 9);
	counters_publish(shm, &counters);

	assert_int_equal(shm->fate[SHM_FATE_REJECTED].packets, 2);
	assert_int_equal(shm->fate[SHM_FATE_REJECTED].bytes, 150);
	assert_int_equal(shm->direction[SHM_DIRECTION_FORWARD].bytes, 7);
	assert_int_equal(shm->replies.packets, 1);
	assert_int_equal(shm->count[NSGATE_FIGURE_malformed], 2);
	assert_int_equal(shm->readmitted, 5);
	assert_int_equal(shm->protocol[SHM_PROTO_TCP], 1);
	assert_int_equal(shm->protocol[SHM_PROTO_OTHER], 3);
	free(shm);
}

static void protocols_have_their_counters(void **state)
{
	(void)state;
	assert_int_equal(counters_protocol(IPPROTO_TCP), SHM_PROTO_TCP);
	assert_int_equal(counters_protocol(IPPROTO_UDP), SHM_PROTO_UDP);
	assert_int_equal(counters_protocol(IPPROTO_ICMP), SHM_PROTO_ICMP);
	assert_int_equal(counters_protocol(IPPROTO_ICMPV6), SHM_PROTO_ICMPV6);
	assert_int_equal(counters_protocol(IPPROTO_SCTP), SHM_PROTO_OTHER);
	assert_int_equal(counters_protocol(0), SHM_PROTO_OTHER);
}

static void buckets_cover_every_latency(void **state)
{
	unsigned int last = 0;

	(void)state;
	for (uint64_t us = 0; us < 4; us++)
		assert_int_equal(counters_latency_bucket(us), us);
	assert_int_equal(counters_latency_bucket(4), 4);
	assert_int_equal(counters_latency_bucket(7), 7);
	assert_int_equal(counters_latency_bucket(8), 8);
	assert_int_equal(counters_latency_bucket(9), 8);
	assert_int_equal(counters_latency_bucket(10), 9);
	assert_int_equal(counters_latency_bucket(16), 12);
	for (uint64_t us = 0; us < UINT64_C(1) << 33; us = us * 9 / 8 + 1) {
		const unsigned int bucket = counters_latency_bucket(us);

		assert_true(bucket >= last && bucket < SHM_LATENCY_BUCKETS);
		last = bucket;
	}
	assert_int_equal(counters_latency_bucket(UINT32_MAX), SHM_LATENCY_BUCKETS - 1);
	assert_int_equal(counters_latency_bucket(UINT64_MAX), SHM_LATENCY_BUCKETS - 1);
}

static void latency_is_of_every_packet(void **state)
{
	struct shm_queue *shm = new_block();

	(void)state;
	counters_latency(shm, 3999, 64);
	counters_latency(shm, 100000, 1);
	counters_latency(shm, 2000, 0);
	assert_int_equal(shm->latency[3], 64);
	assert_int_equal(shm->latency[counters_latency_bucket(100)], 1);
	assert_int_equal(shm->latency[2], 0);
	assert_int_equal(shm->latency_max_us, 100);
	free(shm);
}

static void a_turn_is_odd_while_it_lasts(void **state)
{
	struct shm_queue *shm = new_block();

	(void)state;
	counters_turn_begin(shm);
	assert_int_equal(shm->turn, 1);
	counters_turn_end(shm);
	assert_int_equal(shm->turn, 2);
	/* A new agent takes over between two turns of the old one, or within one. */
	counters_turn_end(shm);
	assert_int_equal(shm->turn, 2);
	counters_turn_begin(shm);
	counters_turn_begin(shm);
	assert_int_equal(shm->turn, 3);
	counters_turn_end(shm);
	assert_int_equal(shm->turn, 4);
	free(shm);
}

/* ---- a reader beside the writer ---- */

#define TURNS 20000

static void *write_turns(void *arg)
{
	struct shm_queue *shm = arg;

	for (int i = 0; i < TURNS; i++) {
		struct counters counters = {0};

		counters_turn_begin(shm);
		counters_add(&counters.fate[SHM_FATE_ACCEPTED], 10);
		counters_add(&counters.direction[SHM_DIRECTION_IN], 10);
		counters_publish(shm, &counters);
		counters_turn_end(shm);
	}
	return NULL;
}

static uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void a_snapshot_is_of_whole_turns(void **state)
{
	struct shm_queue *shm = new_block();
	uint64_t last = 0;
	pthread_t writer;

	(void)state;
	assert_int_equal(pthread_create(&writer, NULL, write_turns, shm), 0);
	while (last < TURNS) {
		const uint64_t before = load(&shm->turn);
		const uint64_t bytes = load(&shm->direction[SHM_DIRECTION_IN].bytes);
		const uint64_t packets = load(&shm->fate[SHM_FATE_ACCEPTED].packets);
		const bool whole = !(before & 1) && load(&shm->turn) == before;

		assert_true(packets >= last);
		last = packets;
		if (whole)
			assert_int_equal(bytes, packets * 10);
	}
	pthread_join(writer, NULL);
	free(shm);
}

/* ---- the kernel's numbering ---- */

static void what_is_in_no_account_is_missing(void **state)
{
	struct shm_queue *shm = new_block();
	struct queue_kernel kernel = {.id_sequence = 10, .pending = 3, .user_dropped = 1};

	(void)state;
	shm->fate[SHM_FATE_ACCEPTED].packets = 100 + 2;
	shm->fate[SHM_FATE_DROPPED].packets = 50;
	shm->control.base = 150;
	shm->control.released = 1;
	shm->readmitted = 2;
	assert_int_equal(counters_decided(shm), 153);
	assert_int_equal(counters_missing(shm, &kernel), 1);
	kernel.pending = 5; /* a crash had one counted twice */
	assert_int_equal(counters_missing(shm, &kernel), -1);

	shm->fate[SHM_FATE_ACCEPTED].packets += UINT64_C(1) << 32; /* ids come round */
	assert_int_equal(counters_missing(shm, &kernel), -1);
	free(shm);
}

/* Four packets were flushed before, five of eight are sent round when the agent dies. */
static void a_dead_agents_requeueing_is_recovered(void **state)
{
	struct shm_queue *shm = new_block();
	struct queue_kernel kernel = {.id_sequence = UINT32_MAX - 7, .pending = 8};

	(void)state;
	shm->fate[SHM_FATE_ACCEPTED].packets = kernel.id_sequence - 8 - 4;
	assert_int_equal(counters_missing(shm, &kernel), 4);
	counters_requeue_recover(shm, &kernel); /* nobody has begun */
	assert_int_equal(shm->readmitted, 0);

	counters_requeue_begin(shm, &kernel, 8);
	kernel.id_sequence += 5;
	counters_requeue_recover(shm, &kernel);
	assert_int_equal(shm->readmitted, 5);
	assert_int_equal(shm->requeueing, 0);
	assert_int_equal(counters_missing(shm, &kernel), 4);

	counters_requeue_begin(shm, &kernel, 8);
	kernel.id_sequence += 8;
	shm->readmitted += 8; /* it died between the two stores */
	counters_requeue_recover(shm, &kernel);
	assert_int_equal(shm->readmitted, 13);

	counters_requeue_begin(shm, &kernel, 8);
	kernel.id_sequence += 8;
	counters_requeue_end(shm, 8);
	kernel.id_sequence += 3; /* three that vanish */
	counters_requeue_recover(shm, &kernel);
	assert_int_equal(shm->readmitted, 21);
	assert_int_equal(counters_missing(shm, &kernel), 7);

	counters_requeue_begin(shm, &kernel, 8);
	kernel.id_sequence += 9; /* never more than there were */
	counters_requeue_recover(shm, &kernel);
	assert_int_equal(shm->readmitted, 29);

	counters_requeue_begin(shm, &kernel, 8);
	kernel.pending += 2; /* fewer are missing than before */
	counters_requeue_recover(shm, &kernel);
	assert_int_equal(shm->readmitted, 29);
	free(shm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(publishing_adds_once),
		cmocka_unit_test(protocols_have_their_counters),
		cmocka_unit_test(buckets_cover_every_latency),
		cmocka_unit_test(latency_is_of_every_packet),
		cmocka_unit_test(a_turn_is_odd_while_it_lasts),
		cmocka_unit_test(a_snapshot_is_of_whole_turns),
		cmocka_unit_test(what_is_in_no_account_is_missing),
		cmocka_unit_test(a_dead_agents_requeueing_is_recovered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
