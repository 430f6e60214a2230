/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which denials the kernel is asked to remember: from a message of the queue to the verdict. */
#include "../../agent/queue_internal.h"
#include "nsgate/mark.h"
#include "policy_fixture.h"

#include <linux/netfilter.h>

#define DROPPING "{'version':1,'hooks':['in'],'default':'drop'}"

struct scene {
	struct fixture fixture;
	struct queue queue;
	struct queue_buffers *buffers;
	struct nfq_packet packet;
	uint8_t data[128];
};

static struct scene scene_open(const char *policy)
{
	struct scene scene = {.fixture = open_policy(policy), .buffers = queue_buffers_new()};

	assert_non_null(scene.buffers);
	scene.queue = (struct queue){.fd = -1,
				     .policy = scene.fixture.policy,
				     .state = scene.fixture.state,
				     .notes_denied = true};
	return scene;
}

static void scene_close(struct scene *scene)
{
	queue_buffers_free(scene->buffers);
	close_policy(&scene->fixture);
}

/* A packet of IPv4 that comes in: UDP, of `protocol` if that is another. */
static void ipv4(struct scene *scene, uint8_t protocol)
{
	static const uint8_t headers[] = {
		0x45, 0, 0, 60, 0, 0, 0, 0, 64, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, /* IPv4 */
		10,   0, 0, 100							   /* ports */
	};

	memset(scene->data, 0, sizeof(scene->data));
	memcpy(scene->data, headers, sizeof(headers));
	scene->data[9] = protocol;
	scene->data[25] = 40; /* UDP's length */
	if (protocol == IPPROTO_TCP)
		scene->data[32] = 0x50; /* TCP's header length */
	scene->packet = (struct nfq_packet){.hook = NSGATE_HOOK_IN,
					    .mark = NSGATE_MARK_NEW,
					    .data = scene->data,
					    .caplen = 60,
					    .length = 60};
}

/* The same of IPv6; with a header of destination options before UDP if `options`. */
static void ipv6(struct scene *scene, bool options)
{
	uint8_t *udp = scene->data + 40;

	ipv4(scene, IPPROTO_UDP);
	memset(scene->data, 0, sizeof(scene->data));
	scene->data[0] = 0x60;
	scene->data[5] = 60;
	scene->data[6] = options ? IPPROTO_DSTOPTS : IPPROTO_UDP;
	scene->data[7] = 64;
	scene->data[23] = scene->data[39] = 1;
	if (options) {
		udp[0] = IPPROTO_UDP;
		udp[2] = 1; /* PadN */
		udp[3] = 4;
		udp += 8;
	}
	udp[1] = udp[3] = 9;
	udp[5] = options ? 52 : 60;
	scene->packet.caplen = scene->packet.length = 100;
}

/* Judge it: dropped one way or the other, and counted so. Return: is its flow to be noted? */
static bool noted(struct scene *scene)
{
	struct queue_verdict verdict;

	memset(&scene->buffers->counters, 0, sizeof(scene->buffers->counters));
	queue_judge(&scene->queue, scene->buffers, &scene->packet, &verdict);
	assert_int_equal(scene->buffers->counters.fate[SHM_FATE_DROPPED].packets, 1);
	assert_int_equal(scene->buffers->counters.fate[SHM_FATE_ACCEPTED].packets, 0);
	if (verdict.verdict == NF_DROP) {
		assert_false(verdict.set_mark);
		return false;
	}
	assert_int_equal(verdict.verdict, NF_REPEAT);
	assert_true(verdict.set_mark);
	assert_int_equal(verdict.mark, NSGATE_MARK_DENIED);
	return true;
}

static void what_has_ports(void **test)
{
	static const uint8_t with[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP,
				       IPPROTO_DCCP};
	static const uint8_t without[] = {IPPROTO_ICMP, IPPROTO_ESP, IPPROTO_GRE, IPPROTO_AH};
	struct scene scene = scene_open(DROPPING);

	(void)test;
	for (size_t i = 0; i < sizeof(with); i++) {
		ipv4(&scene, with[i]);
		assert_true(noted(&scene));
	}
	for (size_t i = 0; i < sizeof(without); i++) {
		ipv4(&scene, without[i]);
		assert_false(noted(&scene));
	}
	ipv6(&scene, false);
	assert_true(noted(&scene));
	ipv6(&scene, true);
	assert_false(noted(&scene));
	scene_close(&scene);
}

static void not_what_is_no_packet_of_a_flow(void **test)
{
	struct scene scene = scene_open(DROPPING);

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	scene.data[6] = 0x20; /* more fragments */
	assert_false(noted(&scene));
	scene.data[6] = 0;
	scene.data[7] = 9; /* a later one */
	assert_false(noted(&scene));
	ipv4(&scene, IPPROTO_UDP);
	scene.data[0] = 0x44; /* malformed */
	assert_false(noted(&scene));
	scene_close(&scene);
}

static void not_by_other_hooks(void **test)
{
	struct scene scene = scene_open(DROPPING);

	(void)test;
	for (unsigned int hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		ipv4(&scene, IPPROTO_UDP);
		scene.packet.hook = (uint8_t)hook;
		assert_int_equal(noted(&scene), hook == NSGATE_HOOK_IN || hook == NSGATE_HOOK_OUT ||
							hook == NSGATE_HOOK_FORWARD);
	}
	scene_close(&scene);
}

static void not_what_conntrack_knows_or_went_round(void **test)
{
	static const uint32_t marks[] = {
		NSGATE_MARK_REPLY,
		NSGATE_MARK_REPLY | NSGATE_MARK_STALE,
		NSGATE_MARK_KNOWN,
		NSGATE_MARK_NEW | (NSGATE_MARK_DENIED & ~NSGATE_MARK_MASK),
	};
	struct scene scene = scene_open(DROPPING);

	(void)test;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		ipv4(&scene, IPPROTO_UDP);
		scene.packet.mark = marks[i];
		assert_false(noted(&scene));
	}
	scene.packet.mark = 5; /* the namespace's own */
	assert_true(noted(&scene));
	scene_close(&scene);
}

static void not_before_the_rules_know(void **test)
{
	struct scene scene = scene_open(DROPPING);

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	scene.queue.notes_denied = false;
	assert_false(noted(&scene));
	scene.queue.notes_denied = true;
	scene.queue.policy = NULL; /* missing */
	assert_false(noted(&scene));
	scene_close(&scene);
}

static void not_what_depends_on_the_packet(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'drop','rules':["
					"{'name':'a','action':'accept','ttl':9},"
					"{'name':'b','action':'drop','dport':100}]}");

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	assert_false(noted(&scene));
	scene_close(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_has_ports),
		cmocka_unit_test(not_what_is_no_packet_of_a_flow),
		cmocka_unit_test(not_by_other_hooks),
		cmocka_unit_test(not_what_conntrack_knows_or_went_round),
		cmocka_unit_test(not_before_the_rules_know),
		cmocka_unit_test(not_what_depends_on_the_packet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
