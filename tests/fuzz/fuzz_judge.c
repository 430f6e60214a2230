/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: a choice of policy and of what is in force with it, what the kernel knows of the flow, what
 * the queue says of the packet, and the packet.
 *
 * Must hold: what is not readable is dropped as malformed, and nothing else is; each answer comes
 * only where it may; the same packet gets the same answer again; that the rules note denials
 * changes nothing but that a drop may be one for the flow; that they note what they are told to
 * changes nothing but that they are told.
 */
#include "fuzz.h"
#include "judge.h"
#include "nsgate/hook.h"
#include "nsgate/shm.h"

#define POLICIES 3
#define HOW_WITHOUT_POLICY 1
#define HOW_ACCEPT 2
#define HOW_LOOPBACK 4
#define HOW_NOTHING 8 /* no bytes of the packet */
#define HOW_FROM_LOOPBACK 16
#define HOW_TRANSPORTS 32

struct question {
	struct policy *policy; /* or NULL */
	uint8_t how;
	struct judge_packet packet;
};

static struct policy *policies[POLICIES];
static struct shm_rule counters[NSGATE_RULES_MAX];

static void set_up(void)
{
	policies[0] = fuzz_compile(every_match_json);
	policies[1] = fuzz_compile("{'version':1,'strict':true,'default':'reject','rules':["
				   "{'name':'q','action':'queue','queue':65535,'dport':'0-99'}]}");
	policies[2] = fuzz_compile("{'version':1,'mode':'audit','hooks':['in'],'default':'drop',"
				   "'rules':[{'name':'m','action':'accept','dport':'0-99',"
				   "'mark':{'set':5}}]}");
}

static struct question read_question(struct input *input)
{
	struct question question = {.policy = policies[input_take(input, 1) % POLICIES]};
	struct judge_packet *packet = &question.packet;
	struct pkt *pkt = &packet->pkt;

	question.how = (uint8_t)input_take(input, 1);
	if (question.how & HOW_WITHOUT_POLICY)
		question.policy = NULL;
	packet->flow = (enum nsgate_flow)(input_take(input, 1) % NSGATE_FLOW_MAX);
	packet->to_loopback = question.how & HOW_LOOPBACK;
	packet->from_loopback = question.how & HOW_FROM_LOOPBACK;
	packet->is_transports = question.how & HOW_TRANSPORTS;
	pkt->hook = (uint8_t)(input_take(input, 1) % (NSGATE_HOOK_MAX + 1));
	pkt->mark = input_take(input, 1);
	pkt->iif_bits = input_take(input, 1);
	pkt->oif_bits = input_take(input, 1);
	pkt->uid = pkt->gid = input_take(input, 1) * 8;
	pkt->have = input_take(input, 1) & (PKT_HAVE_MAC | PKT_HAVE_UID | PKT_HAVE_GID);
	pkt->length = (uint32_t)input->left - 1 + input_take(input, 1);
	packet->data = question.how & HOW_NOTHING ? NULL : input->at;
	packet->caplen = (uint32_t)input->left;
	return question;
}

static struct judge_result ask(const struct question *question, bool selective, bool notes_denied)
{
	struct judge_policy judge = {
		.policy = question->policy,
		.accept_without_policy = question->how & HOW_ACCEPT,
		.selective = selective,
		.notes_denied = notes_denied,
	};
	struct judge_packet packet = question->packet;
	struct judge_result result;

	if (judge.policy)
		MUST(policy_state_init(&judge.state, judge.policy, counters) == 0);
	judge_packet(&judge, &packet, &result);
	policy_state_free(&judge.state);
	return result;
}

static bool is_readable(const struct question *question)
{
	const struct judge_packet *packet = &question->packet;
	struct pkt pkt = packet->pkt;

	return pkt.hook < NSGATE_HOOK_MAX && packet->data &&
	       pkt_parse(&pkt, packet->data, packet->caplen, pkt.length) == 0;
}

static void check_decided(const struct question *question, const struct judge_result *result)
{
	const struct policy_decision *decision = &result->decision;
	const struct policy_info *info;

	MUST(question->policy);
	info = policy_info(question->policy);
	MUST(decision->rule >= POLICY_RULE_DEFAULT && decision->rule < (int32_t)info->rule_count);
	switch (result->verdict) {
	case JUDGE_VERDICT_ACCEPT:
		MUST(decision->verdict == POLICY_VERDICT_ACCEPT);
		MUST(result->mark == decision->mark);
		break;
	case JUDGE_VERDICT_QUEUE:
		MUST(decision->verdict == POLICY_VERDICT_QUEUE);
		MUST(info->rules[decision->rule].action == POLICY_ACTION_QUEUE);
		break;
	case JUDGE_VERDICT_REJECT:
		MUST(decision->verdict == POLICY_VERDICT_REJECT);
		MUST(question->packet.flow != NSGATE_FLOW_INVALID);
		break;
	case JUDGE_VERDICT_DENY:
		MUST(decision->verdict == POLICY_VERDICT_DROP);
		break;
	case JUDGE_VERDICT_DROP:
		MUST(decision->verdict == POLICY_VERDICT_DROP ||
		     (decision->verdict == POLICY_VERDICT_REJECT &&
		      question->packet.flow == NSGATE_FLOW_INVALID));
		break;
	case JUDGE_VERDICT_TURN: /* the policies have no names */
	case JUDGE_VERDICT_MAX:
		MUST(false);
	}
}

static void check(const struct question *question, const struct judge_result *result)
{
	MUST((result->reason == JUDGE_REASON_MALFORMED) == !is_readable(question));
	switch (result->reason) {
	case JUDGE_REASON_POLICY:
		check_decided(question, result);
		break;
	case JUDGE_REASON_REPLY:
		MUST(question->policy && result->verdict == JUDGE_VERDICT_ACCEPT);
		MUST(result->mark == question->packet.pkt.mark);
		break;
	case JUDGE_REASON_NO_POLICY:
		MUST(!question->policy);
		MUST(result->verdict ==
		     (question->how & HOW_ACCEPT ? JUDGE_VERDICT_ACCEPT : JUDGE_VERDICT_DROP));
		break;
	case JUDGE_REASON_LOOPBACK:
		MUST(!question->packet.to_loopback && result->verdict == JUDGE_VERDICT_DROP);
		break;
	case JUDGE_REASON_MALFORMED:
		MUST(result->verdict == JUDGE_VERDICT_DROP);
		break;
	case JUDGE_REASON_NAMES: /* there are none */
	case JUDGE_REASON_MAX:
		MUST(false);
	}
	MUST(!result->is_midway || result->verdict == JUDGE_VERDICT_REJECT);
	MUST(!result->remember || (result->verdict == JUDGE_VERDICT_ACCEPT && result->mark == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct question question;
	struct judge_result plain, selective, noting;

	if (!policies[0])
		set_up();
	question = read_question(&input);
	plain = ask(&question, false, false);
	selective = ask(&question, true, false);
	noting = ask(&question, false, true);
	check(&question, &plain);
	check(&question, &selective);
	check(&question, &noting);

	MUST(!plain.remember && !noting.remember);
	MUST(selective.verdict == plain.verdict && selective.reason == plain.reason);
	MUST(plain.verdict != JUDGE_VERDICT_DENY && noting.reason == plain.reason);
	MUST(noting.verdict == plain.verdict ||
	     (plain.verdict == JUDGE_VERDICT_DROP && noting.verdict == JUDGE_VERDICT_DENY));
	return 0;
}
