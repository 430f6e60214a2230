/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: what a queue says of a packet (see describe()), how much of it was copied and how long it
 * says to be on the wire, then the packet.
 *
 * Must hold: no byte after `caplen` is read or matters; a packet that parses from a shorter copy
 * parses to the same from a longer one; what is parsed is sane; the decision of a policy that
 * uses every match is sane, and the same however often it is asked for, for the packet and for
 * what pkt_reverse() makes of it.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sanitizer/asan_interface.h>

#include "agent/queue/mangle.h"
#include "fuzz.h"
#include "nsgate/hook.h"
#include "nsgate/shm.h"
#include "pkt.h"

#define PACKET_MAX 4096

static struct policy *policy;
static struct policy_state state, fresh;
static struct shm_rule counters[NSGATE_RULES_MAX];
static uint8_t copy[PACKET_MAX] __attribute__((aligned(8)));

static void set_up(void)
{
	policy = fuzz_compile(every_match_json);
	MUST(policy_state_init(&state, policy, counters) == 0);
	MUST(policy_state_init(&fresh, policy, counters) == 0);
	MUST(policy_info(policy)->limit_count > 0);
}

/* Every bit of it comes from the kernel or from links' names: anything may be in it. */
static struct pkt describe(struct input *input)
{
	struct pkt pkt = {0};

	pkt.hook = (uint8_t)(input_take(input, 1) % NSGATE_HOOK_MAX);
	pkt.direction = (uint8_t)(input_take(input, 1) % PKT_DIRECTION_MAX);
	pkt.have = (uint16_t)(input_take(input, 1) & (PKT_HAVE_MAC | PKT_HAVE_UID | PKT_HAVE_GID));
	pkt.ct = (uint8_t)input_take(input, 1);
	pkt.mark = input_take(input, 4);
	pkt.uid = input_take(input, 2);
	pkt.gid = input_take(input, 2);
	pkt.iif_bits = input_take(input, 1);
	pkt.oif_bits = input_take(input, 1);
	for (int i = 0; i < 6; i++)
		pkt.src_mac[i] = (uint8_t)input_take(input, 1);
	return pkt;
}

static bool same_packet(const struct pkt *a, const struct pkt *b)
{
	return a->mark == b->mark && a->uid == b->uid && a->gid == b->gid &&
	       a->length == b->length && a->iif_bits == b->iif_bits && a->oif_bits == b->oif_bits &&
	       memcmp(a->src_mac, b->src_mac, 6) == 0 && a->hook == b->hook &&
	       a->direction == b->direction && a->ct == b->ct && a->family == b->family &&
	       a->protocol == b->protocol && a->ttl == b->ttl && a->dscp == b->dscp &&
	       a->icmp_type == b->icmp_type && a->icmp_code == b->icmp_code &&
	       a->tcp_flags == b->tcp_flags && a->have == b->have && a->sport == b->sport &&
	       a->dport == b->dport && a->l4_offset == b->l4_offset &&
	       memcmp(&a->src, &b->src, sizeof(a->src)) == 0 &&
	       memcmp(&a->dst, &b->dst, sizeof(a->dst)) == 0 && a->unknown == b->unknown;
}

static size_t logged(const struct policy_decision *decision)
{
	return decision->log_count < POLICY_LOGS_MAX ? decision->log_count : POLICY_LOGS_MAX;
}

static bool same_decision(const struct policy_decision *a, const struct policy_decision *b)
{
	return a->verdict == b->verdict && a->rule == b->rule && a->queue == b->queue &&
	       a->would_drop == b->would_drop && a->repeated == b->repeated &&
	       a->log_count == b->log_count &&
	       memcmp(a->log_rules, b->log_rules, logged(a) * sizeof(a->log_rules[0])) == 0 &&
	       a->mark == b->mark && a->set_ttl == b->set_ttl && a->set_dscp == b->set_dscp;
}

/* Parse from a copy in which the bytes after `caplen` are `rest` or may not be touched at all. */
static int parse(struct pkt *pkt, const uint8_t *data, size_t size, size_t caplen, size_t length,
		 uint8_t rest)
{
	int err;

	memset(copy, rest, sizeof(copy));
	memcpy(copy, data, caplen < size ? caplen : size);
	if (!rest)
		ASAN_POISON_MEMORY_REGION(copy + caplen, sizeof(copy) - caplen);
	pkt->length = (uint32_t)length;
	err = pkt_parse(pkt, copy, caplen, length);
	ASAN_UNPOISON_MEMORY_REGION(copy, sizeof(copy));
	MUST(err == 0 || err == -EBADMSG);
	return err;
}

static void check_parsed(const struct pkt *pkt, size_t caplen, size_t length)
{
	const size_t header = pkt->family == AF_INET ? 20 : 40;

	MUST(pkt->family == AF_INET || pkt->family == AF_INET6);
	MUST(caplen >= header && pkt->l4_offset >= header && pkt->l4_offset <= length);
	MUST(pkt->dscp < 64 && pkt->unknown == 0);
	if (pkt->have & PKT_HAVE_LATER_FRAGMENT) {
		MUST(pkt->have & PKT_HAVE_FRAGMENT);
		MUST(!(pkt->have & (PKT_HAVE_PORTS | PKT_HAVE_ICMP | PKT_HAVE_TCP_FLAGS)));
	}
	MUST(!(pkt->have & PKT_HAVE_TCP_FLAGS) || pkt->have & PKT_HAVE_PORTS);
	MUST(!(pkt->have & PKT_HAVE_PORTS) || (pkt->l4_offset + 8 <= caplen));
	if (!(pkt->have & PKT_HAVE_PORTS))
		MUST(pkt->sport == 0 && pkt->dport == 0);
	if (pkt->family == AF_INET)
		for (int i = 4; i < 16; i++)
			MUST(pkt->src.bytes[i] == 0 && pkt->dst.bytes[i] == 0);
}

/* The token buckets are full again each time. */
static struct policy_decision decide(const struct pkt *pkt)
{
	const struct policy_info *info = policy_info(policy);
	struct policy_decision decision;

	memcpy(state.buckets, fresh.buckets, info->limit_count * sizeof(*state.buckets));
	memset(&decision, 0xa5, sizeof(decision));
	policy_decide(policy, &state, pkt, &decision);
	MUST(decision.verdict < POLICY_VERDICT_MAX);
	MUST(decision.rule == POLICY_RULE_DEFAULT || (size_t)decision.rule < info->rule_count);
	for (size_t i = 0; i < logged(&decision); i++)
		MUST(decision.log_rules[i] == POLICY_RULE_DEFAULT ||
		     (size_t)decision.log_rules[i] < info->rule_count);
	MUST(!decision.would_drop || decision.log_count > 0);
	MUST(decision.set_ttl >= -1 && decision.set_ttl <= 255);
	MUST(decision.set_dscp >= -1 && decision.set_dscp <= 63);
	MUST(!decision.would_drop || decision.verdict == POLICY_VERDICT_ACCEPT);
	MUST(decision.verdict != POLICY_VERDICT_QUEUE || decision.queue == 7);
	return decision;
}

static void check_decisions(const struct pkt *pkt, const struct pkt *twin)
{
	const struct policy_decision one = decide(pkt), other = decide(twin);
	struct policy_decision reverse_one, reverse_other;
	struct pkt original, twin_original, again;

	MUST(same_decision(&one, &other));
	pkt_reverse(&original, pkt);
	pkt_reverse(&twin_original, twin);
	reverse_one = decide(&original);
	reverse_other = decide(&twin_original);
	MUST(same_decision(&reverse_one, &reverse_other));
	MUST(original.sport == pkt->dport && original.dport == pkt->sport);
	MUST(!original.ct);
	pkt_reverse(&again, &original);
	MUST(memcmp(&again.src, &pkt->src, sizeof(again.src)) == 0 && again.hook == pkt->hook &&
	     again.direction == pkt->direction && again.iif_bits == pkt->iif_bits);
}

/* Only whole packets are rewritten; the rewriting must leave what it was not asked to change. */
static void check_rewriting(const struct pkt *pkt, const uint8_t *data, size_t size, uint8_t how)
{
	const struct mangle mangle = {
		.ttl = how & 1 ? 77 : -1, .dscp = how & 2 ? 46 : -1, .fill_checksum = how & 4};
	struct pkt after = *pkt;
	uint8_t *packet =
		malloc(size ? size : 1); /* of the exact size: nothing may be touched after it */

	MUST(packet);
	memcpy(packet, data, size);
	if (mangle_packet(packet, size, pkt, &mangle) == 0) {
		MUST(pkt_parse(&after, packet, size, pkt->length) == 0);
		MUST(after.ttl == (how & 1 ? 77 : pkt->ttl));
		MUST(after.dscp == (how & 2 ? 46 : pkt->dscp));
		after.ttl = pkt->ttl;
		after.dscp = pkt->dscp;
		MUST(same_packet(&after, pkt));
	}
	free(packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	const uint8_t how = (uint8_t)input_take(&input, 1);
	const size_t cut = input_take(&input, 1);
	const uint32_t claimed = input_take(&input, 3);
	const struct pkt described = describe(&input);
	struct pkt pkt = described, twin = described, longer = described;
	size_t caplen, length;

	if (!policy)
		set_up();
	if (input.left > PACKET_MAX)
		return 0;
	caplen = how & 0x10 && cut <= input.left ? input.left - cut : input.left;
	length = how & 0x20 ? claimed : input.left;

	if (parse(&pkt, input.at, input.left, caplen, length, 0) < 0) {
		MUST(parse(&twin, input.at, input.left, caplen, length, 0xff) < 0);
		return 0;
	}
	check_parsed(&pkt, caplen, length);
	MUST(parse(&twin, input.at, input.left, caplen, length, 0xff) == 0);
	MUST(same_packet(&pkt, &twin));
	MUST(parse(&longer, input.at, input.left, input.left, length, 0) == 0);
	MUST(same_packet(&pkt, &longer));
	check_decisions(&pkt, &twin);
	if (caplen == length)
		check_rewriting(&pkt, input.at, caplen, how);
	return 0;
}
