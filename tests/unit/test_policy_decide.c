/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Deciding: what each action and match means to an operator. */
#include <pthread.h>

#include "policy_fixture.h"

static void test_first_match_decides(void **test)
{
	struct fixture f = open_policy(
		"{'version':1,'default':{'in':'accept','out':'reject'},'rules':["
		"{'name':'a','action':'drop','dst':'192.0.2.7'},"
		"{'name':'b','action':'accept','dst':['192.0.2.0/24','2001:db8::/32'],"
		"'dport':[80,'8000-8999']},"
		"{'name':'c','action':'queue','queue':7,'not_dst':'10.0.0.0/8','dport':25}]}");
	struct pkt pkt;
	struct policy_decision decision;

	(void)test;
	pkt = tcp_to("192.0.2.7", 80);
	decision = decide(&f, &pkt);
	assert_int_equal(decision.verdict, POLICY_VERDICT_DROP);
	assert_int_equal(decision.rule, 0);
	pkt = tcp_to("192.0.2.8", 8999);
	assert_int_equal(decide(&f, &pkt).rule, 1);
	pkt = tcp_to("2001:db8:ffff::1", 80);
	assert_int_equal(decide(&f, &pkt).rule, 1);
	pkt = tcp_to("2001:db9::1", 25);
	decision = decide(&f, &pkt);
	assert_int_equal(decision.verdict, POLICY_VERDICT_QUEUE);
	assert_int_equal(decision.queue, 7);
	pkt = tcp_to("10.255.0.1", 25);
	decision = decide(&f, &pkt);
	assert_int_equal(decision.verdict, POLICY_VERDICT_REJECT);
	assert_int_equal(decision.rule, POLICY_RULE_DEFAULT);
	pkt.direction = PKT_DIRECTION_IN;
	assert_int_equal(decide(&f, &pkt).verdict, POLICY_VERDICT_ACCEPT);
	pkt.direction = PKT_DIRECTION_FORWARD; /* not in the document: dropped */
	assert_int_equal(decide(&f, &pkt).verdict, POLICY_VERDICT_DROP);

	assert_int_equal(counters[1].count.packets, 2);
	assert_int_equal(counters[1].count.bytes, 120);
	close_policy(&f);
}

static void test_continue_and_marks(void **test)
{
	struct fixture f = open_policy(
		"{'version':1,'default':'accept','rules':["
		"{'name':'count','action':'continue','log':true},"
		"{'name':'mark','action':'continue','dport':80,'mark':{'set':'0x10','mask':'0xf0'}}"
		","
		"{'name':'seen','action':'drop','mark':'0x10/0xf0'},"
		"{'name':'other','action':'accept','dport':[81,82,83],'set':{'ttl':9,'dscp':'ef',"
		"'mark':{'set':5}}}]}");
	struct pkt pkt = tcp_to("192.0.2.1", 80);
	struct policy_decision decision;

	(void)test;
	pkt.mark = 0xabcdef;
	decision = decide(&f, &pkt);
	assert_int_equal(decision.rule, 2);
	assert_int_equal(decision.mark, 0xabcd1f);
	assert_int_equal(decision.log_count, 1);
	assert_int_equal(decision.log_rules[0], 0);
	pkt.dport = 82;
	decision = decide(&f, &pkt);
	assert_int_equal(decision.rule, 3);
	assert_int_equal(decision.mark, 5);
	assert_int_equal(decision.set_ttl, 9);
	assert_int_equal(decision.set_dscp, 46);
	assert_int_equal(counters[0].count.packets, 2);
	assert_int_equal(counters[1].count.packets, 1);
	close_policy(&f);
}

/* Both in a rule of its own and in the classifier, which takes a field that is asked for often. */
static void test_marks_have_32_bits(void **test)
{
	struct fixture f = open_policy(
		"{'version':1,'default':'accept','rules':["
		"{'name':'high','action':'drop','mark':'0x80000000/0x80000000'},"
		"{'name':'whole','action':'drop','mark':['0x7fffffff',16777216,'0x6d6f6c65']},"
		"{'name':'set','action':'accept','set':{'mark':{'set':'0x6d6f6c65'}}}]}");
	struct pkt pkt = tcp_to("192.0.2.1", 80);

	(void)test;
	pkt.mark = 0xffffffff;
	assert_int_equal(decide(&f, &pkt).rule, 0);
	pkt.mark = 0x7fffffff;
	assert_int_equal(decide(&f, &pkt).rule, 1);
	pkt.mark = 0x1000000;
	assert_int_equal(decide(&f, &pkt).rule, 1);
	pkt.mark = 0x6f6c65; /* the same below the top byte */
	assert_int_equal(decide(&f, &pkt).rule, 2);
	assert_int_equal(decide(&f, &pkt).mark, 0x6d6f6c65);
	close_policy(&f);
}

static void test_connection_states(void **test)
{
	static const struct {
		uint8_t ct;
		int rule;
	} packets[] = {
		{PKT_CT_NEW, 0},
		{PKT_CT_ESTABLISHED | PKT_CT_REPLY, 1},
		{PKT_CT_ESTABLISHED, 2},
		{PKT_CT_RELATED, 3},
		{PKT_CT_RELATED | PKT_CT_REPLY, 1},
		{PKT_CT_INVALID, 4},
		{PKT_CT_UNTRACKED, 5},
		{0, 6},
	};
	struct fixture f =
		open_policy("{'version':1,'rules':["
			    "{'name':'new','action':'accept','ct':'new'},"
			    "{'name':'reply','action':'accept','ct':'reply'},"
			    "{'name':'established','action':'accept','ct':'established'},"
			    "{'name':'related','action':'accept','ct':'related'},"
			    "{'name':'invalid','action':'accept','ct':'invalid'},"
			    "{'name':'untracked','action':'accept','ct':['untracked']},"
			    "{'name':'no','action':'drop','not_ct':['new','related']}]}");
	struct pkt pkt = tcp_to("192.0.2.1", 80);

	(void)test;
	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		pkt.ct = packets[i].ct;
		assert_int_equal(decide(&f, &pkt).rule, packets[i].rule);
	}
	close_policy(&f);
}

static void test_repeat_once(void **test)
{
	struct fixture f = open_policy(
		"{'version':1,'default':'accept','rules':["
		"{'name':'seen','action':'drop','mark':['1/1']},"
		"{'name':'again','action':'repeat','mark':{'set':1,'mask':1},'dport':80},"
		"{'name':'more','action':'repeat','mark':{'set':2,'mask':2}}]}");
	struct pkt pkt = tcp_to("192.0.2.1", 80);
	struct policy_decision decision = decide(&f, &pkt);

	(void)test;
	assert_int_equal(decision.rule, 0);
	assert_true(decision.repeated);
	assert_int_equal(decision.mark, 1);
	pkt.dport = 81; /* round once, and then no rule is left */
	decision = decide(&f, &pkt);
	assert_int_equal(decision.rule, POLICY_RULE_DEFAULT);
	assert_true(decision.repeated);
	assert_int_equal(decision.mark, 2);
	assert_int_equal(counters[2].count.packets, 1);
	close_policy(&f);
}

static void test_audit(void **test)
{
	struct fixture f = open_policy("{'version':1,'rules':["
				       "{'name':'a','action':'reject','audit':true,'dport':1},"
				       "{'name':'b','action':'drop','dport':2}]}");
	struct pkt pkt = tcp_to("192.0.2.1", 1);
	struct policy_decision decision = decide(&f, &pkt);

	(void)test;
	assert_int_equal(decision.verdict, POLICY_VERDICT_ACCEPT);
	assert_true(decision.would_drop);
	assert_int_equal(decision.rule, 0);
	pkt.dport = 2;
	assert_int_equal(decide(&f, &pkt).verdict, POLICY_VERDICT_DROP);
	close_policy(&f);

	f = open_policy("{'version':1,'mode':'audit','rules':[]}");
	decision = decide(&f, &pkt);
	assert_int_equal(decision.verdict, POLICY_VERDICT_ACCEPT);
	assert_true(decision.would_drop);
	close_policy(&f);
}

/* Every rule that asks is told of, and an audit tells what it lets pass. */
static void test_logs(void **test)
{
	struct fixture f = open_policy(
		"{'version':1,'mode':'audit','default':{'out':'reject','in':'accept'},'rules':["
		"{'name':'a','action':'continue','log':true},"
		"{'name':'b','action':'continue'},"
		"{'name':'c','action':'continue','log':true,'dport':[80,81]},"
		"{'name':'d','action':'drop','dport':80},"
		"{'name':'e','action':'drop','dport':81,'log':true}]}");
	struct pkt pkt = tcp_to("192.0.2.1", 80);
	struct policy_decision decision = decide(&f, &pkt);
	char text[4096];
	size_t used;

	(void)test;
	assert_int_equal(decision.log_count, 3);
	assert_int_equal(decision.log_rules[0], 0);
	assert_int_equal(decision.log_rules[1], 2);
	assert_int_equal(decision.log_rules[2], 3);
	pkt.dport = 81; /* no rule is told of twice */
	decision = decide(&f, &pkt);
	assert_int_equal(decision.log_count, 3);
	assert_int_equal(decision.log_rules[2], 4);
	pkt.dport = 82;
	decision = decide(&f, &pkt);
	assert_int_equal(decision.log_count, 2);
	assert_int_equal(decision.log_rules[1], POLICY_RULE_DEFAULT);
	pkt.direction = PKT_DIRECTION_IN;
	assert_int_equal(decide(&f, &pkt).log_count, 1);
	close_policy(&f);

	used = (size_t)snprintf(text, sizeof(text), "{'version':1,'rules':[");
	for (int i = 0; i < POLICY_LOGS_MAX + 4; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "%s{'name':'r%d','action':'continue','log':true}",
					 i ? "," : "", i);
	snprintf(text + used, sizeof(text) - used, "]}");
	f = open_policy(text);
	decision = decide(&f, &pkt);
	assert_int_equal(decision.log_count, POLICY_LOGS_MAX + 4);
	assert_int_equal(decision.log_rules[POLICY_LOGS_MAX - 1], POLICY_LOGS_MAX - 1);
	close_policy(&f);
}

static unsigned int accepted(struct fixture *f, const struct pkt *pkt, unsigned int tries)
{
	unsigned int count = 0;

	while (tries-- > 0)
		count += decide(f, pkt).verdict == POLICY_VERDICT_ACCEPT;
	return count;
}

static void test_limit(void **test)
{
	struct fixture f = open_policy(
		"{'version':1,'rules':[{'name':'a','action':'accept','dport':1,"
		"'limit':{'rate':'7/m','burst':3}},{'name':'b','action':'accept','dport':2,"
		"'limit':{'rate':'100/s'}},{'name':'c','action':'accept','dport':3,"
		"'limit':{'rate':'1/d'}}]}");
	struct pkt slow = tcp_to("192.0.2.1", 1), fast = tcp_to("192.0.2.1", 2);
	struct pkt rare = tcp_to("192.0.2.1", 3);
	unsigned int total = 0;

	(void)test;
	assert_int_equal(policy_info(f.policy)->limit_count, 3);
	assert_int_equal(accepted(&f, &slow, 10), 3);
	assert_int_equal(accepted(&f, &fast, 1000), 100); /* default burst: one period */
	assert_int_equal(accepted(&f, &rare, 10), 5);	  /* or five, where that is more */

	/* Asked every 0.3 ms for an hour: the remainders add up to neither more nor less. */
	for (int i = 0; i < 12000000; i++) {
		f.state.now_ns += 300000;
		if (i % 16 == 0)
			total += accepted(&f, &slow, 1);
	}
	assert_in_range(total, 419, 420);
	f.state.now_ns += UINT64_C(30) * 86400 * 1000000000;
	assert_int_equal(accepted(&f, &slow, 10), 3);
	assert_int_equal(accepted(&f, &rare, 10), 5);
	f.state.now_ns = 5; /* a clock that goes back gives nothing and takes nothing */
	assert_int_equal(accepted(&f, &slow, 10), 0);
	close_policy(&f);
}

#define TAKERS 4
#define TRIES 20000

struct taker {
	const struct policy *policy;
	struct policy_state state;
	unsigned int taken;
};

static void *take_all(void *arg)
{
	struct taker *taker = arg;
	const struct pkt pkt = tcp_to("192.0.2.1", 1);

	for (int i = 0; i < TRIES; i++) {
		struct policy_decision decision;

		policy_decide(taker->policy, &taker->state, &pkt, &decision);
		taker->taken += decision.verdict == POLICY_VERDICT_ACCEPT;
	}
	return NULL;
}

/* The queues of a namespace, each with its thread, get no more together than one alone would. */
static void test_queues_have_a_limit_in_common(void **test)
{
	static struct shm_rule hits[TAKERS][1];
	struct fixture f = open_policy("{'version':1,'rules':[{'name':'a','action':'accept',"
				       "'limit':{'rate':'1000/s','burst':30000}}]}");
	struct taker takers[TAKERS];
	pthread_t threads[TAKERS];
	unsigned int taken = 0;
	uint64_t counted = 0;

	(void)test;
	for (int i = 0; i < TAKERS; i++) {
		takers[i] = (struct taker){.policy = f.policy};
		policy_state_join(&takers[i].state, &f.state);
		takers[i].state.counters = hits[i];
		takers[i].state.now_ns = 1000000000 + (uint64_t)i; /* begun one after the other */
	}
	policy_state_free(&f.state); /* the pool outlives whoever made it */
	for (int i = 0; i < TAKERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_all, &takers[i]), 0);
	for (int i = 0; i < TAKERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		taken += takers[i].taken;
		counted += hits[i][0].count.packets;
		policy_state_free(&takers[i].state);
	}
	assert_int_equal(taken, 30000);
	assert_int_equal(counted, taken);
	policy_unref(f.policy);
}

/* The bucket is asked last, so that packets of other rules do not drain it. */
static void test_limit_only_for_matches(void **test)
{
	struct fixture f = open_policy("{'version':1,'rules':[{'name':'a','action':'accept',"
				       "'uid':7,'limit':{'rate':'1/h','burst':1}}]}");
	struct pkt pkt = tcp_to("192.0.2.1", 1);

	(void)test;
	pkt.have |= PKT_HAVE_UID;
	pkt.uid = 8;
	assert_int_equal(accepted(&f, &pkt, 5), 0);
	pkt.uid = 7;
	assert_int_equal(accepted(&f, &pkt, 5), 1);
	close_policy(&f);
}

static void test_fragments(void **test)
{
	struct fixture f = open_policy(
		"{'version':1,'default':'reject','rules':["
		"{'name':'ports','action':'drop','protocol':'udp','not_dport':[53,54,55]},"
		"{'name':'frag','action':'accept','fragment':true,'protocol':'udp'}]}");
	struct pkt pkt = tcp_to("192.0.2.1", 1);

	(void)test;
	pkt.protocol = IPPROTO_UDP;
	pkt.have = PKT_HAVE_PORTS;
	assert_int_equal(decide(&f, &pkt).rule, 0);
	pkt.have = PKT_HAVE_FRAGMENT | PKT_HAVE_LATER_FRAGMENT;
	assert_int_equal(decide(&f, &pkt).rule, 1);
	close_policy(&f);
}

static void test_icmp_types_by_family(void **test)
{
	struct fixture f =
		open_policy("{'version':1,'rules':["
			    "{'name':'echo','action':'accept','icmp_type':'echo-request'},"
			    "{'name':'number','action':'accept','icmp_type':[3]}]}");
	struct pkt pkt = tcp_to("192.0.2.1", 0);

	(void)test;
	pkt.protocol = IPPROTO_ICMP;
	pkt.have = PKT_HAVE_ICMP;
	pkt.icmp_type = 8;
	assert_int_equal(decide(&f, &pkt).rule, 0);
	pkt.icmp_type = 128;
	assert_int_equal(decide(&f, &pkt).rule, POLICY_RULE_DEFAULT);
	pkt.icmp_type = 3;
	assert_int_equal(decide(&f, &pkt).rule, 1);
	pkt.family = AF_INET6;
	pkt.protocol = IPPROTO_ICMPV6;
	assert_int_equal(decide(&f, &pkt).rule, 1);
	pkt.icmp_type = 128;
	assert_int_equal(decide(&f, &pkt).rule, 0);
	pkt.icmp_type = 8;
	assert_int_equal(decide(&f, &pkt).rule, POLICY_RULE_DEFAULT);
	close_policy(&f);
}

/* Of what nothing is known, a rule that allows does not match and one that forbids does. */
static void test_unknown_fields(void **test)
{
	struct fixture f =
		open_policy("{'version':1,'default':'reject','rules':["
			    "{'name':'allow-ttl','action':'accept','ttl':64},"
			    "{'name':'count-ttl','action':'continue','not_ttl':3},"
			    "{'name':'limited','action':'accept','limit':{'rate':'1/s'}},"
			    "{'name':'deny-uid','action':'drop','uid':7,'dport':80},"
			    "{'name':'deny-limited','action':'drop','dport':81,'limit':{'rate':'1/"
			    "d','burst':1}},"
			    "{'name':'rest','action':'accept','dport':[80,81,82]}]}");
	struct pkt reply = tcp_to("192.0.2.1", 40000), original;

	(void)test;
	reply.direction = PKT_DIRECTION_IN;
	reply.sport = 80;
	pkt_reverse(&original, &reply);
	assert_int_equal(original.direction, PKT_DIRECTION_OUT);
	assert_int_equal(decide(&f, &original).rule, 3);
	original.dport = 81;
	assert_int_equal(decide(&f, &original).rule, 4);
	assert_int_equal(decide(&f, &original).rule, 4); /* no token was taken */
	original.dport = 82;
	assert_int_equal(decide(&f, &original).rule, 5);
	assert_int_equal(counters[1].count.packets, 0);
	original.direction = PKT_DIRECTION_IN;
	original.dport = 83;
	assert_int_equal(decide(&f, &original).rule, POLICY_RULE_DEFAULT);
	close_policy(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_match_decides),
		cmocka_unit_test(test_continue_and_marks),
		cmocka_unit_test(test_marks_have_32_bits),
		cmocka_unit_test(test_connection_states),
		cmocka_unit_test(test_repeat_once),
		cmocka_unit_test(test_audit),
		cmocka_unit_test(test_logs),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_queues_have_a_limit_in_common),
		cmocka_unit_test(test_limit_only_for_matches),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_icmp_types_by_family),
		cmocka_unit_test(test_unknown_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
