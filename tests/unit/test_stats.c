// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the statistics of a namespace say while its workers count and its queues fill, are read
 * and are flushed. The kernel's lines are made here; the shared memory is real.
 */
#include <errno.h>
#include <json-c/json.h>
#include <linux/netlink.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/agent.h"
#include "agent/json_writer.h"
#include "agent/ns/ns.h"
#include "agent/ns/offload.h"
#include "agent/stats/rule_counters.h"
#include "agent/stats/stats.h"
#include "block_fixture.h"
#include "json_scan.h"
#include "netlink.h"
#include "policy/policy.h"

#define QUEUES 2
#define FIRST_QUEUE 10

struct agent_status agent_status;
const char *const ns_state_names[NS_STATE_MAX] = {"attached", "orphaned", "degraded"};

static struct ns ns;
static union block_fixture memory[QUEUES];
static struct shm_queue *blocks[QUEUES];
static struct queue_kernel lines[QUEUES];
static int line_errors[QUEUES];
static void (*while_reading)(void); /* what happens while the kernel's line is read */

struct ns *ns_first(void)
{
	return &ns;
}

size_t ns_count(void)
{
	return 1;
}

int queue_kernel_read(int proc_fd, uint16_t number, uint16_t stride, struct queue_kernel *ret)
{
	const unsigned int i = number - FIRST_QUEUE;

	assert_int_equal(proc_fd, 77);
	assert_int_equal(stride, QUEUES); /* a queue has every QUEUES-th number */
	assert_in_range(i, 0, QUEUES - 1);
	if (while_reading)
		while_reading();
	if (!line_errors[i])
		*ret = lines[i];
	return line_errors[i];
}

static struct policy *compile(const char *text)
{
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;

	assert_int_equal(policy_compile(text, strlen(text), &policy, &problems), 0);
	return policy;
}

static int setup(void **state)
{
	(void)state;
	memset(&ns, 0, sizeof(ns));
	memset(lines, 0, sizeof(lines));
	memset(line_errors, 0, sizeof(line_errors));
	while_reading = NULL;
	for (int i = 0; i < QUEUES; i++)
		ns.shm[i] = blocks[i] = block_begin(&memory[i]);
	ns.proc_fd = 77;
	ns.aux_fd = -1;
	ns.record.queue_first = FIRST_QUEUE;
	ns.record.queue_count = QUEUES;
	ns.record.backend = NSGATE_BACKEND_NFT_XT;
	ns.record.inode = 4026532317;
	ns.record.cookie = 77;
	ns.record.attached_at = 1767225600;
	strcpy(ns.record.name, "web");
	strcpy(ns.record.policy, "web");
	memcpy(ns.record.labels, "app=shop\0tier=\"a\"\0", 19);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	policy_unref(ns.policy);
	return 0;
}

/* The kernel numbers and queues packets. */
static void arrive(unsigned int queue, uint32_t packets)
{
	lines[queue].id_sequence += packets;
	lines[queue].pending += packets;
}

/* A whole turn of the worker. */
static void decide(unsigned int queue, enum shm_fate fate, uint32_t packets)
{
	blocks[queue]->turn += 2;
	blocks[queue]->fate[fate].packets += packets;
	blocks[queue]->fate[fate].bytes += packets * UINT64_C(100);
	lines[queue].pending -= packets;
}

static uint64_t sum(const struct stats *stats)
{
	uint64_t total = stats->pending;

	for (int i = 0; i < SHM_FATE_MAX; i++)
		total += stats->fate[i].packets;
	return total;
}

/* ---- what was seen ---- */

static void adds_up_over_the_queues(void **state)
{
	struct stats stats;

	(void)state;
	arrive(0, 10);
	arrive(1, 7);
	decide(0, SHM_FATE_ACCEPTED, 4);
	decide(0, SHM_FATE_REJECTED, 1);
	decide(1, SHM_FATE_DROPPED, 3);
	decide(1, SHM_FATE_QUEUED_ELSEWHERE, 2);
	lines[0].dropped = 5;
	lines[1].user_dropped = 6;
	lines[1].id_sequence += 6; /* numbered, but not delivered */
	stats_read(&ns, &stats);
	assert_int_equal(stats.seen, 17);
	assert_int_equal(stats.pending, 7);
	assert_int_equal(stats.seen, sum(&stats));
	assert_int_equal(stats.dropped, 5);
	assert_int_equal(stats.user_dropped, 6);
	assert_int_equal(stats.flushed, 0);
	assert_int_equal(stats_bytes_seen(&stats), 1000);
}

static void flushed_packets_count_as_dropped(void **state)
{
	struct stats stats;

	(void)state;
	arrive(0, 10);
	decide(0, SHM_FATE_ACCEPTED, 4);
	stats_read(&ns, &stats);
	assert_int_equal(stats.seen, 10);
	lines[0].pending = 0; /* ip link set down */
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 6);
	assert_int_equal(stats.seen, 10);
	assert_int_equal(stats.fate[SHM_FATE_DROPPED].packets, 6);
	assert_int_equal(stats.seen, sum(&stats));
}

/* Nobody looked while they were waiting. */
static void finds_what_was_flushed_unseen(void **state)
{
	struct stats stats;

	(void)state;
	arrive(1, 10);
	decide(1, SHM_FATE_ACCEPTED, 4);
	lines[1].pending = 0;
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 6);
	assert_int_equal(stats.seen, 10);
	assert_int_equal(stats.seen, sum(&stats));
	arrive(1, 1);
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 6);
	assert_int_equal(stats.seen, 11);
}

static void packet_gets_in(void)
{
	static unsigned int calls;

	if (++calls % 5 == 0)
		arrive(0, 1);
}

/* The number is given a moment before the packet is pending. */
static void a_packet_on_its_way_in_is_not_flushed(void **state)
{
	struct stats stats;

	(void)state;
	lines[0].id_sequence = 1;
	while_reading = packet_gets_in;
	for (int i = 0; i < 20; i++) {
		stats_read(&ns, &stats);
		if (lines[0].pending > 0)
			break;
	}
	while_reading = NULL;
	lines[0].pending++; /* the first one is in */
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 0);
	assert_int_equal(stats.seen, lines[0].pending);
	assert_int_equal(stats.seen, sum(&stats));
}

static void readmitted_packets_are_numbered_twice(void **state)
{
	struct stats stats;

	(void)state;
	arrive(0, 5);
	lines[0].id_sequence += 5; /* a takeover sent them round */
	blocks[0]->requeueing = 5;
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 0);
	assert_int_equal(stats.seen, 5);
	blocks[0]->requeueing = 0;
	blocks[0]->readmitted = 5;
	decide(0, SHM_FATE_ACCEPTED, 5);
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 0);
	assert_int_equal(stats.seen, 5);
}

static void numbers_wrap(void **state)
{
	struct stats stats;

	(void)state;
	blocks[0]->fate[SHM_FATE_ACCEPTED].packets = UINT32_MAX - UINT64_C(2);
	lines[0].id_sequence = UINT32_MAX - 2;
	arrive(0, 10);
	decide(0, SHM_FATE_ACCEPTED, 5);
	lines[0].pending -= 2; /* flushed */
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 2);
	assert_int_equal(stats.seen, UINT32_MAX - UINT64_C(2) + 10);
	assert_int_equal(stats.seen, sum(&stats));
}

static void columns_wrap_and_begin_again(void **state)
{
	struct stats stats;

	(void)state;
	lines[0].dropped = UINT32_MAX - 1;
	stats_read(&ns, &stats);
	lines[0].dropped = 3;
	stats_read(&ns, &stats);
	assert_int_equal(stats.dropped, UINT32_MAX + UINT64_C(4));
	lines[0].dropped = 2; /* another queue of the same number */
	stats_read(&ns, &stats);
	assert_int_equal(stats.dropped, UINT32_MAX + UINT64_C(6));
}

static void passing_on_overload_is_not_flushing(void **state)
{
	struct stats stats;

	(void)state;
	ns.policy = compile("{\"version\":1,\"on_overload\":\"open\",\"rules\":[]}");
	arrive(0, 3);
	lines[0].id_sequence += 4; /* let pass by the kernel */
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 0);
	assert_int_equal(stats.seen, 3);
	lines[0].pending = 0;
	lines[0].id_sequence += 3; /* these passed, the three before were flushed */
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 3);
	assert_int_equal(stats.seen, 3);
	policy_unref(ns.policy);
	ns.policy = compile("{\"version\":1,\"rules\":[]}");
	stats_read(&ns, &stats);
	assert_int_equal(stats.flushed, 3);
}

static void a_queue_that_is_gone_keeps_its_figures(void **state)
{
	struct stats stats;

	(void)state;
	arrive(0, 5);
	lines[0].dropped = 9;
	stats_read(&ns, &stats);
	line_errors[0] = -ENOENT;
	stats_read(&ns, &stats);
	assert_int_equal(stats.seen, 5);
	assert_int_equal(stats.pending, 5);
	assert_int_equal(stats.dropped, 9);
	assert_int_equal(stats.seen, sum(&stats));
}

static void turn_goes_on(void)
{
	blocks[0]->turn++;
	blocks[0]->fate[SHM_FATE_ACCEPTED].packets++;
}

static void a_busy_worker_does_not_make_it_fall(void **state)
{
	struct stats stats;
	uint64_t last = 0;

	(void)state;
	arrive(0, 100);
	while_reading = turn_goes_on;
	for (int i = 0; i < 5; i++) {
		stats_read(&ns, &stats);
		assert_true(stats.seen >= last);
		assert_true(stats.fate[SHM_FATE_ACCEPTED].packets <= stats.seen);
		last = stats.seen;
	}
	while_reading = NULL;
	blocks[0]->turn += blocks[0]->turn % 2;
	lines[0].id_sequence = (uint32_t)blocks[0]->fate[SHM_FATE_ACCEPTED].packets + 5;
	lines[0].pending = 5;
	stats_read(&ns, &stats);
	assert_int_equal(stats.seen, sum(&stats));
	assert_true(stats.seen >= last);
}

static void a_turn_left_open_does_not_hang(void **state)
{
	struct stats stats;

	(void)state;
	arrive(0, 5);
	blocks[0]->turn = 1;
	stats_read(&ns, &stats);
	assert_int_equal(stats.seen, 0);
	assert_int_equal(stats.pending, 5);
}

/* ---- figures ---- */

static void latency_is_the_upper_bound_of_its_bucket(void **state)
{
	struct stats stats = {.seen = 0};

	(void)state;
	assert_int_equal(stats_latency(&stats, 50), 0);
	stats.latency[3] = 50;	 /* 3 us */
	stats.latency[8] = 40;	 /* 8, 9 us */
	stats.latency[123] = 10; /* the last one */
	stats.latency_max_us = 5000000;
	assert_int_equal(stats_latency(&stats, 50), 3);
	assert_int_equal(stats_latency(&stats, 90), 9);
	assert_int_equal(stats_latency(&stats, 99), 5000000);
	stats.latency[123] = 0;
	stats.latency_max_us = 8;
	assert_int_equal(stats_latency(&stats, 99), 8);
}

/* ---- the documents ---- */

static struct json_object *document(bool all)
{
	struct json_object *parsed;
	struct stats stats;
	size_t length = 0;
	struct jw w;
	char *text;

	jw_init(&w, STATS_BYTES_MAX);
	if (all) {
		assert_int_equal(stats_write_all(&w), 0);
	} else {
		stats_read(&ns, &stats);
		stats_write(&w, NULL, &ns, &stats);
	}
	text = jw_take(&w, &length);
	assert_non_null(text);
	assert_int_equal(strlen(text), length);
	parsed = json_tokener_parse(text);
	assert_non_null(parsed);
	free(text);
	return parsed;
}

/* "packets.seen": the value as text. */
static const char *at(struct json_object *object, const char *path)
{
	char key[64];

	for (size_t length; *path; path += length + (path[length] == '.')) {
		length = strcspn(path, ".");
		snprintf(key, sizeof(key), "%.*s", (int)length, path);
		if (json_object_is_type(object, json_type_array))
			object = json_object_array_get_idx(object, (size_t)atoi(key));
		else if (!json_object_object_get_ex(object, key, &object))
			return NULL;
	}
	return json_object_get_string(object);
}

static void writes_the_contract(void **state)
{
	static const char *const order[] = {
		"schema",   "name",	 "state",	"policy",   "mode",    "generation",
		"netns",    "labels",	 "attached_at", "queue",    "packets", "bytes",
		"unjudged", "audit",	 "direction",	"protocol", "rules",   "default",
		"replies",  "no_policy", "guard",	"repairs",  "table",   "verdict_latency_us",
	};
	struct json_object *stats;
	unsigned int i = 0;

	(void)state;
	ns.policy = compile("{\"version\":1,\"mode\":\"audit\",\"rules\":["
			    "{\"name\":\"a\",\"action\":\"accept\"},"
			    "{\"name\":\"b\",\"action\":\"drop\"}]}");
	ns.generation = 3;
	for (int queue = 0; queue < QUEUES; queue++) {
		shm_rule_touch(blocks[queue]->rules_touched, 0);
		for (int rule = 0; rule < 2; rule++)
			shm_rules(blocks[queue])[rule].name_hash =
				policy_info(ns.policy)->rules[rule].name_hash;
		shm_rules(blocks[queue])[1].count = (struct shm_count){5, 500};
	}
	arrive(0, 2);
	decide(0, SHM_FATE_ACCEPTED, 1);
	stats = document(false);
	json_object_object_foreach (stats, key, value) {
		(void)value;
		assert_string_equal(key, order[i++]);
	}
	assert_int_equal(i, sizeof(order) / sizeof(order[0]));
	assert_string_equal(at(stats, "schema"), "1");
	assert_string_equal(at(stats, "state"), "attached");
	assert_string_equal(at(stats, "mode"), "audit");
	assert_string_equal(at(stats, "netns.inode"), "4026532317");
	assert_string_equal(at(stats, "labels.app"), "shop");
	assert_string_equal(at(stats, "labels.tier"), "\"a\"");
	assert_string_equal(at(stats, "attached_at"), "2026-01-01T00:00:00Z");
	assert_string_equal(at(stats, "queue.backend"), "nft-xt");
	assert_string_equal(at(stats, "queue.pending"), "1");
	assert_string_equal(at(stats, "packets.seen"), "2");
	assert_string_equal(at(stats, "packets.accepted"), "1");
	assert_string_equal(at(stats, "packets.queued_elsewhere"), "0");
	assert_string_equal(at(stats, "bytes.accepted"), "100");
	assert_string_equal(at(stats, "direction.forward.bytes"), "0");
	assert_string_equal(at(stats, "rules.1.name"), "b");
	assert_string_equal(at(stats, "rules.1.action"), "drop");
	assert_string_equal(at(stats, "rules.1.packets"), "10");
	assert_string_equal(at(stats, "rules.1.bytes"), "1000");
	assert_string_equal(at(stats, "rules.0.packets"), "0");
	json_object_put(stats);
}

static void a_missing_policy_enforces_and_has_no_rules(void **state)
{
	struct json_object *stats;

	(void)state;
	ns.state = NS_STATE_DEGRADED;
	strcpy(ns.reason, "policy \"web\" is missing");
	stats = document(false);
	assert_string_equal(at(stats, "mode"), "enforce");
	assert_string_equal(at(stats, "rules"), "[ ]");
	assert_string_equal(at(stats, "state"), "degraded");
	assert_string_equal(at(stats, "reason"), ns.reason);
	json_object_put(stats);
}

static void all_namespaces_in_one(void **state)
{
	struct json_object *all;

	(void)state;
	agent_status.workers = 2;
	agent_status.broker_connected = true;
	agent_status.started_at = time(NULL) - 5;
	all = document(true);
	assert_string_equal(at(all, "schema"), "1");
	assert_string_equal(at(all, "agent.workers"), "2");
	assert_string_equal(at(all, "agent.broker"), "connected");
	assert_string_equal(at(all, "agent.namespaces"), "1");
	assert_true(atoi(at(all, "agent.uptime_s")) >= 5);
	assert_string_equal(at(all, "namespaces.web.name"), "web");
	json_object_put(all);
}

static void labels_without_an_end_stay_inside_their_field(void **state)
{
	struct json_object *stats;

	(void)state;
	memset(ns.record.labels, 'x', sizeof(ns.record.labels));
	stats = document(false);
	assert_string_equal(at(stats, "labels"), "{ }");
	json_object_put(stats);
}

/* ---- the writer ---- */

static void whatever_goes_in_json_comes_out(void **state)
{
	static const char nasty[] = "\"\\\n\t\x01\x7f \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 "
				    "\xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xff \xe2\x82";
	size_t length = 0;
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *parsed;
	struct jw w;
	char *text;
	uint32_t weight;

	(void)state;
	jw_init(&w, 4096);
	jw_open(&w, NULL, '[');
	jw_string(&w, NULL, nasty);
	jw_uint(&w, NULL, UINT64_MAX);
	jw_int(&w, NULL, INT64_MIN);
	jw_bool(&w, NULL, true);
	jw_string(&w, NULL, NULL);
	jw_close(&w, ']');
	text = jw_take(&w, &length);
	assert_true(json_scan_document(text, length, 2, &weight));
	parsed = json_tokener_parse_ex(tokener, text, (int)length + 1);
	assert_non_null(parsed);
	assert_non_null(strstr(at(parsed, "0"), "\"\\\n\t\x01\x7f \xc3\xa4 \xe2\x82\xac "));
	assert_non_null(strstr(text, ",18446744073709551615,-9223372036854775808,true,null]"));
	json_object_put(parsed);
	json_tokener_free(tokener);
	free(text);
}

static void the_writer_keeps_its_limit(void **state)
{
	size_t length;
	struct jw w;

	(void)state;
	jw_init(&w, 100);
	jw_open(&w, NULL, '[');
	for (int i = 0; i < 100; i++)
		jw_uint(&w, NULL, 12345);
	assert_int_equal(w.error, -EFBIG);
	assert_null(jw_take(&w, &length));
}

/* ---- offloaded packets, from a real kernel ---- */

static int came_before_the_queue(unsigned int packets)
{
	char command[128];

	snprintf(command, sizeof(command),
		 "nft 'delete counter inet nsgate asked; "
		 "add counter inet nsgate asked { packets %u bytes 0 }'",
		 packets);
	return system(command);
}

static unsigned int readings;

/* What the first reading has taken for lost was on its way. */
static void number_late(void)
{
	if (++readings == 2 * QUEUES + 1)
		arrive(0, 4);
}

/* As far as the books go that follow a binding: only after one is anything lost. */
static uint64_t unbound_after_binding(unsigned int asked)
{
	struct stats stats;

	if (came_before_the_queue(asked) != 0)
		return UINT64_MAX;
	blocks[0]->control.bound_at_ns++;
	stats_read(&ns, &stats);
	return stats.unbound_dropped;
}

static int read_unbound(void)
{
	struct stats stats;

	memset(lines, 0, sizeof(lines));
	memset(&ns.last, 0, sizeof(ns.last));
	if (system("nft 'add counter inet nsgate asked { packets 100 bytes 0 }'") != 0)
		return 77;
	rule_counters_begin(&ns);	 /* of an earlier attachment */
	blocks[0]->control.bindings = 2; /* in the first one nothing is lost for want of a queue */
	arrive(0, 5);
	arrive(1, 4);
	lines[1].dropped = 1;
	if (unbound_after_binding(110) != 0)
		return 10;
	if (unbound_after_binding(113) != 3)
		return 11;
	while_reading = number_late;
	if (unbound_after_binding(117) != 3 || readings <= 2 * QUEUES)
		return 12;
	while_reading = NULL;
	/* Within a binding that is known it is no want of a queue. */
	if (came_before_the_queue(118) != 0)
		return 77;
	stats_read(&ns, &stats);
	if (stats.unbound_dropped != 3 || stats.refused != 1)
		return 13;
	if (unbound_after_binding(118) != 3)
		return 14;
	/* Numbered without having been counted: what is lost later is counted all the same. */
	arrive(1, 6);
	if (unbound_after_binding(119) != 3)
		return 15;
	return unbound_after_binding(121) == 5 ? 0 : 16;
}

/* So many were asked about so far. Return: is that said of those that passed? */
static bool passed(unsigned int asked, uint32_t flags, uint64_t down, uint64_t full)
{
	struct stats stats;

	ns.record.rules.flags = flags;
	if (came_before_the_queue(asked) != 0)
		return false;
	stats_read(&ns, &stats);
	return stats.unjudged[STATS_UNJUDGED_AGENT_DOWN] == down &&
	       stats.unjudged[STATS_UNJUDGED_QUEUE_FULL] == full && stats.unbound_dropped == 5;
}

/* After read_unbound(). Where a policy is open, what no queue took has passed, at any time. */
static int read_passed(void)
{
	const uint64_t down = ns.shm[0]->control.passed_down;

	if (!passed(124, NSGATE_RULES_BYPASS, down + 3, 0))
		return 20;
	if (!passed(128, NSGATE_RULES_OVERLOAD, down + 3, 4))
		return 21;
	if (!passed(133, NSGATE_RULES_BYPASS | NSGATE_RULES_OVERLOAD, down + 3, 9))
		return 22;
	/* What a queue takes has not passed, and is no news afterwards. */
	arrive(1, 2);
	if (!passed(135, NSGATE_RULES_OVERLOAD, down + 3, 9))
		return 23;
	return passed(135, NSGATE_RULES_BYPASS, down + 3, 9) ? 0 : 24;
}

/* In a child, whose namespace goes with it. Return: an exit code; 77: cannot be tried. */
static int read_real_counters(void)
{
	struct offload_counts counts;
	struct stats stats;
	int status;

	if (unshare(CLONE_NEWNET) < 0)
		return 77;
	ns.aux_fd = netlink_open(NETLINK_NETFILTER);
	if (ns.aux_fd < 0 || offload_read(ns.aux_fd, 0, &counts) < 0)
		return 77;
	if (counts.found[SHM_DIRECTION_IN])
		return 1;
	if (system("nft add table inet nsgate 2>/dev/null") != 0 ||
	    system("nft 'add counter inet nsgate offloaded_in { packets 5 bytes 500 }'") != 0 ||
	    system("nft 'add counter inet nsgate offloaded_out { packets 7 bytes 700 }'") != 0 ||
	    system("nft 'add counter inet nsgate denied_in { packets 3 bytes 300 }'") != 0 ||
	    system("nft 'add counter inet nsgate denied_out { packets 4 bytes 400 }'") != 0 ||
	    system("nft 'add counter inet nsgate another { packets 1 bytes 1 }'") != 0)
		return 77;
	ns.policy = compile("{\"version\":1,\"offload\":true,\"rules\":[]}");
	stats_read(&ns, &stats);
	if (stats_offloaded(&stats).packets != 12 || stats_offloaded(&stats).bytes != 1200)
		return 2;
	if (stats_denied(&stats).packets != 7 || stats_denied(&stats).bytes != 700 ||
	    stats.seen != 7 || stats.fate[SHM_FATE_DROPPED].packets != 7 ||
	    stats_bytes_seen(&stats) != 700 || stats.direction[SHM_DIRECTION_OUT].packets != 4 ||
	    stats.direction[SHM_DIRECTION_IN].bytes != 300)
		return 7;
	/* The table is made anew: nothing falls. */
	if (system("nft delete table inet nsgate; nft add table inet nsgate;"
		   "nft 'add counter inet nsgate offloaded_in { packets 1 bytes 10 };"
		   "add counter inet nsgate denied_out { packets 2 bytes 20 }'") != 0)
		return 77;
	stats_read(&ns, &stats);
	if (stats_denied(&stats).packets != 9 || stats.seen != 9)
		return 8;
	if (stats_offloaded(&stats).packets != 13 || stats_offloaded(&stats).bytes != 1210)
		return 3;
	/* Those that were numbered and passed are of all queues; no counter has them. */
	blocks[1]->control.unaccounted = 2;
	if (system("nft 'add counter inet nsgate passed_agent_down { packets 9 bytes 90 }'") != 0)
		return 77;
	stats_read(&ns, &stats);
	if (stats.unjudged[STATS_UNJUDGED_AGENT_DOWN] != 9 ||
	    stats.unjudged[STATS_UNJUDGED_QUEUE_FULL] != 0 ||
	    stats.unjudged[STATS_UNJUDGED_UNDELIVERED] != 2)
		return 4;
	blocks[0]->control.unaccounted = 7;
	stats_read(&ns, &stats);
	if (stats.unjudged[STATS_UNJUDGED_QUEUE_FULL] != 0 ||
	    stats.unjudged[STATS_UNJUDGED_UNDELIVERED] != 9)
		return 5;
	/* The next agent goes on where this one was. */
	memset(&ns.last, 0, sizeof(ns.last));
	stats_read(&ns, &stats);
	if (stats.unjudged[STATS_UNJUDGED_AGENT_DOWN] != 9)
		return 6;
	status = read_unbound();
	if (status == 0)
		status = read_passed();
	close(ns.aux_fd);
	policy_unref(ns.policy);
	ns.policy = NULL;
	return status;
}

static void offloaded_packets_never_fall(void **state)
{
	int status;
	pid_t child;

	(void)state;
	fflush(stdout);
	child = fork();
	if (child == 0)
		_exit(read_real_counters());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define STATS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STATS_TEST(adds_up_over_the_queues),
		STATS_TEST(flushed_packets_count_as_dropped),
		STATS_TEST(finds_what_was_flushed_unseen),
		STATS_TEST(a_packet_on_its_way_in_is_not_flushed),
		STATS_TEST(readmitted_packets_are_numbered_twice),
		STATS_TEST(numbers_wrap),
		STATS_TEST(columns_wrap_and_begin_again),
		STATS_TEST(passing_on_overload_is_not_flushing),
		STATS_TEST(a_queue_that_is_gone_keeps_its_figures),
		STATS_TEST(a_busy_worker_does_not_make_it_fall),
		STATS_TEST(a_turn_left_open_does_not_hang),
		STATS_TEST(latency_is_the_upper_bound_of_its_bucket),
		STATS_TEST(writes_the_contract),
		STATS_TEST(a_missing_policy_enforces_and_has_no_rules),
		STATS_TEST(all_namespaces_in_one),
		STATS_TEST(labels_without_an_end_stay_inside_their_field),
		STATS_TEST(whatever_goes_in_json_comes_out),
		STATS_TEST(the_writer_keeps_its_limit),
		STATS_TEST(offloaded_packets_never_fall),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
