/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of a packet, without a kernel and without an agent: the answer and its reason. */
#include "judge.h"
#include "policy_fixture.h"

static const uint8_t to_port_80[] = {
	0x45, 0,    0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, /* IPv4 */
	0x9c, 0x40, 0, 80, 0, 8, 0, 0					       /* UDP, from 40000 */
};

struct scene {
	struct fixture fixture;
	struct judge_policy judge;
	struct judge_packet packet;
	struct judge_result result;
};

static struct scene scene_open(const char *policy)
{
	struct scene scene = {.fixture = open_policy(policy)};

	scene.judge.policy = scene.fixture.policy;
	scene.judge.state = scene.fixture.state;
	scene.packet = (struct judge_packet){
		.flow = NSGATE_FLOW_NEW,
		.data = to_port_80,
		.caplen = sizeof(to_port_80),
		.pkt = {.hook = NSGATE_HOOK_OUT, .length = sizeof(to_port_80)},
	};
	return scene;
}

static void expect(struct scene *scene, enum judge_verdict verdict, enum judge_reason reason)
{
	const struct judge_packet asked = scene->packet;

	judge_packet(&scene->judge, &scene->packet, &scene->result);
	assert_int_equal(scene->result.verdict, verdict);
	assert_int_equal(scene->result.reason, reason);
	scene->packet = asked;
}

static void test_rule_and_default_are_named(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'drop','rules':["
					"{'name':'a','action':'accept','dport':80}]}");

	(void)test;
	expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_POLICY);
	assert_int_equal(scene.result.decision.rule, 0);
	scene.packet.pkt.hook = NSGATE_HOOK_IN;
	scene.packet.caplen = 24; /* no whole header of UDP */
	expect(&scene, JUDGE_VERDICT_DROP, JUDGE_REASON_MALFORMED);
	close_policy(&scene.fixture);
}

static void test_flow_is_remembered_where_the_rules_have_to_be_told(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'accept'}");

	(void)test;
	expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_POLICY);
	assert_false(scene.result.remember);
	scene.judge.selective = true;
	expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_POLICY);
	assert_true(scene.result.remember);
	scene.packet.pkt.mark = 7; /* no room for the agent's own */
	expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_POLICY);
	assert_false(scene.result.remember);
	assert_int_equal(scene.result.mark, 7);
	close_policy(&scene.fixture);
}

static void test_denial_is_the_flows_where_it_can_be(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'drop'}");

	(void)test;
	expect(&scene, JUDGE_VERDICT_DROP, JUDGE_REASON_POLICY);
	scene.judge.notes_denied = true;
	expect(&scene, JUDGE_VERDICT_DENY, JUDGE_REASON_POLICY);
	assert_int_equal(scene.result.decision.rule, POLICY_RULE_DEFAULT);
	scene.packet.flow = NSGATE_FLOW_REPLY;
	expect(&scene, JUDGE_VERDICT_DROP, JUDGE_REASON_POLICY);
	close_policy(&scene.fixture);
}

static void test_reply_of_an_accepted_flow_asks_no_rule(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'reject'}");

	(void)test;
	scene.packet.flow = NSGATE_FLOW_REPLY_KNOWN;
	expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_REPLY);
	scene.packet.flow = NSGATE_FLOW_REPLY_STALE; /* what it answers is not accepted now */
	expect(&scene, JUDGE_VERDICT_REJECT, JUDGE_REASON_POLICY);
	scene.packet.flow = NSGATE_FLOW_INVALID; /* it may be of a flow that is alive */
	expect(&scene, JUDGE_VERDICT_DROP, JUDGE_REASON_POLICY);
	close_policy(&scene.fixture);
}

static const uint8_t segment[] = {
	0x45, 0,    0, 41,   0, 0, 0, 0, 64, 6, 0, 0, 10,   0, 0, 1, 10, 0, 0, 2,     /* IPv4 */
	0x9c, 0x40, 0, 0x50, 0, 0, 0, 1, 0,  0, 0, 1, 0x50, 0, 0, 0, 0,	 0, 0, 0, 'x' /* TCP */
};
enum { FLAGS = 33, ACK = 0x10, SYN = 0x02, RST = 0x04 };

/* Rejected: is the other end to be told? */
static bool is_midway_of(struct scene *scene, enum nsgate_flow flow, enum nsgate_hook hook,
			 uint8_t flags, bool owned)
{
	uint8_t data[sizeof(segment)];

	memcpy(data, segment, sizeof(data));
	data[FLAGS] = flags;
	scene->packet.flow = flow;
	scene->packet.data = data;
	scene->packet.caplen = scene->packet.pkt.length = sizeof(data);
	scene->packet.pkt.hook = (uint8_t)hook;
	scene->packet.pkt.have = owned ? PKT_HAVE_UID : 0;
	expect(scene, JUDGE_VERDICT_REJECT, JUDGE_REASON_POLICY);
	return scene->result.is_midway;
}

static bool is_midway(struct scene *scene, enum nsgate_flow flow, enum nsgate_hook hook,
		      uint8_t flags)
{
	return is_midway_of(scene, flow, hook, flags, true);
}

static void test_connection_ends_at_both_ends_where_there_are_two(void **test)
{
	static const bool both[NSGATE_FLOW_MAX] = {[NSGATE_FLOW_ORIGINAL] = true,
						   [NSGATE_FLOW_KNOWN] = true,
						   [NSGATE_FLOW_UNSURE] = true,
						   [NSGATE_FLOW_REPLY_STALE] = true,
						   [NSGATE_FLOW_REPLY_UNSURE] = true};
	struct scene scene = scene_open("{'version':1,'default':'reject',"
					"'hooks':['in','out','forward','prerouting']}");

	(void)test;
	for (int hook = 0; hook < NSGATE_HOOK_POSTROUTING; hook++) {
		const bool is_local = hook == NSGATE_HOOK_IN || hook == NSGATE_HOOK_OUT;

		for (int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
			if (flow == NSGATE_FLOW_REPLY_KNOWN || flow == NSGATE_FLOW_ERROR_KNOWN ||
			    flow == NSGATE_FLOW_INVALID)
				continue;
			assert_int_equal(is_midway(&scene, (enum nsgate_flow)flow,
						   (enum nsgate_hook)hook, ACK),
					 both[flow] || (is_local && flow == NSGATE_FLOW_NEW));
			assert_false(is_midway(&scene, (enum nsgate_flow)flow,
					       (enum nsgate_hook)hook, SYN));
		}
	}
	close_policy(&scene.fixture);
}

static void test_of_a_connection_of_nobody_nobody_is_told(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'reject'}");

	(void)test;
	assert_true(is_midway_of(&scene, NSGATE_FLOW_NEW, NSGATE_HOOK_IN, ACK, true));
	assert_false(is_midway_of(&scene, NSGATE_FLOW_NEW, NSGATE_HOOK_IN, ACK, false));
	assert_true(is_midway_of(&scene, NSGATE_FLOW_ORIGINAL, NSGATE_HOOK_IN, ACK, false));
	scene.packet.from_loopback = true;
	assert_true(is_midway_of(&scene, NSGATE_FLOW_NEW, NSGATE_HOOK_IN, ACK, false));
	close_policy(&scene.fixture);
}

static void test_what_a_raw_socket_may_have_made_tells_nobody(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'reject','strict':true}");

	(void)test;
	assert_false(is_midway(&scene, NSGATE_FLOW_NEW, NSGATE_HOOK_OUT, ACK));
	assert_false(is_midway(&scene, NSGATE_FLOW_ORIGINAL, NSGATE_HOOK_OUT, ACK));
	assert_true(is_midway(&scene, NSGATE_FLOW_NEW, NSGATE_HOOK_IN, ACK));
	scene.packet.is_transports = true;
	assert_true(is_midway(&scene, NSGATE_FLOW_NEW, NSGATE_HOOK_OUT, ACK));
	assert_false(is_midway(&scene, NSGATE_FLOW_REPLY, NSGATE_HOOK_OUT, ACK));
	close_policy(&scene.fixture);
}

/* What tells it comes by, unjudged, and would be noted as accepted. */
static void test_over_the_loopback_both_hooks_are_policed_or_one_end_is_told(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'reject','hooks':['out']}");

	(void)test;
	assert_true(is_midway(&scene, NSGATE_FLOW_ORIGINAL, NSGATE_HOOK_OUT, ACK));
	scene.packet.to_loopback = true;
	assert_false(is_midway(&scene, NSGATE_FLOW_ORIGINAL, NSGATE_HOOK_OUT, ACK));
	close_policy(&scene.fixture);
	scene = scene_open("{'version':1,'default':'reject','hooks':['in','out']}");
	scene.packet.to_loopback = true;
	assert_true(is_midway(&scene, NSGATE_FLOW_ORIGINAL, NSGATE_HOOK_OUT, ACK));
	close_policy(&scene.fixture);
}

static void test_rejection_comes_back_over_the_loopback(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'reject'}");

	(void)test;
	assert_false(is_midway(&scene, NSGATE_FLOW_ERROR, NSGATE_HOOK_OUT, RST));
	assert_false(is_midway(&scene, NSGATE_FLOW_ERROR, NSGATE_HOOK_IN, RST));
	scene.packet.data = segment;
	scene.packet.flow = NSGATE_FLOW_ERROR;
	scene.packet.from_loopback = true;
	expect(&scene, JUDGE_VERDICT_REJECT, JUDGE_REASON_POLICY); /* no reset */
	{
		uint8_t reset[sizeof(segment)];

		memcpy(reset, segment, sizeof(reset));
		reset[FLAGS] = RST | ACK;
		scene.packet.data = reset;
		expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_REPLY);
		scene.packet.from_loopback = false;
		scene.packet.to_loopback = true;
		scene.packet.pkt.hook = NSGATE_HOOK_OUT;
		expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_REPLY);
		scene.packet.flow = NSGATE_FLOW_REPLY;
		expect(&scene, JUDGE_VERDICT_REJECT, JUDGE_REASON_POLICY);
	}
	close_policy(&scene.fixture);
}

static void test_time_is_what_the_caller_says(void **test)
{
	struct scene scene = scene_open("{'version':1,'default':'drop','rules':[{'name':'a',"
					"'action':'accept','limit':{'rate':'1/s','burst':1}}]}");

	(void)test;
	expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_POLICY);
	expect(&scene, JUDGE_VERDICT_DROP, JUDGE_REASON_POLICY);
	scene.judge.state.now_ns += UINT64_C(1000000000);
	expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_POLICY);
	close_policy(&scene.fixture);
}

static void test_without_a_policy(void **test)
{
	struct scene scene = scene_open("{'version':1}");

	(void)test;
	scene.judge.policy = NULL;
	expect(&scene, JUDGE_VERDICT_DROP, JUDGE_REASON_NO_POLICY);
	scene.judge.accept_without_policy = true;
	expect(&scene, JUDGE_VERDICT_ACCEPT, JUDGE_REASON_NO_POLICY);
	close_policy(&scene.fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rule_and_default_are_named),
		cmocka_unit_test(test_flow_is_remembered_where_the_rules_have_to_be_told),
		cmocka_unit_test(test_denial_is_the_flows_where_it_can_be),
		cmocka_unit_test(test_reply_of_an_accepted_flow_asks_no_rule),
		cmocka_unit_test(test_connection_ends_at_both_ends_where_there_are_two),
		cmocka_unit_test(test_of_a_connection_of_nobody_nobody_is_told),
		cmocka_unit_test(test_what_a_raw_socket_may_have_made_tells_nobody),
		cmocka_unit_test(test_over_the_loopback_both_hooks_are_policed_or_one_end_is_told),
		cmocka_unit_test(test_rejection_comes_back_over_the_loopback),
		cmocka_unit_test(test_time_is_what_the_caller_says),
		cmocka_unit_test(test_without_a_policy),
	};

	return cmocka_run_group_tests_name("judge", tests, NULL, NULL);
}
