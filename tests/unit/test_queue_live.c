/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Turns of a queue that real packets pass. See live.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>

#include "clock.h"
#include "live.h"

#define OUT NSGATE_HOOK_BIT(NSGATE_HOOK_OUT)
#define IN NSGATE_HOOK_BIT(NSGATE_HOOK_IN)
#define MANY 4000

#define ACCEPT_ALL "{\"version\":1,\"default\":\"accept\",\"rules\":[]}"
#define REWRITE_ALL                                                                                \
	"{\"version\":1,\"default\":\"drop\",\"rules\":["                                          \
	"{\"name\":\"mark\",\"action\":\"accept\",\"set\":{\"ttl\":33,\"dscp\":46}}]}"

/* All that leaves is asked about, and accepted. */
static void open_accepting(struct live *live)
{
	live_open(live);
	live_bind(live, ACCEPT_ALL);
	live_rules(live, OUT, 0, 1);
}

static void assert_each_once(const uint8_t *seen, uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++)
		assert_int_equal(seen[i], 1);
}

static void accepts_and_drops_by_policy(void **state)
{
	static uint8_t seen[MANY];
	char policy[256];
	struct live live;

	(void)state;
	live_open(&live);
	snprintf(policy, sizeof(policy),
		 "{\"version\":1,\"default\":\"drop\",\"rules\":[{\"name\":\"good\","
		 "\"action\":\"accept\",\"protocol\":[\"udp\"],\"dport\":[%u]}]}",
		 live.port);
	live_bind(&live, policy);
	live_rules(&live, OUT, 0, 1);

	/* Runs of every length, with dropped ones between: none may swallow its neighbours. */
	for (uint32_t i = 0; i < MANY; i++) {
		live_send_numbers(&live, i, 1);
		if (i % 7 == 0 || i % 3 == 0)
			live_need(live_send(&live, live.port ^ 1, "bad", 3), "send");
	}
	live_drain(&live);
	assert_int_equal(live_await(&live, seen, MANY, MANY), MANY);
	assert_each_once(seen, 0, MANY);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, MANY);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].bytes, MANY * 32);
	assert_int_equal(shm_rules(live.queue.shm)[0].count.packets, MANY);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_DROPPED].packets,
			 live.queue.shm->fallback.packets);
	assert_int_equal(live.queue.shm->direction[SHM_DIRECTION_OUT].packets, live_decided(&live));
	assert_int_equal(live.queue.shm->protocol[SHM_PROTO_UDP], live_decided(&live));
	assert_int_equal(live_kernel(&live).id_sequence, live_decided(&live));
	assert_int_equal(live.queue.errors, 0);
	assert_int_equal(live.queue.shm->turn % 2, 0);
	live_close(&live);
}

static void rejects_at_once(void **state)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(9),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct live live;
	char byte;

	(void)state;
	live_open(&live);
	live_bind(&live, "{\"version\":1,\"default\":\"accept\",\"rules\":["
			 "{\"name\":\"no\",\"action\":\"reject\",\"dport\":[9]}]}");
	live_rules(&live, OUT, 0, 1);
	assert_int_equal(connect(live.sender, (const struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(send(live.sender, "x", 1, 0), 1);
	live_drain(&live);
	assert_true(live_arrives(live.sender));
	assert_int_equal(recv(live.sender, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_REJECTED].packets, 1);
	live_close(&live);
}

static void replies_of_accepted_flows_pass(void **state)
{
	struct sockaddr_in from;
	socklen_t length = sizeof(from);
	uint32_t number = 0;
	char policy[256];
	struct live live;

	(void)state;
	live_open(&live);
	snprintf(policy, sizeof(policy),
		 "{\"version\":1,\"default\":\"drop\",\"rules\":[{\"name\":\"out\",\"action\":"
		 "\"accept\",\"direction\":\"out\",\"dport\":[%u]},{\"name\":\"in\",\"action\":"
		 "\"accept\",\"direction\":\"in\",\"dport\":[%u]}]}",
		 live.port, live.port);
	live_bind(&live, policy);
	live_rules(&live, IN | OUT, 0, 1);
	live_send_numbers(&live, 5, 1);
	live_drain_until(&live, live.receiver);
	assert_int_equal(recvfrom(live.receiver, &number, sizeof(number), MSG_DONTWAIT,
				  (struct sockaddr *)&from, &length),
			 sizeof(number));
	assert_int_equal(
		sendto(live.receiver, &number, sizeof(number), 0, (struct sockaddr *)&from, length),
		sizeof(number));
	live_drain_until(&live, live.sender);
	assert_int_equal(recv(live.sender, &number, sizeof(number), MSG_DONTWAIT), sizeof(number));
	assert_int_equal(live.queue.shm->replies.packets, 2); /* out and in */
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, 4);
	live_close(&live);
}

static void without_policy_the_default_decides(void **state)
{
	uint8_t seen[20] = {0};
	struct live live;

	(void)state;
	live_open(&live);
	live_rules(&live, OUT, 0, 1);
	live_send_numbers(&live, 0, 10);
	live_drain(&live);
	assert_int_equal(live_receive(&live, seen, 20), 0);
	assert_int_equal(live.queue.shm->no_policy.packets, 10);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_DROPPED].packets, 10);
	live.queue.in_force.accept_without_policy = true;
	live_send_numbers(&live, 10, 10);
	live_drain(&live);
	assert_int_equal(live_await(&live, seen, 20, 10), 10);
	assert_int_equal(live.queue.shm->no_policy.packets, 20);
	live_close(&live);
}

/* ---- packets that vanish ---- */

static void flush(struct live *live)
{
	live_need(rules_remove(live->rules_fd) == 0, "deleting the chains");
	assert_int_equal(live_kernel(live).pending, 0);
	live_rules(live, OUT, 0, 1);
}

/* `gone` packets wait and vanish, `after` more come before anybody reads. */
static void flush_unread(uint32_t gone, uint32_t after)
{
	static uint8_t seen[2 * MANY];
	struct live live;

	memset(seen, 0, sizeof(seen));
	open_accepting(&live);
	live_send_numbers(&live, 0, 10);
	live_drain(&live);
	live_send_numbers(&live, 10, gone);
	flush(&live);
	live_send_numbers(&live, 10 + gone, after);
	live.queue.checked_at_ns = 0; /* long ago */
	live_drain(&live);

	assert_int_equal(live_await(&live, seen, 2 * MANY, 10 + after), 10 + after);
	for (uint32_t i = 10 + gone; i < 10 + gone + after; i++)
		assert_int_equal(seen[i], 1);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, 10 + after);
	assert_int_equal(live.queue.shm->readmitted, after);
	assert_int_equal(live_kernel(&live).id_sequence, 10 + gone + 2 * after);
	assert_int_equal(live.queue.shm->requeueing, 0);
	assert_int_equal(live.queue.errors, 0);

	/* And on as before. */
	live_send_numbers(&live, 0, 10);
	live_drain(&live);
	assert_int_equal(live_await(&live, seen, 2 * MANY, 10), 10);
	assert_int_equal(live.queue.shm->readmitted, after);
	live_close(&live);
}

static void vanished_packets_are_not_counted_as_judged(void **state)
{
	(void)state;
	flush_unread(1, 0);
	flush_unread(150, 0);
	flush_unread(MANY, 0);
}

static void those_that_came_after_them_are_judged(void **state)
{
	(void)state;
	flush_unread(1, 1);
	flush_unread(150, 20);
	flush_unread(20, 150);
	flush_unread(MANY, 1000);
}

static void a_look_at_a_whole_queue_changes_nothing(void **state)
{
	static uint8_t seen[MANY];
	struct live live;

	(void)state;
	open_accepting(&live);
	live_send_numbers(&live, 0, MANY);
	for (int i = 0; i < MANY / 64; i++) {
		live.queue.checked_at_ns = 0;
		live_need(queue_turn(&live.queue, live.buffers) > 0, "turn");
	}
	live_drain(&live);
	assert_int_equal(live_await(&live, seen, MANY, MANY), MANY);
	assert_int_equal(live.queue.shm->readmitted, 0);
	assert_int_equal(live_kernel(&live).id_sequence, MANY);
	live_close(&live);
}

/* What has just come is not compared with the kernel's books, what may have waited is. */
static void a_queue_that_was_empty_is_not_looked_at(void **state)
{
	struct live live;
	bool spared = false;

	(void)state;
	open_accepting(&live);
	live_send_numbers(&live, 0, 65);
	assert_int_equal(queue_turn(&live.queue, live.buffers), 64);
	assert_false(live.queue.drained);
	assert_int_equal(queue_turn(&live.queue, live.buffers), 1);
	assert_true(live.queue.drained);
	for (int i = 0; i < MANY && !spared; i++) { /* until nothing interrupts us for long */
		live_send_numbers(&live, 0, 1);
		live.queue.unchecked = 0;
		live.queue.checked_at_ns = 0;
		live.queue.empty_at_ns = clock_ns(CLOCK_MONOTONIC);
		assert_int_equal(queue_turn(&live.queue, live.buffers), 1);
		spared = live.queue.checked_at_ns == 0;
	}
	assert_true(spared);
	live_send_numbers(&live, 0, 1);
	live.queue.empty_at_ns = 0;
	assert_int_equal(queue_turn(&live.queue, live.buffers), 1);
	assert_true(live.queue.checked_at_ns > 0);
	live_close(&live);
}

/* ---- several numbers ---- */

#define EACH 500
#define ACCEPT_KNOWN                                                                               \
	"{\"version\":1,\"rules\":[{\"name\":\"known\",\"action\":\"accept\","                     \
	"\"ct\":\"established\"}]}"

/* A verdict for all up to an id must not reach those of another number, be their ids smaller. */
static void verdicts_are_of_one_number(void **state)
{
	static uint8_t seen[2 * EACH], answers[EACH];
	struct live live;
	int known;

	(void)state;
	open_accepting(&live);
	known = live_known_flow(&live);
	live_bind(&live, ACCEPT_KNOWN);
	live_send_by_three_numbers(&live, known, EACH);
	live_drain(&live);
	assert_int_equal(live_await(&live, seen, 2 * EACH, EACH), EACH);
	assert_each_once(seen, EACH, EACH);
	assert_int_equal(live_receive_at(known, answers, EACH), EACH);
	assert_each_once(answers, 0, EACH);
	assert_int_equal(shm_rules(live.queue.shm)[0].count.packets, EACH);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_DROPPED].packets, EACH);
	assert_int_equal(live.queue.shm->replies.packets, EACH + 1);
	assert_int_equal(live_kernel(&live).id_sequence, live_decided(&live));
	close(known);
	live_close(&live);
}

static void what_is_stale_is_so_by_each_number(void **state)
{
	static uint8_t seen[2 * EACH], answers[EACH];
	struct live live;
	int known;

	(void)state;
	open_accepting(&live);
	known = live_known_flow(&live);
	live_send_by_three_numbers(&live, known, EACH);
	live_bind(&live, REWRITE_ALL);
	live_drain(&live);
	assert_int_equal(live_await(&live, seen, 2 * EACH, 2 * EACH), 2 * EACH);
	assert_each_once(seen, 0, 2 * EACH);
	assert_int_equal(live_receive_at(known, answers, EACH), EACH);
	assert_each_once(answers, 0, EACH);
	assert_int_equal(live.queue.shm->readmitted, 3 * EACH);
	assert_int_equal(live.queue.shm->count[NSGATE_FIGURE_malformed], 0);
	assert_int_equal(live_kernel(&live).id_sequence, live_decided(&live) + 3 * EACH);
	close(known);
	live_close(&live);
}

static void what_vanishes_by_several_numbers_is_not_judged(void **state)
{
	static uint8_t seen[2 * EACH], answers[EACH];
	struct live live;
	uint64_t before;
	int known;

	(void)state;
	open_accepting(&live);
	known = live_known_flow(&live);
	before = live_decided(&live);
	live_send_by_three_numbers(&live, known, EACH);
	flush(&live);
	live_send_by_three_numbers(&live, known, 20);
	live.queue.checked_at_ns = 0;
	live_drain(&live);
	assert_int_equal(live_await(&live, seen, 2 * EACH, 40), 40);
	assert_each_once(seen, 0, 40);
	assert_int_equal(live_receive_at(known, answers, EACH), 20);
	assert_each_once(answers, 0, 20);
	assert_int_equal(live_decided(&live), before + 60);
	assert_int_equal(live.queue.shm->readmitted, 60);
	assert_int_equal(live.queue.shm->requeueing, 0);
	assert_int_equal(live.queue.errors, 0);
	close(known);
	live_close(&live);
}

/* What comes by a number that is none of ours is not judged, and not decided by ours either. */
static void packets_of_other_numbers_are_left_alone(void **state)
{
	uint8_t seen[10] = {0};
	struct live live;

	(void)state;
	live_open(&live);
	live_bind(&live, ACCEPT_ALL);
	live.queue.number = LIVE_QUEUE + 1; /* so the first one is another's */
	live_rules(&live, OUT, 0, 1);
	live_send_numbers(&live, 0, 10);
	assert_int_equal(queue_turn(&live.queue, live.buffers), 10);
	assert_int_equal(live_decided(&live), 0);
	assert_int_equal(live.queue.last_error, EBADMSG);
	assert_int_equal(live.queue.errors, 10);
	assert_int_equal(live_receive(&live, seen, 10), 0);
	live_close(&live);
}

/* ---- rewriting ---- */

static void want_header_fields(const struct live *live)
{
	const int on = 1;

	setsockopt(live->receiver, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on));
	setsockopt(live->receiver, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on));
}

/* Receive one packet of `length` bytes. Return: its TTL and TOS. */
static bool receive_fields(const struct live *live, size_t length, int *ret_ttl, uint8_t *ret_tos)
{
	static uint8_t data[65536];
	_Alignas(struct cmsghdr) uint8_t control[128];
	struct iovec part = {.iov_base = data, .iov_len = sizeof(data)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};

	if (!live_arrives(live->receiver) ||
	    recvmsg(live->receiver, &message, MSG_DONTWAIT) != (ssize_t)length)
		return false;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_type == IP_TTL)
			memcpy(ret_ttl, CMSG_DATA(c), sizeof(*ret_ttl));
		if (c->cmsg_type == IP_TOS)
			*ret_tos = *CMSG_DATA(c);
	}
	return true;
}

static void rewritten_packets_arrive_whole(void **state)
{
	static uint8_t data[60000];
	static const size_t sizes[] = {1, 100, 1400, 9000, sizeof(data)};
	struct live live;

	(void)state;
	live_open(&live);
	want_header_fields(&live);
	live_bind(&live, REWRITE_ALL);
	live_rules(&live, OUT, 0, 1);
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < 5; i++)
			live_need(live_send(&live, live.port, data, sizes[i]), "send");
	}
	live_drain(&live);
	for (int i = 0; i < 100; i++) {
		uint8_t tos = 0;
		int ttl = 0;

		assert_true(receive_fields(&live, sizes[i % 5], &ttl, &tos));
		assert_int_equal(ttl, 33);
		assert_int_equal(tos, 46 << 2);
	}
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, 100);
	assert_int_equal(live.queue.shm->count[NSGATE_FIGURE_malformed], 0);
	live_close(&live);
}

/* What waits was copied for a policy that needed less: it must not be judged by half a packet. */
static void a_hungrier_policy_sees_whole_packets(void **state)
{
	static uint8_t data[1000];
	struct live live;

	(void)state;
	live_open(&live);
	want_header_fields(&live);
	live_bind(&live, ACCEPT_ALL);
	live_rules(&live, OUT, 0, 1);
	for (int i = 0; i < 200; i++)
		live_need(live_send(&live, live.port, data, sizeof(data)), "send");
	queue_turn(&live.queue, live.buffers);
	assert_true(live_kernel(&live).pending > 0);
	live_bind(&live, REWRITE_ALL);
	for (int i = 0; i < 10; i++)
		live_need(live_send(&live, live.port, data, sizeof(data)), "send");
	live_drain(&live);
	for (int i = 0; i < 210; i++) {
		uint8_t tos = 0;
		int ttl = 0;

		assert_true(receive_fields(&live, sizeof(data), &ttl, &tos));
		assert_int_equal(ttl, i < 64 ? 64 : 33);
	}
	assert_int_equal(live.queue.shm->readmitted, 200 - 64);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, 210);
	assert_int_equal(live.queue.shm->count[NSGATE_FIGURE_malformed], 0);
	live_close(&live);
}

/* ---- binding ---- */

/* As policy_decide() does with a hit. */
static void hit(struct live *live, uint32_t index, uint64_t packets)
{
	struct shm_queue *shm = live->queue.shm;

	shm_rule_touch(shm->rules_touched, index);
	shm_rules(shm)[index].name_hash =
		policy_info(live->queue.in_force.policy)->rules[index].name_hash;
	shm_rules(shm)[index].count.packets += packets;
	shm_rules(shm)[index].count.bytes += packets;
}

static void rules_keep_their_counters_by_name(void **state)
{
	struct live live;

	(void)state;
	live_open(&live);
	live_bind(&live, "{\"version\":1,\"rules\":[{\"name\":\"a\",\"action\":\"accept\"},"
			 "{\"name\":\"b\",\"action\":\"accept\"},"
			 "{\"name\":\"c\",\"action\":\"accept\"}]}");
	hit(&live, 0, 10);
	hit(&live, 1, 20);
	hit(&live, 2, 30);
	live_bind(&live, "{\"version\":1,\"rules\":[{\"name\":\"c\",\"action\":\"drop\"},"
			 "{\"name\":\"a\",\"action\":\"accept\"}]}");
	assert_int_equal(live.queue.shm->rules_used, 2);
	assert_int_equal(shm_rules(live.queue.shm)[0].count.bytes, 30);
	assert_int_equal(shm_rules(live.queue.shm)[1].count.packets, 10);
	assert_int_equal(shm_rules(live.queue.shm)[2].name_hash, 0);
	live_bind(&live, "{\"version\":1,\"rules\":[{\"name\":\"b\",\"action\":\"drop\"},"
			 "{\"name\":\"a\",\"action\":\"accept\"}]}");
	assert_int_equal(shm_rules(live.queue.shm)[0].count.packets, 20);
	assert_int_equal(shm_rules(live.queue.shm)[1].count.packets, 10);
	live_close(&live);
}

#define ONE_RULE(name)                                                                             \
	"{\"version\":1,\"rules\":[{\"name\":\"" name "\",\"action\":\"accept\",\"ttl\":9}]}"

/* Bind as the agent does, which knows whose default it is. */
static void bind_as(struct live *live, const char *json, uint64_t fallback_key)
{
	struct queue_binding binding = live_binding(json, 1);

	binding.fallback_key = fallback_key;
	queue_bind(&live->queue, &binding);
	live_unbind(&binding);
}

static void counters_come_back_with_their_policy(void **state)
{
	struct live live;
	struct shm_queue *shm;

	(void)state;
	live_open(&live);
	shm = live.queue.shm;
	bind_as(&live, ONE_RULE("a"), 100);
	hit(&live, 0, 10);
	shm->fallback = (struct shm_count){.packets = 7, .bytes = 70};
	bind_as(&live, ONE_RULE("b"), 200);
	assert_int_equal(shm_rules(shm)[0].count.packets, 0);
	assert_int_equal(shm->fallback.packets, 0);
	hit(&live, 0, 20);
	shm->fallback = (struct shm_count){.packets = 8, .bytes = 80};
	bind_as(&live, NULL, 300); /* missing: nothing moves */
	assert_int_equal(shm->fallback.packets, 8);
	bind_as(&live, ONE_RULE("a"), 100);
	assert_int_equal(shm_rules(shm)[0].count.packets, 10);
	assert_int_equal(shm_rules(shm)[0].count.bytes, 10);
	assert_int_equal(shm->fallback.packets, 7);
	assert_int_equal(shm->fallback.bytes, 70);
	hit(&live, 0, 1);
	bind_as(&live, ONE_RULE("b"), 200);
	assert_int_equal(shm_rules(shm)[0].count.packets, 20);
	assert_int_equal(shm->fallback.packets, 8);
	/* Another text of the same policy: its default is the same. */
	bind_as(&live, ONE_RULE("c"), 200);
	assert_int_equal(shm->fallback.packets, 8);
	bind_as(&live, ONE_RULE("a"), 100);
	assert_int_equal(shm_rules(shm)[0].count.packets, 11);
	assert_int_equal(shm->kept_used, 2); /* b, and the default of 200 */
	live_close(&live);
}

/* Whoever died in the middle of it left a count in two places: the larger is true. */
static void counters_survive_a_crash_while_they_move(void **state)
{
	struct live live;
	struct shm_queue *shm;

	(void)state;
	live_open(&live);
	shm = live.queue.shm;
	bind_as(&live, ONE_RULE("a"), 100);
	hit(&live, 0, 10);
	shm_kept(shm)[0] = shm_rules(shm)[0];
	shm_kept(shm)[1] = (struct shm_rule){.name_hash = 100, .count = {.packets = 5, .bytes = 5}};
	shm->kept_used = 2;
	hit(&live, 0, 1);
	bind_as(&live, ONE_RULE("a"), 100);
	assert_int_equal(shm_rules(shm)[0].count.packets, 11);
	assert_int_equal(shm->fallback.packets, 5);
	assert_int_equal(shm->kept_used, 0);
	shm_kept(shm)[0] = shm_rules(shm)[0];
	shm_kept(shm)[0].count.packets = 99;
	shm->kept_used = 1;
	bind_as(&live, ONE_RULE("a"), 100);
	assert_int_equal(shm_rules(shm)[0].count.packets, 99);
	live_close(&live);
}

/* More rules leave than are kept: those that left first begin anew. */
static void the_oldest_counters_make_room(void **state)
{
	struct live live;
	struct shm_queue *shm;

	(void)state;
	live_open(&live);
	shm = live.queue.shm;
	bind_as(&live, ONE_RULE("a"), 100);
	hit(&live, 0, 10);
	bind_as(&live, ONE_RULE("b"), 100);
	hit(&live, 0, 20);
	for (uint64_t i = shm->kept_used; i < SHM_KEPT_MAX; i++)
		shm_kept(shm)[i] =
			(struct shm_rule){.name_hash = i + 1000, .count = {.packets = i}};
	shm->kept_used = SHM_KEPT_MAX;
	bind_as(&live, ONE_RULE("c"), 100);
	assert_in_range(shm->kept_used, SHM_KEPT_MAX / 2, SHM_KEPT_MAX);
	assert_int_equal(shm_kept(shm)[shm->kept_used - 2].count.packets, SHM_KEPT_MAX - 1);
	bind_as(&live, ONE_RULE("b"), 100);
	assert_int_equal(shm_rules(shm)[0].count.packets, 20);
	bind_as(&live, ONE_RULE("a"), 100);
	assert_int_equal(shm_rules(shm)[0].count.packets, 0);
	live_close(&live);
}

/* A policy of so many rules, `first` before the others and `last` after them. */
static char *many_rules(const char *first, const char *last, uint16_t port, unsigned int others)
{
	const size_t size = 200 + 80 * (size_t)others;
	char *text = malloc(size);
	size_t used;

	assert_non_null(text);
	used = (size_t)snprintf(
		text, size,
		"{\"version\":1,\"rules\":[{\"name\":\"%s\",\"action\":\"continue\","
		"\"dport\":[%u]}",
		first, port);
	for (unsigned int i = 0; i < others; i++)
		used += (size_t)snprintf(text + used, size - used,
					 ",{\"name\":\"o%u\",\"action\":\"drop\",\"ttl\":[0]}", i);
	snprintf(text + used, size - used, ",{\"name\":\"%s\",\"action\":\"accept\"}]}", last);
	return text;
}

/* Memory is for the rules that are hit; and the agent after this one finds their counts. */
static void takes_no_memory_for_rules_without_hits(void **state)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const unsigned int others = 2000;
	struct live live;
	unsigned char *resident;
	size_t pages, used = 0;
	char *text;

	(void)state;
	live_open(&live);
	text = many_rules("a", "z", live.port, others);
	live_bind(&live, text);
	free(text);
	live_rules(&live, OUT, 0, 1);
	live_send_numbers(&live, 0, 10);
	live_drain(&live);
	assert_int_equal(shm_rules(live.queue.shm)[0].count.packets, 10);
	assert_int_equal(shm_rules(live.queue.shm)[others + 1].count.packets, 10);

	text = many_rules("z", "a", live.port, others);
	live_bind(&live, text);
	free(text);
	live_send_numbers(&live, 10, 5);
	live_drain(&live);
	assert_int_equal(shm_rules(live.queue.shm)[0].count.packets, 15);
	assert_int_equal(shm_rules(live.queue.shm)[others + 1].count.packets, 15);

	pages = (SHM_BLOCK_SIZE + page - 1) / page;
	resident = malloc(pages);
	assert_non_null(resident);
	assert_int_equal(mincore(live.queue.shm, SHM_BLOCK_SIZE, resident), 0);
	for (size_t i = 0; i < pages; i++)
		used += resident[i] & 1;
	assert_true(used <= 4);
	free(resident);
	live_close(&live);
}

/* ---- trouble ---- */

/* The verdicts do not fit the send buffer: the packets come again when they do. */
static void verdicts_that_cannot_be_sent_are_made_up_for(void **state)
{
	static uint8_t data[9000];
	struct live live;
	int size = 1;

	(void)state;
	live_open(&live);
	want_header_fields(&live);
	live_bind(&live, REWRITE_ALL);
	live_rules(&live, OUT, 0, 1);
	assert_int_equal(setsockopt(live.queue.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	for (int i = 0; i < 30; i++)
		live_need(live_send(&live, live.port, data, i < 15 ? 100 : sizeof(data)), "send");
	assert_int_equal(queue_turn(&live.queue, live.buffers), 30);
	assert_true(live.queue.has_unsent);
	assert_int_equal(live.queue.last_error, EMSGSIZE);
	assert_true(live_kernel(&live).pending > 0);

	size = 212992;
	assert_int_equal(setsockopt(live.queue.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	live_drain(&live);
	assert_false(live.queue.has_unsent);
	for (int i = 0; i < 30; i++) {
		uint8_t tos = 0;
		int ttl = 0;

		assert_true(receive_fields(&live, i < 15 ? 100 : sizeof(data), &ttl, &tos));
		assert_int_equal(ttl, 33);
	}
	assert_int_equal(live_kernel(&live).id_sequence, live_decided(&live));
	live_close(&live);
}

static uint32_t port_id(int fd)
{
	struct sockaddr_nl address;
	socklen_t length = sizeof(address);

	live_need(getsockname(fd, (struct sockaddr *)&address, &length) == 0, "getsockname");
	return address.nl_pid;
}

/* A harmless packet under the id of the forbidden one that waits, sent by root in there. */
static void send_forgery(const struct live *live, uint32_t id)
{
	const struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = port_id(live->queue.fd)};
	const struct nfqnl_msg_packet_hdr header = {.packet_id = htonl(id),
						    .hook = NF_INET_LOCAL_OUT};
	static const uint8_t harmless[28] = {0x45, 0, 0, 28,  0, 0, 0, 0, 64, 17, 0,  0, 127,
					     0,	   0, 1, 127, 0, 0, 1, 0, 9,  0,  99, 0, 8};
	_Alignas(8) uint8_t buffer[256] = {0};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	const int fd = netlink_open(NETLINK_NETFILTER);

	nlh->nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct nfgenmsg));
	mnl_attr_put(nlh, NFQA_PACKET_HDR, sizeof(header), &header);
	mnl_attr_put(nlh, NFQA_PAYLOAD, sizeof(harmless), harmless);
	/* The kernel may refuse it already, where the socket was connected to it. */
	if (sendto(fd, nlh, nlh->nlmsg_len, 0, (const struct sockaddr *)&to, sizeof(to)) < 0)
		assert_int_equal(errno, ECONNREFUSED);
	close(fd);
}

static void forged_messages_are_ignored(void **state)
{
	uint8_t seen[2] = {0};
	struct live live;

	(void)state;
	live_open(&live);
	live_bind(&live, "{\"version\":1,\"default\":\"drop\",\"rules\":["
			 "{\"name\":\"harmless\",\"action\":\"accept\",\"dport\":[99]}]}");
	live_rules(&live, OUT, 0, 1);
	send_forgery(&live, 1);
	live_send_numbers(&live, 0, 1);
	live_drain(&live);
	assert_int_equal(live_receive(&live, seen, 2), 0);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_ACCEPTED].packets, 0);
	assert_int_equal(live.queue.shm->fate[SHM_FATE_DROPPED].packets, 1);
	live_close(&live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_and_drops_by_policy),
		cmocka_unit_test(rejects_at_once),
		cmocka_unit_test(replies_of_accepted_flows_pass),
		cmocka_unit_test(without_policy_the_default_decides),
		cmocka_unit_test(vanished_packets_are_not_counted_as_judged),
		cmocka_unit_test(those_that_came_after_them_are_judged),
		cmocka_unit_test(a_look_at_a_whole_queue_changes_nothing),
		cmocka_unit_test(a_queue_that_was_empty_is_not_looked_at),
		cmocka_unit_test(verdicts_are_of_one_number),
		cmocka_unit_test(what_is_stale_is_so_by_each_number),
		cmocka_unit_test(what_vanishes_by_several_numbers_is_not_judged),
		cmocka_unit_test(packets_of_other_numbers_are_left_alone),
		cmocka_unit_test(rewritten_packets_arrive_whole),
		cmocka_unit_test(a_hungrier_policy_sees_whole_packets),
		cmocka_unit_test(rules_keep_their_counters_by_name),
		cmocka_unit_test(counters_come_back_with_their_policy),
		cmocka_unit_test(counters_survive_a_crash_while_they_move),
		cmocka_unit_test(the_oldest_counters_make_room),
		cmocka_unit_test(takes_no_memory_for_rules_without_hits),
		cmocka_unit_test(verdicts_that_cannot_be_sent_are_made_up_for),
		cmocka_unit_test(forged_messages_are_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
