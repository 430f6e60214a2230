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
		cmocka_unit_test(test_time_is_what_the_caller_says),
		cmocka_unit_test(test_without_a_policy),
	};

	return cmocka_run_group_tests_name("judge", tests, NULL, NULL);
}
