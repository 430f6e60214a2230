/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a message of the queue to the verdict: which number means what, and what is answered. */
#include "agent/queue/internal.h"
#include "nsgate/flow.h"
#include "policy_fixture.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <netinet/tcp.h>

#define DROPPING "{'version':1,'hooks':['in'],'default':'drop'}"
#define ACCEPTING "{'version':1,'hooks':['in'],'default':'accept'}"
#define REJECTING "{'version':1,'hooks':['in'],'default':'reject'}"

#define REJECT_MARK 0xa1U
#define DENY_MARK 0xa2U
#define REMEMBER_MARK 0xa3U

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
				     .proc_fd = -1,
				     .in_force = {.policy = scene.fixture.policy,
						  .state = scene.fixture.state,
						  .notes_denied = true},
				     .answers = {[NSGATE_ANSWER_REJECT] = REJECT_MARK,
						 [NSGATE_ANSWER_DENY] = DENY_MARK,
						 [NSGATE_ANSWER_REMEMBER] = REMEMBER_MARK}};
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
	if (protocol == IPPROTO_TCP) {
		scene->data[32] = 0x50; /* TCP's header length */
		scene->data[33] = 0x02; /* SYN */
	}
	scene->packet = (struct nfq_packet){
		.hook = NSGATE_HOOK_IN, .data = scene->data, .caplen = 60, .length = 60};
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

static struct queue_verdict judge(struct scene *scene, enum nsgate_flow flow)
{
	struct queue_verdict verdict;

	memset(&scene->buffers->counters, 0, sizeof(scene->buffers->counters));
	queue_judge(&scene->queue, scene->buffers, flow, &scene->packet, &verdict);
	return verdict;
}

static uint64_t fate(const struct scene *scene, enum shm_fate fate)
{
	return scene->buffers->counters.fate[fate].packets;
}

/* What of a packet's fate is counted: it, and nothing else. */
static void assert_fate(const struct scene *scene, enum shm_fate wanted)
{
	for (int i = 0; i < SHM_FATE_MAX; i++)
		assert_int_equal(fate(scene, (enum shm_fate)i), i == (int)wanted);
}

static uint64_t replies(const struct scene *scene)
{
	return scene->buffers->counters.replies.packets;
}

/* Accepted as it is, and no mark sent: the kernel would look up its route anew. */
static void assert_untouched(const struct scene *scene, const struct queue_verdict *verdict)
{
	assert_int_equal(verdict->verdict, NF_ACCEPT);
	assert_false(verdict->set_mark);
	assert_int_equal(verdict->mark, 0);
	assert_null(verdict->payload);
	assert_fate(scene, SHM_FATE_ACCEPTED);
}

static bool passes(struct scene *scene, enum nsgate_flow flow)
{
	const struct queue_verdict verdict = judge(scene, flow);

	if (verdict.verdict == NF_ACCEPT) {
		assert_untouched(scene, &verdict);
		return true;
	}
	assert_int_equal(fate(scene, SHM_FATE_ACCEPTED), 0);
	return false;
}

/* Judge it: dropped one way or the other, and counted so. Return: is its flow to be noted? */
static bool noted_as(struct scene *scene, enum nsgate_flow flow)
{
	const struct queue_verdict verdict = judge(scene, flow);

	assert_fate(scene, SHM_FATE_DROPPED);
	if (verdict.verdict == NF_DROP) {
		assert_false(verdict.set_mark);
		return false;
	}
	assert_int_equal(verdict.verdict, NF_REPEAT);
	assert_true(verdict.set_mark);
	assert_int_equal(verdict.mark, DENY_MARK);
	return true;
}

static bool noted(struct scene *scene)
{
	return noted_as(scene, NSGATE_FLOW_NEW);
}

/* ---- denials ---- */

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

static void only_of_packets_that_are_of_the_original_direction(void **test)
{
	static const enum nsgate_flow flows[] = {NSGATE_FLOW_NEW, NSGATE_FLOW_ORIGINAL,
						 NSGATE_FLOW_EXPECTED};
	static const enum nsgate_flow others[] = {NSGATE_FLOW_KNOWN,   NSGATE_FLOW_UNSURE,
						  NSGATE_FLOW_REPLY,   NSGATE_FLOW_ERROR,
						  NSGATE_FLOW_INVALID, NSGATE_FLOW_UNTRACKED};
	struct scene scene = scene_open("{'version':1,'hooks':['in','out'],'default':'drop'}");

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++)
		assert_true(noted_as(&scene, flows[i]));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_false(noted_as(&scene, others[i]));
	/* Here nobody accepts what these would answer. */
	assert_false(noted_as(&scene, NSGATE_FLOW_REPLY_STALE));
	assert_false(noted_as(&scene, NSGATE_FLOW_REPLY_UNSURE));
	scene_close(&scene);
}

static void not_what_went_round(void **test)
{
	struct scene scene = scene_open(DROPPING);

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	scene.packet.mark = DENY_MARK;
	assert_false(noted(&scene));
	scene.packet.mark = 5; /* the namespace's own */
	assert_true(noted(&scene));
	scene_close(&scene);
}

static void not_before_the_rules_know(void **test)
{
	struct scene scene = scene_open(DROPPING);

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	scene.queue.in_force.notes_denied = false;
	assert_false(noted(&scene));
	scene.queue.in_force.notes_denied = true;
	scene.queue.in_force.policy = NULL; /* missing */
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

/* ---- rejections ---- */

static void rejected_packets_go_round_once(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['in','out'],'default':'reject'}");

	(void)test;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		struct queue_verdict verdict;

		if (flow == NSGATE_FLOW_REPLY_KNOWN || flow == NSGATE_FLOW_ERROR_KNOWN)
			continue;
		ipv4(&scene, IPPROTO_UDP);
		verdict = judge(&scene, (enum nsgate_flow)flow);
		/* What fits no flow may be of one that is alive: that is not to be torn down. */
		if (flow == NSGATE_FLOW_INVALID) {
			assert_int_equal(verdict.verdict, NF_DROP);
			assert_false(verdict.set_mark);
			assert_fate(&scene, SHM_FATE_DROPPED);
			continue;
		}
		assert_int_equal(verdict.verdict, NF_REPEAT);
		assert_true(verdict.set_mark);
		assert_int_equal(verdict.mark, REJECT_MARK);
		assert_fate(&scene, SHM_FATE_REJECTED);

		scene.packet.mark = REJECT_MARK; /* no rule was there that knows it */
		verdict = judge(&scene, (enum nsgate_flow)flow);
		assert_int_equal(verdict.verdict, NF_DROP);
		assert_false(verdict.set_mark);
		assert_fate(&scene, SHM_FATE_REJECTED);
	}
	scene_close(&scene);
}

static void another_answer_s_mark_is_no_hindrance(void **test)
{
	struct scene scene = scene_open(REJECTING);
	struct queue_verdict verdict;

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	scene.packet.mark = DENY_MARK;
	verdict = judge(&scene, NSGATE_FLOW_NEW);
	assert_int_equal(verdict.verdict, NF_REPEAT);
	assert_int_equal(verdict.mark, REJECT_MARK);
	scene_close(&scene);
}

/* ---- both ends ---- */

enum { FLAGS_AT = 33, HEADERS = 40, HOUR_S = 3600 };

/* A segment of 20 bytes from that port to port 100. */
static void segment_from(struct scene *scene, uint16_t port, uint8_t flags)
{
	ipv4(scene, IPPROTO_TCP);
	scene->data[20] = (uint8_t)(port >> 8);
	scene->data[21] = (uint8_t)port;
	scene->data[FLAGS_AT] = flags;
	scene->packet.has_uid = true;
}

static bool becomes_a_reset(struct scene *scene, enum nsgate_flow flow, uint32_t how)
{
	const struct queue_verdict verdict = judge(scene, flow);

	assert_fate(scene, SHM_FATE_REJECTED);
	if (!verdict.payload)
		return false;
	assert_int_equal(verdict.verdict, how);
	assert_false(verdict.set_mark);
	assert_int_equal(verdict.payload_length, HEADERS);
	assert_int_equal(verdict.payload[FLAGS_AT], TH_RST);
	return true;
}

static void a_rejected_segment_ends_it_at_both_ends(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['in','out'],'default':'reject'}");
	uint64_t *now_ns = &scene.queue.in_force.state.now_ns;

	(void)test;
	*now_ns = 1;
	segment_from(&scene, 2560, TH_ACK);
	assert_true(becomes_a_reset(&scene, NSGATE_FLOW_NEW, NF_STOP));
	/* What is sent again is rejected at its sender. */
	assert_false(becomes_a_reset(&scene, NSGATE_FLOW_NEW, NF_STOP));
	assert_int_equal(judge(&scene, NSGATE_FLOW_NEW).mark, REJECT_MARK);
	*now_ns += HOUR_S * UINT64_C(1000000000) - 1;
	assert_false(becomes_a_reset(&scene, NSGATE_FLOW_NEW, NF_STOP));
	*now_ns += 1;
	assert_true(becomes_a_reset(&scene, NSGATE_FLOW_NEW, NF_STOP));
	/* The other way is another flow, and notes nothing. */
	segment_from(&scene, 2561, TH_FIN | TH_ACK);
	assert_true(becomes_a_reset(&scene, NSGATE_FLOW_REPLY_STALE, NF_ACCEPT));
	scene_close(&scene);
}

static void nobody_is_told_twice_or_in_vain(void **test)
{
	struct scene scene = scene_open(REJECTING);
	struct queue_verdict verdict;

	(void)test;
	scene.queue.in_force.state.now_ns = 1;
	segment_from(&scene, 2560, TH_ACK);
	scene.packet.length = scene.packet.caplen = scene.data[3] = HEADERS;
	assert_false(becomes_a_reset(&scene, NSGATE_FLOW_KNOWN, NF_STOP));
	segment_from(&scene, 2560, TH_SYN);
	assert_false(becomes_a_reset(&scene, NSGATE_FLOW_KNOWN, NF_STOP));
	segment_from(&scene, 2560, TH_ACK);
	assert_false(becomes_a_reset(&scene, NSGATE_FLOW_REPLY, NF_STOP));
	scene.packet.mark = REJECT_MARK; /* no rule was there that knows it */
	verdict = judge(&scene, NSGATE_FLOW_KNOWN);
	assert_int_equal(verdict.verdict, NF_DROP);
	assert_null(verdict.payload);
	scene.packet.mark = 5; /* the namespace's own stays */
	assert_true(becomes_a_reset(&scene, NSGATE_FLOW_KNOWN, NF_STOP));
	scene_close(&scene);
}

static void what_the_kernel_has_yet_to_cut_is_waited_for(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['in','forward'],"
					"'default':'reject'}");
	struct queue_verdict verdict;

	(void)test;
	scene.queue.in_force.state.now_ns = 1;
	segment_from(&scene, 2560, TH_ACK);
	scene.packet.skbinfo = NFQA_SKB_GSO;
	assert_true(becomes_a_reset(&scene, NSGATE_FLOW_KNOWN, NF_STOP)); /* it is not sent on */
	scene.packet.hook = NSGATE_HOOK_FORWARD;
	verdict = judge(&scene, NSGATE_FLOW_KNOWN);
	assert_int_equal(verdict.verdict, NF_DROP);
	assert_fate(&scene, SHM_FATE_REJECTED);
	scene.packet.skbinfo = 0;
	assert_true(becomes_a_reset(&scene, NSGATE_FLOW_KNOWN, NF_STOP));
	scene_close(&scene);
}

/* Beyond what there is room for the end that speaks is told. */
static void so_many_are_told_an_hour(void **test)
{
	struct scene scene = scene_open(REJECTING);
	unsigned int told = 0, room = QUEUE_ENDED_SETS * QUEUE_ENDED_WAYS;

	(void)test;
	scene.queue.in_force.state.now_ns = 1;
	for (uint32_t port = 1; port <= UINT16_MAX; port++) {
		segment_from(&scene, (uint16_t)port, TH_ACK);
		told += becomes_a_reset(&scene, NSGATE_FLOW_KNOWN, NF_STOP);
	}
	assert_true(told > room / 2 && told <= room);
	scene_close(&scene);
}

/* ---- what the number says ---- */

/* Rule of the policy below by what conntrack is said to know. */
enum { CT_REPLY, CT_NEW, CT_ESTABLISHED, CT_RELATED, CT_INVALID, CT_UNTRACKED, CT_RULES };
#define BY_CT                                                                                      \
	"{'version':1,'hooks':['in','out'],'default':{'in':'accept','out':'drop'},'rules':["       \
	"{'name':'r','action':'accept','direction':'in','ct':'reply'},"                            \
	"{'name':'n','action':'accept','direction':'in','ct':'new'},"                              \
	"{'name':'e','action':'accept','direction':'in','ct':'established'},"                      \
	"{'name':'l','action':'accept','direction':'in','ct':'related'},"                          \
	"{'name':'i','action':'accept','direction':'in','ct':'invalid'},"                          \
	"{'name':'u','action':'accept','direction':'in','ct':'untracked'}]}"

static void the_number_is_what_rules_see_of_the_flow(void **test)
{
	static const int rules[NSGATE_FLOW_MAX] = {
		[NSGATE_FLOW_NEW] = CT_NEW,
		[NSGATE_FLOW_ORIGINAL] = CT_ESTABLISHED,
		[NSGATE_FLOW_KNOWN] = CT_ESTABLISHED, /* without offload each packet is judged */
		[NSGATE_FLOW_UNSURE] = CT_ESTABLISHED,
		[NSGATE_FLOW_REPLY] = CT_REPLY,
		[NSGATE_FLOW_REPLY_KNOWN] = -1, /* no rule is asked */
		[NSGATE_FLOW_REPLY_STALE] = CT_REPLY,
		[NSGATE_FLOW_REPLY_UNSURE] = CT_REPLY,
		[NSGATE_FLOW_EXPECTED] = CT_RELATED,
		[NSGATE_FLOW_ERROR] = CT_RELATED,
		[NSGATE_FLOW_ERROR_KNOWN] = -1,
		[NSGATE_FLOW_INVALID] = CT_INVALID,
		[NSGATE_FLOW_UNTRACKED] = CT_UNTRACKED,
	};
	struct scene scene = scene_open(BY_CT);

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		uint64_t before[CT_RULES];

		for (int i = 0; i < CT_RULES; i++)
			before[i] = counters[i].count.packets;
		assert_true(passes(&scene, (enum nsgate_flow)flow));
		for (int i = 0; i < CT_RULES; i++)
			assert_int_equal(counters[i].count.packets - before[i], rules[flow] == i);
		assert_int_equal(replies(&scene), rules[flow] < 0);
		assert_int_equal(scene.buffers->counters.fallback.packets, 0);
	}
	scene_close(&scene);
}

static void a_reply_is_established_too(void **test)
{
	static const enum nsgate_flow flows[] = {NSGATE_FLOW_REPLY, NSGATE_FLOW_REPLY_STALE,
						 NSGATE_FLOW_REPLY_UNSURE};
	struct scene scene = scene_open("{'version':1,'hooks':['in','out'],'rules':["
					"{'name':'e','action':'accept','direction':'in',"
					"'ct':'established'}]}");

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
		assert_true(passes(&scene, flows[i]));
		assert_int_equal(counters[0].count.packets, i + 1);
	}
	assert_false(passes(&scene, NSGATE_FLOW_NEW));
	scene_close(&scene);
}

static void what_belongs_to_known_flows_passes_whatever_the_policy(void **test)
{
	static const char *const policies[] = {DROPPING, REJECTING};
	static const enum nsgate_flow known[] = {NSGATE_FLOW_REPLY_KNOWN, NSGATE_FLOW_ERROR_KNOWN};

	(void)test;
	for (size_t p = 0; p < 2; p++) {
		struct scene scene = scene_open(policies[p]);

		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
			ipv4(&scene, IPPROTO_TCP);
			scene.packet.mark = 5;
			scene.queue.in_force.selective = i & 1;
			assert_true(passes(&scene, known[i]));
			assert_int_equal(replies(&scene), 1);
		}
		scene_close(&scene);
	}
}

/* Where each packet is judged, an accepted flow's may be denied all the same: by a limit, say. */
static void packets_of_known_flows_are_judged_one_by_one(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['in'],'rules':[{'name':'l','action':"
					"'accept','limit':{'rate':'1/s','burst':2}}]}");

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	assert_true(passes(&scene, NSGATE_FLOW_KNOWN));
	assert_true(passes(&scene, NSGATE_FLOW_KNOWN));
	assert_false(passes(&scene, NSGATE_FLOW_KNOWN));
	assert_fate(&scene, SHM_FATE_DROPPED);
	scene_close(&scene);
}

/* ---- replies ---- */

static bool passes_as_answer(struct scene *scene, enum nsgate_flow flow)
{
	const bool passed = passes(scene, flow);

	return passed && replies(scene) == 1;
}

/* To this end's port 100, from 2560: whoever that answers sent from 100 to 2560. */
#define OUT_TO(port, action)                                                                       \
	"{'version':1,'hooks':['in','out'],'rules':[{'name':'o','action':" action                  \
	",'direction':'out','dport':" #port "}]}"

static void replies_pass_if_what_they_answer_would_now(void **test)
{
	struct scene scene = scene_open(OUT_TO(2560, "'accept'"));

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	assert_true(passes_as_answer(&scene, NSGATE_FLOW_REPLY_STALE));
	assert_true(passes_as_answer(&scene, NSGATE_FLOW_REPLY_UNSURE));
	/* Not where the flow came another way: whoever sent that first was never asked here. */
	assert_false(passes(&scene, NSGATE_FLOW_REPLY));
	assert_int_equal(replies(&scene), 0);
	/* The question is none that counts. */
	assert_int_equal(counters[0].count.packets, 0);
	scene_close(&scene);

	scene = scene_open(OUT_TO(2561, "'accept'"));
	ipv4(&scene, IPPROTO_UDP);
	assert_false(passes(&scene, NSGATE_FLOW_REPLY_STALE));
	assert_false(passes(&scene, NSGATE_FLOW_REPLY_UNSURE));
	scene_close(&scene);
}

static void what_is_not_policed_was_accepted(void **test)
{
	struct scene scene = scene_open(DROPPING);

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	assert_true(passes_as_answer(&scene, NSGATE_FLOW_REPLY_STALE));
	assert_true(passes_as_answer(&scene, NSGATE_FLOW_REPLY_UNSURE));
	assert_false(passes(&scene, NSGATE_FLOW_REPLY));
	scene_close(&scene);
}

static void what_another_program_gets_counts_as_accepted(void **test)
{
	struct scene scene = scene_open(OUT_TO(2560, "'queue','queue':500"));

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	assert_true(passes_as_answer(&scene, NSGATE_FLOW_REPLY_STALE));
	scene_close(&scene);
}

/* What is accepted for the audit's sake alone is no licence: the reply is audited, too. */
static void an_audit_s_acceptance_is_none(void **test)
{
	struct scene scene = scene_open("{'version':1,'mode':'audit','hooks':['in','out']}");

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	assert_true(passes(&scene, NSGATE_FLOW_REPLY_STALE));
	assert_int_equal(replies(&scene), 0);
	assert_int_equal(scene.buffers->counters.would_drop, 1);
	scene_close(&scene);
}

static void a_reply_that_answers_nothing_is_judged_as_it_goes(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['in','out'],'rules':["
					"{'name':'i','action':'accept','direction':'in',"
					"'dport':100}]}");

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	assert_true(passes(&scene, NSGATE_FLOW_REPLY_STALE));
	assert_int_equal(replies(&scene), 0);
	assert_int_equal(counters[0].count.packets, 1);
	scene_close(&scene);
}

/* ---- where the direction is not known ---- */

static const enum nsgate_flow unsure_flows[] = {NSGATE_FLOW_UNSURE, NSGATE_FLOW_UNTRACKED};
#define UNSURE_FLOWS (sizeof(unsure_flows) / sizeof(unsure_flows[0]))

static void unsure_packets_may_go_either_way(void **test)
{
	struct scene scene = scene_open(OUT_TO(2560, "'accept'"));

	(void)test;
	for (size_t i = 0; i < UNSURE_FLOWS; i++) {
		ipv4(&scene, IPPROTO_UDP);
		assert_true(passes_as_answer(&scene, unsure_flows[i]));
		scene.data[21] = 1; /* from another port */
		assert_false(passes(&scene, unsure_flows[i]));
	}
	/* Of these the direction is known. */
	ipv4(&scene, IPPROTO_UDP);
	assert_false(passes(&scene, NSGATE_FLOW_NEW));
	assert_false(passes(&scene, NSGATE_FLOW_ORIGINAL));
	assert_false(passes(&scene, NSGATE_FLOW_EXPECTED));
	assert_false(passes(&scene, NSGATE_FLOW_ERROR));
	scene_close(&scene);

	scene = scene_open("{'version':1,'hooks':['in','out'],'rules':["
			   "{'name':'i','action':'accept','direction':'in','dport':100}]}");
	for (size_t i = 0; i < UNSURE_FLOWS; i++) {
		ipv4(&scene, IPPROTO_UDP);
		assert_true(passes(&scene, unsure_flows[i]));
		assert_int_equal(replies(&scene), 0);
	}
	scene_close(&scene);
}

/* Forbidden the one way, allowed the other: no answer that would end it. */
static void they_are_rejected_only_if_neither_way_is_allowed(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['in','out'],'default':{"
					"'in':'reject','out':'reject'},'rules':["
					"{'name':'o','action':'accept','direction':'out',"
					"'dport':2560}]}");

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	assert_true(passes_as_answer(&scene, NSGATE_FLOW_UNSURE));
	assert_int_equal(judge(&scene, NSGATE_FLOW_NEW).verdict, NF_REPEAT);
	scene.data[21] = 1;
	assert_int_equal(judge(&scene, NSGATE_FLOW_UNSURE).verdict, NF_REPEAT);
	assert_fate(&scene, SHM_FATE_REJECTED);
	scene_close(&scene);
}

/* TCP in the middle, of which conntrack has not seen the beginning, is new to it. */
static void tcp_without_syn_may_be_of_an_old_connection(void **test)
{
	struct scene scene = scene_open(OUT_TO(2560, "'accept'"));

	(void)test;
	ipv4(&scene, IPPROTO_TCP);
	scene.data[33] = 0x10; /* ACK */
	assert_true(passes_as_answer(&scene, NSGATE_FLOW_NEW));
	assert_true(passes_as_answer(&scene, NSGATE_FLOW_INVALID));
	scene.data[33] = 0x12; /* SYN, ACK */
	assert_false(passes(&scene, NSGATE_FLOW_NEW));
	assert_false(passes(&scene, NSGATE_FLOW_INVALID));
	scene.data[33] = 0x02;
	assert_false(passes(&scene, NSGATE_FLOW_NEW));
	scene.data[33] = 0x10;
	assert_false(passes(&scene, NSGATE_FLOW_ORIGINAL));
	assert_false(passes(&scene, NSGATE_FLOW_EXPECTED));
	ipv4(&scene, IPPROTO_UDP);
	assert_false(passes(&scene, NSGATE_FLOW_INVALID));
	scene_close(&scene);
}

/* Prerouting sees what is forwarded: that nobody judges the other direction is no licence. */
static void tcp_without_syn_does_not_pass_through(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['prerouting']}");

	(void)test;
	ipv4(&scene, IPPROTO_TCP);
	scene.data[33] = 0x10; /* ACK */
	scene.packet.hook = NSGATE_HOOK_PREROUTING;
	assert_false(passes(&scene, NSGATE_FLOW_NEW));
	assert_false(passes(&scene, NSGATE_FLOW_UNSURE));
	assert_true(passes(&scene, NSGATE_FLOW_UNTRACKED));
	scene.packet.hook = NSGATE_HOOK_IN;
	assert_true(passes(&scene, NSGATE_FLOW_NEW));
	scene_close(&scene);
}

static void ports(struct scene *scene, uint16_t from, uint16_t to)
{
	const uint8_t bytes[] = {(uint8_t)(from >> 8), (uint8_t)from, (uint8_t)(to >> 8),
				 (uint8_t)to};

	memcpy(scene->data + 20, bytes, sizeof(bytes));
}

/* Nobody is answered from a port that clients have, at one that servers have. */
static void who_answers_has_a_server_s_port(void **test)
{
	struct scene scene = scene_open(
		"{'version':1,'hooks':['in','out'],'default':{'in':'drop','out':'accept'}}");

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	ports(&scene, 32767, 100);
	assert_true(passes(&scene, NSGATE_FLOW_UNSURE));
	ports(&scene, 32768, 100);
	assert_false(passes(&scene, NSGATE_FLOW_UNSURE));
	ports(&scene, 32768, 32767);
	assert_false(passes(&scene, NSGATE_FLOW_UNSURE));
	ports(&scene, 32768, 32768);
	assert_true(passes(&scene, NSGATE_FLOW_UNSURE));
	ports(&scene, 53, 40000);
	assert_true(passes(&scene, NSGATE_FLOW_UNSURE));
	ipv4(&scene, IPPROTO_ESP); /* none at all */
	assert_false(passes(&scene, NSGATE_FLOW_UNTRACKED));
	scene_close(&scene);
}

/* Anybody with a raw socket can make packets that look like answers. */
static void strict_policies_take_what_leaves_as_it_is(void **test)
{
	static const char *const policies[] = {
		"{'version':1,'hooks':['in','out'],'default':{'in':'accept','out':'drop'}}",
		"{'version':1,'strict':true,'hooks':['in','out'],"
		"'default':{'in':'accept','out':'drop'}}",
	};

	(void)test;
	for (size_t p = 0; p < 2; p++) {
		struct scene scene = scene_open(policies[p]);

		for (size_t i = 0; i < UNSURE_FLOWS; i++) {
			ipv4(&scene, IPPROTO_UDP);
			scene.packet.hook = NSGATE_HOOK_OUT;
			assert_int_equal(passes(&scene, unsure_flows[i]), p == 0);
		}
		scene_close(&scene);
	}

	struct scene scene = scene_open("{'version':1,'strict':true,'hooks':['in','out'],"
					"'default':{'in':'drop','out':'accept'}}");

	ipv4(&scene, IPPROTO_UDP);
	assert_true(passes_as_answer(&scene, NSGATE_FLOW_UNSURE)); /* what comes in may */
	scene_close(&scene);
}

/* A reset would end a connection that the policy allows. */
static void strict_policies_reject_no_answer(void **test)
{
	static const char *const policies[] = {
		"{'version':1,'strict':true,'hooks':['in','out'],"
		"'default':{'in':'accept','out':'reject'}}",
		"{'version':1,'strict':true,'hooks':['in','out'],'default':'reject'}",
	};

	(void)test;
	for (size_t p = 0; p < 2; p++) {
		struct scene scene = scene_open(policies[p]);

		for (size_t i = 0; i < UNSURE_FLOWS; i++) {
			struct queue_verdict verdict;

			ipv4(&scene, IPPROTO_UDP);
			scene.packet.hook = NSGATE_HOOK_OUT;
			verdict = judge(&scene, unsure_flows[i]);
			assert_int_equal(verdict.verdict, p == 0 ? NF_DROP : NF_REPEAT);
			assert_fate(&scene, p == 0 ? SHM_FATE_DROPPED : SHM_FATE_REJECTED);
		}
		scene_close(&scene);
	}
}

/* ---- marks ---- */

/* Accept what conntrack knows that of, with a mark. Return: is the flow to be remembered? */
static bool remembered(struct scene *scene, enum nsgate_flow flow, uint32_t mark)
{
	struct queue_verdict verdict;

	scene->packet.mark = mark;
	verdict = judge(scene, flow);
	if (!verdict.set_mark) {
		assert_untouched(scene, &verdict);
		return false;
	}
	assert_int_equal(verdict.verdict, NF_ACCEPT);
	assert_int_equal(verdict.mark, REMEMBER_MARK);
	assert_fate(scene, SHM_FATE_ACCEPTED);
	return true;
}

static void only_selective_policies_say_what_to_remember(void **test)
{
	static const bool originals[NSGATE_FLOW_MAX] = {
		[NSGATE_FLOW_NEW] = true,
		[NSGATE_FLOW_ORIGINAL] = true,
		[NSGATE_FLOW_UNSURE] = true,
		[NSGATE_FLOW_EXPECTED] = true,
	};
	struct scene scene = scene_open(ACCEPTING);

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	for (unsigned int i = 0; i < NSGATE_FLOW_MAX; i++) {
		const enum nsgate_flow flow = (enum nsgate_flow)i;

		scene.queue.in_force.selective = false;
		assert_false(remembered(&scene, flow, 0));
		assert_false(remembered(&scene, flow, 5));
		scene.queue.in_force.selective = true;
		assert_int_equal(remembered(&scene, flow, 0), originals[flow]);
		assert_false(remembered(&scene, flow, 5)); /* it would lose its own */
	}
	scene_close(&scene);
}

static void what_is_accepted_the_other_way_is_remembered_too(void **test)
{
	struct scene scene = scene_open(OUT_TO(2560, "'accept'"));

	(void)test;
	scene.queue.in_force.selective = true;
	ipv4(&scene, IPPROTO_UDP);
	assert_true(remembered(&scene, NSGATE_FLOW_UNSURE, 0));
	assert_int_equal(replies(&scene), 1);
	assert_false(remembered(&scene, NSGATE_FLOW_UNSURE, 5));
	assert_false(remembered(&scene, NSGATE_FLOW_UNTRACKED, 0)); /* no flow to note */
	assert_false(remembered(&scene, NSGATE_FLOW_REPLY_STALE, 0));
	scene_close(&scene);
}

static void a_policy_s_mark_is_sent_where_it_is_another(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['in'],'rules':[{'name':'m','action':"
					"'accept','mark':{'set':'0x10','mask':'0xff'}}]}");

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	for (int selective = 0; selective < 2; selective++) {
		struct queue_verdict verdict;

		scene.queue.in_force.selective = selective;
		scene.packet.mark = 0x20001;
		verdict = judge(&scene, NSGATE_FLOW_NEW);
		assert_int_equal(verdict.verdict, NF_ACCEPT);
		assert_true(verdict.set_mark);
		assert_int_equal(verdict.mark, 0x20010);
		scene.packet.mark = 0x20010;
		verdict = judge(&scene, NSGATE_FLOW_NEW);
		assert_untouched(&scene, &verdict);
	}
	scene_close(&scene);
}

static void a_mark_that_a_policy_takes_off_is_none(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['in'],'rules':[{'name':'m','action':"
					"'accept','mark':{'set':0}}]}");
	struct queue_verdict verdict;

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	scene.packet.mark = 7;
	verdict = judge(&scene, NSGATE_FLOW_NEW);
	assert_true(verdict.set_mark);
	assert_int_equal(verdict.mark, 0);
	/* The mark that says so is taken off by the rules. */
	scene.queue.in_force.selective = true;
	assert_true(remembered(&scene, NSGATE_FLOW_NEW, 7));
	scene_close(&scene);
}

static void other_programs_get_the_packet_with_the_policy_s_mark(void **test)
{
	struct scene scene = scene_open("{'version':1,'hooks':['in'],'rules':[{'name':'q','action':"
					"'queue','queue':500,'mark':{'set':9}}]}");
	struct queue_verdict verdict;

	(void)test;
	scene.queue.in_force.selective = true;
	ipv4(&scene, IPPROTO_UDP);
	verdict = judge(&scene, NSGATE_FLOW_NEW);
	assert_int_equal(verdict.verdict, NF_QUEUE | 500 << NF_VERDICT_QBITS);
	assert_true(verdict.set_mark);
	assert_int_equal(verdict.mark, 9);
	assert_fate(&scene, SHM_FATE_QUEUED_ELSEWHERE);
	scene.packet.mark = 9;
	verdict = judge(&scene, NSGATE_FLOW_NEW);
	assert_int_equal(verdict.verdict, NF_QUEUE | 500 << NF_VERDICT_QBITS);
	assert_false(verdict.set_mark);
	scene_close(&scene);
}

/* ---- whatever the flow ---- */

static void without_policy_the_flow_does_not_matter(void **test)
{
	struct scene scene = scene_open(ACCEPTING);

	(void)test;
	ipv4(&scene, IPPROTO_UDP);
	scene.queue.in_force.policy = NULL;
	scene.queue.in_force.selective = true;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		scene.queue.in_force.accept_without_policy = false;
		assert_false(passes(&scene, (enum nsgate_flow)flow));
		assert_fate(&scene, SHM_FATE_DROPPED);
		assert_int_equal(scene.buffers->counters.no_policy.packets, 1);
		scene.queue.in_force.accept_without_policy = true;
		assert_true(passes(&scene, (enum nsgate_flow)flow));
		assert_int_equal(scene.buffers->counters.no_policy.packets, 1);
	}
	scene_close(&scene);
}

static void malformed_packets_are_dropped_whatever_is_known(void **test)
{
	struct scene scene = scene_open(ACCEPTING);

	(void)test;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		ipv4(&scene, IPPROTO_UDP);
		scene.data[0] = 0x44;
		assert_int_equal(judge(&scene, (enum nsgate_flow)flow).verdict, NF_DROP);
		assert_fate(&scene, SHM_FATE_DROPPED);
		assert_int_equal(scene.buffers->counters.malformed, 1);
		ipv4(&scene, IPPROTO_UDP);
		scene.packet.hook = NSGATE_HOOK_MAX;
		assert_int_equal(judge(&scene, (enum nsgate_flow)flow).verdict, NF_DROP);
		assert_int_equal(scene.buffers->counters.malformed, 1);
	}
	scene_close(&scene);
}

/* ---- addresses of the loopback ---- */

static void to_ipv4(struct scene *scene, uint8_t hook, uint32_t oif, uint8_t first)
{
	ipv4(scene, IPPROTO_UDP);
	scene->packet.hook = hook;
	scene->packet.oif = oif;
	scene->data[16] = first;
}

static void to_ipv6(struct scene *scene, uint32_t oif, uint8_t first, uint8_t last)
{
	ipv6(scene, false);
	scene->packet.hook = NSGATE_HOOK_OUT;
	scene->packet.oif = oif;
	scene->data[24] = first;
	scene->data[39] = last;
}

static void loopback_addresses_leave_by_no_other_link(void **test)
{
	struct scene scene =
		scene_open("{'version':1,'hooks':['in','out','forward'],'default':{'in':'accept',"
			   "'out':'accept','forward':'accept'}}");

	(void)test;
	for (unsigned int i = 0; i < NSGATE_FLOW_MAX; i++) {
		const enum nsgate_flow flow = (enum nsgate_flow)i;

		to_ipv4(&scene, NSGATE_HOOK_OUT, 2, 127);
		assert_false(passes(&scene, flow));
		assert_fate(&scene, SHM_FATE_DROPPED);
		assert_int_equal(scene.buffers->counters.malformed, 0);
		to_ipv4(&scene, NSGATE_HOOK_POSTROUTING, 2, 127);
		assert_false(passes(&scene, flow));
		to_ipv6(&scene, 2, 0, 1);
		assert_false(passes(&scene, flow));

		to_ipv4(&scene, NSGATE_HOOK_OUT, 1, 127);
		assert_true(passes(&scene, flow));
		to_ipv6(&scene, 1, 0, 1);
		assert_true(passes(&scene, flow));
	}
	to_ipv4(&scene, NSGATE_HOOK_OUT, 2, 126);
	assert_true(passes(&scene, NSGATE_FLOW_NEW));
	to_ipv4(&scene, NSGATE_HOOK_OUT, 2, 128);
	assert_true(passes(&scene, NSGATE_FLOW_NEW));
	to_ipv6(&scene, 2, 0, 2);
	assert_true(passes(&scene, NSGATE_FLOW_NEW));
	to_ipv6(&scene, 2, 0x20, 1);
	assert_true(passes(&scene, NSGATE_FLOW_NEW));
	/* What comes in, or through, is the kernel's business: it takes no such address there. */
	to_ipv4(&scene, NSGATE_HOOK_IN, 0, 127);
	assert_true(passes(&scene, NSGATE_FLOW_NEW));
	to_ipv4(&scene, NSGATE_HOOK_FORWARD, 2, 127);
	assert_true(passes(&scene, NSGATE_FLOW_NEW));
	/* Nor is it let out where nothing is in force. */
	scene.queue.in_force.policy = NULL;
	scene.queue.in_force.accept_without_policy = true;
	to_ipv4(&scene, NSGATE_HOOK_OUT, 2, 127);
	assert_false(passes(&scene, NSGATE_FLOW_NEW));
	scene_close(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_has_ports),
		cmocka_unit_test(not_what_is_no_packet_of_a_flow),
		cmocka_unit_test(not_by_other_hooks),
		cmocka_unit_test(only_of_packets_that_are_of_the_original_direction),
		cmocka_unit_test(not_what_went_round),
		cmocka_unit_test(not_before_the_rules_know),
		cmocka_unit_test(not_what_depends_on_the_packet),
		cmocka_unit_test(rejected_packets_go_round_once),
		cmocka_unit_test(another_answer_s_mark_is_no_hindrance),
		cmocka_unit_test(a_rejected_segment_ends_it_at_both_ends),
		cmocka_unit_test(nobody_is_told_twice_or_in_vain),
		cmocka_unit_test(what_the_kernel_has_yet_to_cut_is_waited_for),
		cmocka_unit_test(so_many_are_told_an_hour),
		cmocka_unit_test(the_number_is_what_rules_see_of_the_flow),
		cmocka_unit_test(a_reply_is_established_too),
		cmocka_unit_test(what_belongs_to_known_flows_passes_whatever_the_policy),
		cmocka_unit_test(packets_of_known_flows_are_judged_one_by_one),
		cmocka_unit_test(replies_pass_if_what_they_answer_would_now),
		cmocka_unit_test(what_is_not_policed_was_accepted),
		cmocka_unit_test(what_another_program_gets_counts_as_accepted),
		cmocka_unit_test(an_audit_s_acceptance_is_none),
		cmocka_unit_test(a_reply_that_answers_nothing_is_judged_as_it_goes),
		cmocka_unit_test(unsure_packets_may_go_either_way),
		cmocka_unit_test(they_are_rejected_only_if_neither_way_is_allowed),
		cmocka_unit_test(tcp_without_syn_may_be_of_an_old_connection),
		cmocka_unit_test(tcp_without_syn_does_not_pass_through),
		cmocka_unit_test(who_answers_has_a_server_s_port),
		cmocka_unit_test(strict_policies_take_what_leaves_as_it_is),
		cmocka_unit_test(strict_policies_reject_no_answer),
		cmocka_unit_test(only_selective_policies_say_what_to_remember),
		cmocka_unit_test(what_is_accepted_the_other_way_is_remembered_too),
		cmocka_unit_test(a_policy_s_mark_is_sent_where_it_is_another),
		cmocka_unit_test(a_mark_that_a_policy_takes_off_is_none),
		cmocka_unit_test(other_programs_get_the_packet_with_the_policy_s_mark),
		cmocka_unit_test(without_policy_the_flow_does_not_matter),
		cmocka_unit_test(malformed_packets_are_dropped_whatever_is_known),
		cmocka_unit_test(loopback_addresses_leave_by_no_other_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
