/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which decisions hold for all packets of a flow. test_policy_random tries it with many policies.
 */
#include "policy_fixture.h"

/* A rule that asks for it does not match tcp_to("192.0.2.1", 80). Three make it a dimension. */
static const struct {
	const char *one, *many;
	bool of_flow;
} asked[POLICY_FIELD_MAX] = {
	[POLICY_FIELD_DIRECTION] = {"'direction':'in'", "'direction':['in','in','forward']", true},
	[POLICY_FIELD_FAMILY] = {"'family':'ipv6'", "'family':['ipv6','ipv6','ipv6']", true},
	[POLICY_FIELD_PROTOCOL] = {"'protocol':'udp'", "'protocol':['udp','sctp',99]", true},
	[POLICY_FIELD_SRC] = {"'src':'10.0.0.1'", "'src':['10.0.0.1','10.0.0.3','::1']", true},
	[POLICY_FIELD_DST] = {"'dst':'10.0.0.1'", "'dst':['10.0.0.1','10.0.0.3','::1']", true},
	[POLICY_FIELD_SPORT] = {"'sport':1", "'sport':[1,3,5]", true},
	[POLICY_FIELD_DPORT] = {"'dport':1", "'dport':[1,3,5]", true},
	[POLICY_FIELD_ICMP_TYPE] = {"'icmp_type':1", "'icmp_type':[1,3,5]", true},
	[POLICY_FIELD_ICMP_CODE] = {"'icmp_code':1", "'icmp_code':[1,3,5]", true},
	[POLICY_FIELD_TCP_FLAGS] = {"'tcp_flags':'ack'", "'tcp_flags':['ack','rst','fin']", false},
	[POLICY_FIELD_IIF] = {"'iif':'eth0'", "'iif':['eth0','eth1','eth2']", false},
	[POLICY_FIELD_OIF] = {"'oif':'eth0'", "'oif':['eth0','eth1','eth2']", false},
	[POLICY_FIELD_SRC_MAC] = {"'src_mac':'02:00:00:00:00:01'",
				  "'src_mac':['02:00:00:00:00:01','02:00:00:00:00:03',"
				  "'02:00:00:00:00:05']",
				  false},
	[POLICY_FIELD_MARK] = {"'mark':7", "'mark':[7,9,11]", false},
	[POLICY_FIELD_UID] = {"'uid':7", "'uid':[7,9,11]", false},
	[POLICY_FIELD_GID] = {"'gid':7", "'gid':[7,9,11]", false},
	[POLICY_FIELD_LENGTH] = {"'length':7", "'length':[7,9,11]", false},
	[POLICY_FIELD_DSCP] = {"'dscp':7", "'dscp':[7,9,11]", false},
	[POLICY_FIELD_TTL] = {"'ttl':7", "'ttl':[7,9,11]", false},
	[POLICY_FIELD_FRAGMENT] = {"'fragment':true", "'fragment':[true,true,true]", false},
	[POLICY_FIELD_CT] = {"'ct':'reply'", "'ct':['reply','reply','reply']", false},
	[POLICY_FIELD_DOMAIN] = {"'domain':'a.example'",
				 "'domain':['a.example','b.example','c.example']", false},
	[POLICY_FIELD_DNS] = {"'dns':{}", "'dns':{'type':['A','AAAA','MX']}", false},
};

static bool decides_flow(const char *rules, const struct pkt *pkt, int32_t rule)
{
	char text[1024];
	struct policy_decision decision;
	struct fixture f;
	bool decides;

	snprintf(text, sizeof(text),
		 "{'version':1,'default':'drop','names':{'resolvers':['10.0.0.9']},'rules':[%s]}",
		 rules);
	f = open_policy(text);
	decision = decide(&f, pkt);
	if (decision.rule != rule)
		fail_msg("%s: rule %d", rules, decision.rule);
	decides = policy_decides_flow(f.policy, pkt, &decision);
	close_policy(&f);
	return decides;
}

static void check(const char *field, bool of_flow)
{
	struct pkt pkt = tcp_to("192.0.2.1", 80);
	char rules[512];
	bool decides;

	/* Before the deciding rule, and behind it. */
	snprintf(rules, sizeof(rules), "{'name':'a','action':'accept',%s}", field);
	decides = decides_flow(rules, &pkt, POLICY_RULE_DEFAULT);
	if (decides != of_flow)
		fail_msg("%s: %d", rules, decides);
	snprintf(rules, sizeof(rules),
		 "{'name':'d','action':'drop'},{'name':'a','action':'accept',%s}", field);
	assert_true(decides_flow(rules, &pkt, 0));
	/* What it asks of the flow keeps the flow from it. */
	snprintf(rules, sizeof(rules), "{'name':'a','action':'accept','dst':'10.0.0.7',%s}", field);
	if (strncmp(field, "'dst'", 5) != 0)
		assert_true(decides_flow(rules, &pkt, POLICY_RULE_DEFAULT));
	/* The same where addresses are a dimension. */
	snprintf(rules, sizeof(rules),
		 "{'name':'a','action':'accept','src':['10.0.0.7','10.0.0.9','10.0.0.11'],%s}",
		 field);
	if (strncmp(field, "'src'", 5) != 0)
		assert_true(decides_flow(rules, &pkt, POLICY_RULE_DEFAULT));
}

static void every_field(void **test)
{
	(void)test;
	for (int field = 0; field < POLICY_FIELD_MAX; field++) {
		assert_non_null(asked[field].one);
		check(asked[field].one, asked[field].of_flow);
		check(asked[field].many, asked[field].of_flow);
	}
}

static void the_deciding_rule_counts(void **test)
{
	struct pkt pkt = tcp_to("192.0.2.1", 80);

	(void)test;
	assert_true(decides_flow("{'name':'a','action':'drop','dport':80}", &pkt, 0));
	assert_false(decides_flow("{'name':'a','action':'drop','ttl':64}", &pkt, 0));
	assert_false(decides_flow("{'name':'a','action':'drop','ttl':[64,65,66]}", &pkt, 0));
	assert_false(decides_flow("{'name':'a','action':'drop','limit':{'rate':'9/s','burst':9}}",
				  &pkt, 0));
	assert_true(decides_flow("{'name':'a','action':'drop','dport':80},"
				 "{'name':'b','action':'drop','ttl':64}",
				 &pkt, 0));
}

static void what_leaves_traces_counts(void **test)
{
	struct pkt pkt = tcp_to("192.0.2.1", 80);

	(void)test;
	assert_false(decides_flow("{'name':'a','action':'accept','limit':{'rate':'1/h','burst':1},"
				  "'sport':40000,'dport':81},"
				  "{'name':'b','action':'continue','limit':{'rate':'1/h',"
				  "'burst':1}}",
				  &pkt, POLICY_RULE_DEFAULT));
	assert_true(decides_flow("{'name':'a','action':'accept','limit':{'rate':'1/h','burst':1},"
				 "'dport':81}",
				 &pkt, POLICY_RULE_DEFAULT));
	assert_false(decides_flow("{'name':'a','action':'continue','mark':{'set':1}}", &pkt,
				  POLICY_RULE_DEFAULT));
	assert_false(decides_flow("{'name':'a','action':'repeat','mark':{'set':1}}", &pkt,
				  POLICY_RULE_DEFAULT));
	assert_true(decides_flow("{'name':'a','action':'repeat','mark':{'set':1},'dport':81}", &pkt,
				 POLICY_RULE_DEFAULT));
	assert_true(decides_flow("{'name':'a','action':'continue','log':true}", &pkt,
				 POLICY_RULE_DEFAULT));
	assert_true(decides_flow("", &pkt, POLICY_RULE_DEFAULT));
}

/* The classifier's chunks are of 512 rules. */
static void far_apart(void **test)
{
	struct pkt pkt = tcp_to("192.0.2.1", 80);
	struct policy_decision decision;
	struct fixture f;
	char *text = malloc(200000);
	size_t used;

	(void)test;
	assert_non_null(text);
	used = (size_t)sprintf(text, "{'version':1,'rules':[");
	for (int i = 0; i < 1600; i++)
		used += (size_t)sprintf(text + used,
					"%s{'name':'r%d','action':'accept','dport':%d%s}",
					i ? "," : "", i, i == 700 || i == 1550 ? 80 : 1000 + i,
					i == 700    ? ",'protocol':'udp','ttl':9"
					: i == 1550 ? ",'ttl':9"
						    : ",'length':9");
	strcpy(text + used, "]}");
	f = open_policy(text);
	decision = decide(&f, &pkt);
	assert_int_equal(decision.rule, POLICY_RULE_DEFAULT);
	assert_false(policy_decides_flow(f.policy, &pkt, &decision));
	decision.rule = 1549;
	assert_true(policy_decides_flow(f.policy, &pkt, &decision));
	decision.rule = POLICY_RULE_DEFAULT;
	pkt.dport = 81;
	assert_true(policy_decides_flow(f.policy, &pkt, &decision));
	close_policy(&f);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field),
		cmocka_unit_test(the_deciding_rule_counts),
		cmocka_unit_test(what_leaves_traces_counts),
		cmocka_unit_test(far_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
