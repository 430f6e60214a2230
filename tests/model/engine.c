/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real engine behind a pipe, for compare.py: lib alone, no kernel and no agent.
 *
 * Theory of Operation
 *
 * Requests come on stdin, one a line, and each is answered with one line on stdout.
 *
 *   policy LENGTH, then LENGTH bytes   the policy from here on
 *       -> "good" and what the agent is told of it, or "bad POINTER: MESSAGE"
 *   packet TIME HOOK IIF OIF MAC MARK UID GID CT LENGTH HEX
 *   reply  ... the same                asks about the packet that this one answers
 *       -> "malformed", or the decision, see print_decision()
 *   judge FLOW NOTES TIME ... the same  CT follows from FLOW, an enum nsgate_flow in lower case;
 *                                      NOTES: s selective, d denied flows are noted, - neither
 *       -> "malformed", or what is to become of it, see print_result()
 *   counts                             -> "INDEX:PACKETS:BYTES ..." of all rules that were hit
 *
 * "-" stands for what a packet does not have. CT is a list of names with commas. HEX are the first
 * bytes of the packet; the engine is shown no more of them than the queue would copy.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "judge.h"
#include "nsgate/hook.h"
#include "nsgate/limits.h"
#include "nsgate/shm.h"
#include "policy/policy.h"

#define LINE_MAX_BYTES 8192
#define DATA_MAX 2048

struct engine {
	struct judge_policy in_force;
	struct shm_rule *counters;
};

struct question {
	struct pkt pkt;
	uint64_t time_ns;
	bool to_loopback, from_loopback;
	size_t captured;
	uint8_t data[DATA_MAX];
};

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "engine: %s\n", what);
	exit(EXIT_FAILURE);
}

/* ---- the policy ---- */

static void forget_policy(struct engine *engine)
{
	policy_state_free(&engine->in_force.state);
	free(engine->counters);
	policy_unref(engine->in_force.policy);
	*engine = (struct engine){.counters = NULL};
}

static void print_info(const struct policy_info *info)
{
	printf("good mode=%s offload=%d strict=%d uid_gid=%d no_gso=%d hooks=",
	       info->audit ? "audit" : "enforce", info->offload, info->strict,
	       (info->needs & POLICY_NEED_OWNER) != 0, (info->needs & POLICY_NEED_SEGMENTS) != 0);
	for (int hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		if (info->hooks & NSGATE_HOOK_BIT(hook))
			printf("%s,", nsgate_hook_names[hook]);
	}
	printf("\n");
}

static void take_policy(struct engine *engine, const char *json, size_t length)
{
	struct policy_problems problems = {.count = 0};
	int err;

	forget_policy(engine);
	err = policy_compile(json, length, &engine->in_force.policy, &problems);
	if (err < 0) {
		if (problems.count == 0)
			give_up(strerror(-err));
		printf("bad %s: %s\n", problems.list[0].pointer, problems.list[0].message);
		policy_problems_free(&problems);
		return;
	}
	engine->counters = calloc(policy_info(engine->in_force.policy)->rule_count + 1,
				  sizeof(*engine->counters));
	if (!engine->counters || policy_state_init(&engine->in_force.state, engine->in_force.policy,
						   engine->counters) < 0)
		give_up("no memory");
	print_info(policy_info(engine->in_force.policy));
}

static void read_policy(struct engine *engine, const char *words)
{
	static char json[2 * NSGATE_POLICY_BYTES_MAX];
	const size_t length = strtoull(words, NULL, 10);

	if (length > sizeof(json) || fread(json, 1, length, stdin) != length)
		give_up("a policy that is cut short");
	take_policy(engine, json, length);
}

/* ---- the packet ---- */

/* The next word of a request. */
static char *word(char **rest)
{
	char *found = strsep(rest, " \n");

	if (!found || !*found)
		give_up("a request with too few words");
	return found;
}

static bool absent(const char *text)
{
	return strcmp(text, "-") == 0;
}

static uint8_t read_hook(const char *name)
{
	for (int hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		if (strcmp(nsgate_hook_names[hook], name) == 0)
			return (uint8_t)hook;
	}
	give_up("no such hook");
}

static uint8_t direction_of(uint8_t hook)
{
	if (hook == NSGATE_HOOK_FORWARD)
		return PKT_DIRECTION_FORWARD;
	return hook == NSGATE_HOOK_IN || hook == NSGATE_HOOK_PREROUTING ? PKT_DIRECTION_IN
									: PKT_DIRECTION_OUT;
}

/* As the broker says which links match. */
static uint64_t read_link(const struct policy_info *info, const char *name)
{
	uint64_t bits = 0;

	if (absent(name))
		return 0;
	for (size_t i = 0; i < info->ifpattern_count; i++) {
		if (policy_ifpattern_match(info->ifpatterns[i], name))
			bits |= UINT64_C(1) << i;
	}
	return bits;
}

static uint8_t hex_digit(char digit)
{
	return (uint8_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

static size_t read_hex(const char *text, uint8_t *data, size_t room)
{
	const size_t size = strlen(text) / 2;

	if (size > room)
		give_up("too many bytes");
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
	return size;
}

static void read_mac(struct pkt *pkt, const char *text)
{
	if (absent(text))
		return;
	read_hex(text, pkt->src_mac, sizeof(pkt->src_mac));
	pkt->have |= PKT_HAVE_MAC;
}

static void read_owner(struct pkt *pkt, const char *uid, const char *gid)
{
	if (!absent(uid)) {
		pkt->uid = (uint32_t)strtoul(uid, NULL, 10);
		pkt->have |= PKT_HAVE_UID;
	}
	if (!absent(gid)) {
		pkt->gid = (uint32_t)strtoul(gid, NULL, 10);
		pkt->have |= PKT_HAVE_GID;
	}
}

static uint8_t ct_bit(const char *name)
{
	static const struct {
		const char *name;
		uint8_t bit;
	} states[] = {
		{"new", PKT_CT_NEW},
		{"established", PKT_CT_ESTABLISHED},
		{"related", PKT_CT_RELATED},
		{"invalid", PKT_CT_INVALID},
		{"reply", PKT_CT_REPLY},
		{"untracked", PKT_CT_UNTRACKED},
		{"-", 0},
	};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if (strcmp(states[i].name, name) == 0)
			return states[i].bit;
	}
	give_up("no such state of a flow");
}

static void read_ct(struct pkt *pkt, char *names)
{
	const char *name;

	while ((name = strsep(&names, ",")))
		pkt->ct |= ct_bit(name);
}

static void read_question(const struct engine *engine, char *words, struct question *ret)
{
	const struct policy_info *info = policy_info(engine->in_force.policy);
	struct pkt *pkt = &ret->pkt;
	const char *uid, *iif, *oif;

	*ret = (struct question){.time_ns = strtoull(word(&words), NULL, 10)};
	pkt->hook = read_hook(word(&words));
	pkt->direction = direction_of(pkt->hook);
	iif = word(&words);
	pkt->iif_bits = read_link(info, iif);
	oif = word(&words);
	pkt->oif_bits = read_link(info, oif);
	ret->to_loopback = strcmp(oif, "lo") == 0;
	ret->from_loopback = strcmp(iif, "lo") == 0;
	read_mac(pkt, word(&words));
	pkt->mark = (uint32_t)strtoul(word(&words), NULL, 10);
	uid = word(&words);
	read_owner(pkt, uid, word(&words));
	read_ct(pkt, word(&words));
	pkt->length = (uint32_t)strtoul(word(&words), NULL, 10);
	ret->captured = read_hex(word(&words), ret->data, sizeof(ret->data));
	if (ret->captured > info->copy_length)
		ret->captured = info->copy_length;
}

/* ---- the decision ---- */

static const char *const verdict_names[POLICY_VERDICT_MAX] = {
	[POLICY_VERDICT_ACCEPT] = "accept",
	[POLICY_VERDICT_DROP] = "drop",
	[POLICY_VERDICT_REJECT] = "reject",
	[POLICY_VERDICT_QUEUE] = "queue",
};

/* What goes with a verdict to queue. */
static void print_queue(const struct policy *policy, const struct policy_decision *decision)
{
	const struct policy_rule_info *rule = &policy_info(policy)->rules[decision->rule];

	printf(" queue=%u open=%d bypass=%u/%u", decision->queue, rule->queue_open,
	       rule->bypass_value, rule->bypass_mask);
}

/* A rule by its index, -1 where none is. */
static void print_decision(const struct policy *policy, const struct policy_decision *decision,
			   bool for_flow)
{
	printf("%s rule=%d would_drop=%d repeated=%d log=", verdict_names[decision->verdict],
	       decision->rule, decision->would_drop, decision->repeated);
	for (uint32_t i = 0; i < decision->log_count && i < POLICY_LOGS_MAX; i++)
		printf("%d,", decision->log_rules[i]);
	printf(" mark=%u ttl=%d dscp=%d flow=%d", decision->mark, decision->set_ttl,
	       decision->set_dscp, for_flow);
	if (decision->verdict == POLICY_VERDICT_QUEUE)
		print_queue(policy, decision);
	printf("\n");
}

static void decide(struct engine *engine, char *words, bool reply)
{
	struct policy_decision decision;
	struct question question;
	struct pkt *pkt = &question.pkt, original;
	bool for_flow = false;

	read_question(engine, words, &question);
	if (pkt_parse(pkt, question.data, question.captured, pkt->length) < 0) {
		printf("malformed\n");
		return;
	}
	if (reply) {
		pkt_reverse(&original, pkt);
		pkt = &original;
	}
	engine->in_force.state.now_ns = question.time_ns;
	policy_decide(engine->in_force.policy, &engine->in_force.state, pkt, &decision);
	if (!reply && (pkt->have & (PKT_HAVE_PORTS | PKT_HAVE_FRAGMENT)) == PKT_HAVE_PORTS)
		for_flow = policy_decides_flow(engine->in_force.policy, pkt, &decision);
	print_decision(engine->in_force.policy, &decision, for_flow);
}

/* ---- what becomes of the packet ---- */

static const char *const flow_names[NSGATE_FLOW_MAX] = {
	[NSGATE_FLOW_NEW] = "new",
	[NSGATE_FLOW_ORIGINAL] = "original",
	[NSGATE_FLOW_KNOWN] = "known",
	[NSGATE_FLOW_UNSURE] = "unsure",
	[NSGATE_FLOW_REPLY] = "reply",
	[NSGATE_FLOW_REPLY_KNOWN] = "reply_known",
	[NSGATE_FLOW_REPLY_STALE] = "reply_stale",
	[NSGATE_FLOW_REPLY_UNSURE] = "reply_unsure",
	[NSGATE_FLOW_EXPECTED] = "expected",
	[NSGATE_FLOW_ERROR] = "error",
	[NSGATE_FLOW_ERROR_KNOWN] = "error_known",
	[NSGATE_FLOW_INVALID] = "invalid",
	[NSGATE_FLOW_UNTRACKED] = "untracked",
};

static const char *const judge_verdict_names[JUDGE_VERDICT_MAX] = {
	[JUDGE_VERDICT_ACCEPT] = "accept", [JUDGE_VERDICT_DROP] = "drop",
	[JUDGE_VERDICT_DENY] = "deny",	   [JUDGE_VERDICT_REJECT] = "reject",
	[JUDGE_VERDICT_QUEUE] = "queue",
};

static const char *const reason_names[JUDGE_REASON_MAX] = {
	[JUDGE_REASON_POLICY] = "policy",	[JUDGE_REASON_REPLY] = "reply",
	[JUDGE_REASON_NO_POLICY] = "no-policy", [JUDGE_REASON_LOOPBACK] = "loopback",
	[JUDGE_REASON_MALFORMED] = "malformed",
};

static enum nsgate_flow read_flow(const char *name)
{
	for (int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		if (strcmp(flow_names[flow], name) == 0)
			return (enum nsgate_flow)flow;
	}
	give_up("no such flow");
}

static void print_result(const struct policy *policy, const struct judge_result *result)
{
	if (result->reason == JUDGE_REASON_MALFORMED && result->verdict == JUDGE_VERDICT_DROP) {
		printf("malformed\n");
		return;
	}
	printf("%s by=%s remember=%d", judge_verdict_names[result->verdict],
	       reason_names[result->reason], result->remember);
	if (result->verdict == JUDGE_VERDICT_ACCEPT || result->verdict == JUDGE_VERDICT_QUEUE)
		printf(" mark=%u", result->mark);
	if (result->reason == JUDGE_REASON_POLICY) {
		printf(" decision=");
		print_decision(policy, &result->decision, false);
	} else {
		printf("\n");
	}
}

static void judge(struct engine *engine, char *words)
{
	const enum nsgate_flow flow = read_flow(word(&words));
	const char *notes = word(&words);
	struct question question;
	struct judge_packet packet;
	struct judge_result result;

	read_question(engine, words, &question);
	engine->in_force.state.now_ns = question.time_ns;
	engine->in_force.selective = strchr(notes, 's');
	engine->in_force.notes_denied = strchr(notes, 'd');
	packet = (struct judge_packet){
		.flow = flow,
		.to_loopback = question.to_loopback,
		.from_loopback = question.from_loopback,
		.data = question.data,
		.caplen = (uint32_t)question.captured,
		.pkt = question.pkt,
	};
	judge_packet(&engine->in_force, &packet, &result);
	print_result(engine->in_force.policy, &result);
}

static void print_counts(const struct engine *engine)
{
	for (size_t i = 0; i < policy_info(engine->in_force.policy)->rule_count; i++) {
		const struct shm_count *count = &engine->counters[i].count;

		if (count->packets)
			printf("%zu:%" PRIu64 ":%" PRIu64 " ", i, count->packets, count->bytes);
	}
	printf("\n");
}

int main(void)
{
	static char line[LINE_MAX_BYTES];
	struct engine engine = {.counters = NULL};
	const char *request;
	char *rest;

	while (fgets(line, sizeof(line), stdin)) {
		rest = line;
		request = word(&rest);
		if (strcmp(request, "policy") == 0)
			read_policy(&engine, word(&rest));
		else if (!engine.in_force.policy)
			give_up("a question before any policy");
		else if (strcmp(request, "packet") == 0)
			decide(&engine, rest, false);
		else if (strcmp(request, "reply") == 0)
			decide(&engine, rest, true);
		else if (strcmp(request, "judge") == 0)
			judge(&engine, rest);
		else if (strcmp(request, "counts") == 0)
			print_counts(&engine);
		else
			give_up("no such request");
	}
	forget_policy(&engine);
	return EXIT_SUCCESS;
}
