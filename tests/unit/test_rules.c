/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of the rule set can be told without a kernel; tests/platform asks the kernel itself. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

#include "broker/nft/rules.h"
#include "broker/nft/denied.h"
#include "broker/nft/guard.h"
#include "broker/nft/set.h"
#include "broker/nft/path.h"
#include "nsgate/hook.h"
#include "nsgate/flow.h"

#define HOOK(name) NSGATE_HOOK_BIT(NSGATE_HOOK_##name)
#define ALL_HOOKS (NSGATE_HOOK_BIT(NSGATE_HOOK_MAX) - 1)
/* net.core.wmem_default where nobody changed it: what a batch has to fit into. */
#define SEND_BUFFER 212992
#define SEND_BUFFER_MAX (2 * SEND_BUFFER)

static void names_fit(void **state)
{
	char name[RULES_CHAIN_NAME_MAX];

	(void)state;
	rules_chain_name(name, "judge", NSGATE_HOOK_IN);
	assert_string_equal(name, "judge_in");
	rules_chain_name(name, "notices", NSGATE_HOOK_POSTROUTING);
	assert_string_equal(name, "notices_postrouting");
}

/* ---- paths ---- */

#define BIT(path) (1U << (path))
#define LOOPS (BIT(NSGATE_PATH_IN_LOOP) | BIT(NSGATE_PATH_OUT_LOOP))

static bool is_loop(enum rules_link_kind kind)
{
	return kind == RULES_LOOP_IN || kind == RULES_LOOP_OUT;
}

/* A flow over the loopback is no licence for packets on a link, nor the other way round. */
static void loopback_and_links_are_apart(void **state)
{
	(void)state;
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		const struct rules_paths paths = rules_paths(hook);
		unsigned int loops = 0;

		assert_true(paths.count > 0);
		for (size_t i = 0; i < paths.count; i++) {
			const struct rules_path *path = &paths.list[i];

			loops += is_loop(path->links);
			assert_int_equal(is_loop(path->links), (BIT(path->own) & LOOPS) != 0);
			assert_int_not_equal(path->answers, 0);
			assert_int_equal(path->answers & (is_loop(path->links) ? ~LOOPS : LOOPS),
					 0);
		}
		/* Nothing is forwarded from or to it. */
		assert_int_equal(loops, hook != NSGATE_HOOK_FORWARD);
	}
}

/* What comes in answers what went out, what goes out what came in, what is forwarded itself. */
static void replies_come_by_the_path_back(void **state)
{
	static const uint32_t incoming = BIT(NSGATE_PATH_IN_LINK) | BIT(NSGATE_PATH_IN_LOOP);
	static const uint32_t outgoing = BIT(NSGATE_PATH_OUT_LINK) | BIT(NSGATE_PATH_OUT_LOOP);
	static const uint32_t forwarded = BIT(NSGATE_PATH_FORWARD);

	(void)state;
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		const struct rules_paths paths = rules_paths(hook);
		const uint32_t own = hook == NSGATE_HOOK_FORWARD ? forwarded
				     : rules_hook_incoming(hook) ? incoming
								 : outgoing;
		const uint32_t back = hook == NSGATE_HOOK_FORWARD ? forwarded
				      : rules_hook_incoming(hook) ? outgoing
								  : incoming;
		/* These two see what is forwarded, too. */
		const uint32_t through =
			hook == NSGATE_HOOK_PREROUTING || hook == NSGATE_HOOK_POSTROUTING
				? forwarded
				: 0;
		uint32_t all = 0, answers = 0;

		for (size_t i = 0; i < paths.count; i++) {
			all |= BIT(paths.list[i].own);
			answers |= paths.list[i].answers;
		}
		assert_int_equal(all, own);
		assert_int_equal(answers, back | through);
	}
}

/* In postrouting what was made here is told from what came by a link: that one answers less. */
static void what_is_ours_answers_nothing_forwarded(void **state)
{
	const struct rules_paths paths = rules_paths(NSGATE_HOOK_POSTROUTING);
	unsigned int ours = 0, forwarded = 0;

	(void)state;
	for (size_t i = 0; i < paths.count; i++) {
		const bool answers = paths.list[i].answers & BIT(NSGATE_PATH_FORWARD);

		ours += paths.list[i].links == RULES_LINK_OUT_OURS && !answers;
		forwarded += paths.list[i].links == RULES_FORWARDED && answers;
		assert_int_equal(answers, paths.list[i].links == RULES_FORWARDED);
	}
	assert_int_equal(ours, 1);
	assert_int_equal(forwarded, 1);
}

/* ---- batches ---- */

static void check_messages(const struct nft_batch *batch)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)batch->buffer;
	int left = (int)batch->used;
	uint32_t sequence = batch->first;

	assert_int_equal(nlh->nlmsg_type, NFNL_MSG_BATCH_BEGIN);
	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
		assert_int_equal(nlh->nlmsg_seq, sequence++);
	assert_int_equal(left, 0);
}

/* How often a message of that type is in the batch, for a chain whose name begins with `prefix`. */
static unsigned int count_messages(const struct nft_batch *batch, uint8_t family, uint16_t type,
				   uint16_t name_attribute, const char *prefix)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)batch->buffer;
	int left = (int)batch->used;
	unsigned int count = 0;

	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
		const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
		const struct nlattr *attr;

		if (nlh->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | type) ||
		    nfg->nfgen_family != family)
			continue;
		mnl_attr_for_each (attr, nlh, sizeof(*nfg))
			if (mnl_attr_get_type(attr) == name_attribute &&
			    strncmp(mnl_attr_get_str(attr), prefix, strlen(prefix)) == 0)
				count++;
	}
	return count;
}

/* Called with each expression of a rule of ours: its chain, its name, what it is made of. */
typedef void (*expression_seen)(const char *chain, const char *name, const struct nlattr *data,
				void *arg);

static const struct nlattr *find_attr(const struct nlattr *nest, uint16_t type)
{
	const struct nlattr *attr;

	if (nest)
		mnl_attr_for_each_nested (attr, nest)
			if (mnl_attr_get_type(attr) == type)
				return attr;
	return NULL;
}

static void each_of_rule(const struct nlmsghdr *nlh, expression_seen seen, void *arg)
{
	const struct nlattr *attr, *element, *list = NULL;
	const char *chain = "";

	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_RULE_CHAIN)
			chain = mnl_attr_get_str(attr);
		if (mnl_attr_get_type(attr) == NFTA_RULE_EXPRESSIONS)
			list = attr;
	}
	if (!list)
		return;
	mnl_attr_for_each_nested (element, list) {
		const struct nlattr *name = find_attr(element, NFTA_EXPR_NAME);

		assert_non_null(name);
		seen(chain, mnl_attr_get_str(name), find_attr(element, NFTA_EXPR_DATA), arg);
	}
}

static void each_expression(const struct nft_batch *batch, expression_seen seen, void *arg)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)batch->buffer;
	int left = (int)batch->used;

	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
		if (nlh->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE))
			each_of_rule(nlh, seen, arg);
}

static uint32_t number_in(const struct nlattr *data, uint16_t type)
{
	const struct nlattr *attr = find_attr(data, type);

	return attr ? ntohl(mnl_attr_get_u32(attr)) : UINT32_MAX;
}

#define CHAINS(batch, type, prefix)                                                                \
	count_messages(batch, NFPROTO_NETDEV, type, NFTA_CHAIN_NAME, prefix)
#define RULES(batch, family, prefix)                                                               \
	count_messages(batch, family, NFT_MSG_NEWRULE, NFTA_RULE_CHAIN, prefix)

static const bool no_sets[RULES_FAMILIES], both_sets[RULES_FAMILIES] = {true, true};

static void build_hooks(struct rules_set *set, struct nft_batch *batch)
{
	nft_batch_begin(batch, "nsgate");
	set->batch = batch;
	for (unsigned int i = 0; i < NSGATE_ANSWER_MAX; i++)
		set->answers[i] = nsgate_answer_mark(1, (enum nsgate_answer)i);
	if (set->ct_label)
		rules_unsure(set);
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		denied_sets_add(set, hook, no_sets);
		if (set->hooks & NSGATE_HOOK_BIT(hook))
			rules_judge(set, hook);
		rules_label(set, hook);
	}
	assert_int_equal(batch->error, 0);
	assert_null(batch->rule);
}

static const struct nsgate_bypass_mark bypass[NSGATE_BYPASS_MARKS_MAX] = {{.value = 1, .mask = 1}};

#define KINDS_OF_RULES 1024

/* Everything that a policy, the kernel and the state of things can make of rules. */
static struct rules_set kind_of_rules(unsigned int bits)
{
	return (struct rules_set){
		.hooks = ALL_HOOKS,
		.generation = NSGATE_GENERATION_MAX,
		.offload = bits & 1,
		.ct_state = bits & 2,
		.ct_label = (bits & 6) == 6,
		.denied = bits & 8,
		.sets = bits & 8 && bits & 2,
		.opened = bits & 16,
		.selective = bits & 32,
		.strict = bits & 64,
		.fib = bits & 128,
		.bypass = bypass,
		.bypass_count = bits & 32 ? NSGATE_BYPASS_MARKS_MAX : 0,
		.queue = {.backend = bits & 256 ? NSGATE_BACKEND_NFT_QUEUE : NSGATE_BACKEND_NFT_XT,
			  .first = (uint16_t)(65536 - 16 * NSGATE_FLOW_MAX),
			  .count = 16,
			  .bypass = bits & 512},
	};
}

static void every_rule_set_is_one_small_batch(void **state)
{
	(void)state;
	for (unsigned int bits = 0; bits < KINDS_OF_RULES; bits++) {
		struct rules_set set = kind_of_rules(bits);
		struct nft_batch batch;

		build_hooks(&set, &batch);
		assert_in_range(batch.used, 1, SEND_BUFFER * 7 / 10); /* and guarded links */
		check_messages(&batch);
		nft_batch_free(&batch);
	}
}

/* ---- marks ---- */

struct uses {
	unsigned int cleared; /* the packet's mark is set: to what is in the register */
	unsigned int labels_set;
	bool ct_mark, other_set;
	bool in_marked; /* the mark is set in no other chain */
};

static void see_use(const char *chain, const char *name, const struct nlattr *data, void *arg)
{
	struct uses *uses = arg;

	if (strcmp(name, "meta") == 0 && find_attr(data, NFTA_META_SREG)) {
		uses->cleared += number_in(data, NFTA_META_KEY) == NFT_META_MARK;
		uses->other_set |= number_in(data, NFTA_META_KEY) != NFT_META_MARK;
		uses->in_marked &= strncmp(chain, "marked_", 7) == 0;
	}
	if (strcmp(name, "ct") == 0) {
		uses->ct_mark |= number_in(data, NFTA_CT_KEY) == NFT_CT_MARK;
		if (find_attr(data, NFTA_CT_SREG)) {
			uses->labels_set += number_in(data, NFTA_CT_KEY) == NFT_CT_LABELS;
			uses->other_set |= number_in(data, NFTA_CT_KEY) != NFT_CT_LABELS;
		}
	}
}

/* Both marks belong to the namespace. The one that the agent set is taken off, and no other. */
static void marks_are_let_alone(void **state)
{
	(void)state;
	for (unsigned int bits = 0; bits < KINDS_OF_RULES; bits++) {
		struct rules_set set = kind_of_rules(bits);
		struct uses uses = {.in_marked = true};
		struct nft_batch batch;

		build_hooks(&set, &batch);
		each_expression(&batch, see_use, &uses);
		assert_int_equal(uses.cleared, NSGATE_HOOK_MAX); /* where it says "remember" */
		assert_true(uses.in_marked);
		assert_false(uses.ct_mark);
		assert_false(uses.other_set);
		/* Nothing is noted where there is nothing to note it in. */
		assert_int_equal(uses.labels_set > 0, set.ct_label);
		nft_batch_free(&batch);
	}
}

/* ---- numbers ---- */

struct numbers {
	uint16_t first, count;
	unsigned int of[NSGATE_FLOW_MAX];
	bool bypass;
};

static void see_number(const char *chain, const char *name, const struct nlattr *data, void *arg)
{
	const struct nlattr *number, *total, *flags;
	struct numbers *numbers = arg;
	unsigned int distance;

	(void)chain;
	if (strcmp(name, "queue") != 0)
		return;
	number = find_attr(data, NFTA_QUEUE_NUM);
	total = find_attr(data, NFTA_QUEUE_TOTAL);
	flags = find_attr(data, NFTA_QUEUE_FLAGS);
	assert_non_null(number);
	assert_int_equal(total ? ntohs(mnl_attr_get_u16(total)) : 1, numbers->count);
	distance = ntohs(mnl_attr_get_u16(number)) - numbers->first;
	assert_int_equal(distance % numbers->count, 0);
	assert_in_range(distance / numbers->count, 0, NSGATE_FLOW_MAX - 1);
	numbers->of[distance / numbers->count]++;
	numbers->bypass = flags && ntohs(mnl_attr_get_u16(flags)) & NFT_QUEUE_FLAG_BYPASS;
}

/* By which numbers packets of that hook are queued: a mask of 1 << flow. */
static uint32_t numbers_of(struct rules_set *set, uint32_t hook)
{
	struct numbers numbers = {.first = set->queue.first, .count = set->queue.count};
	struct nft_batch batch;
	uint32_t mask = 0;

	set->hooks = NSGATE_HOOK_BIT(hook);
	set->queue.backend = NSGATE_BACKEND_NFT_QUEUE;
	build_hooks(set, &batch);
	each_expression(&batch, see_number, &numbers);
	assert_true(numbers.bypass == set->queue.bypass || set->opened);
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++)
		mask |= numbers.of[flow] ? 1U << flow : 0;
	nft_batch_free(&batch);
	return mask;
}

#define ALL_FLOWS (BIT(NSGATE_FLOW_MAX) - 1)

static void every_number_is_used_where_it_can_be(void **state)
{
	struct rules_set set = {.generation = 1,
				.ct_state = true,
				.ct_label = true,
				.queue = {.first = 100, .count = 3, .bypass = true}};

	(void)state;
	/* What leaves as an error of the kernel's is let pass, or a rule decides of it. */
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++)
		assert_int_equal(numbers_of(&set, hook) | BIT(NSGATE_FLOW_ERROR_KNOWN), ALL_FLOWS);
	assert_int_equal(numbers_of(&set, NSGATE_HOOK_IN), ALL_FLOWS);
	assert_int_equal(numbers_of(&set, NSGATE_HOOK_OUT),
			 ALL_FLOWS & ~BIT(NSGATE_FLOW_ERROR_KNOWN));

	/* What is accepted unasked is never queued as known. */
	set.offload = true;
	assert_int_equal(numbers_of(&set, NSGATE_HOOK_IN),
			 ALL_FLOWS & ~(BIT(NSGATE_FLOW_KNOWN) | BIT(NSGATE_FLOW_ERROR_KNOWN)));
	/* Where a packet is seen by two hooks, it is not. */
	assert_int_equal(numbers_of(&set, NSGATE_HOOK_PREROUTING), ALL_FLOWS);
}

static void what_the_kernel_cannot_tell_is_not_told(void **state)
{
	struct rules_set set = {
		.generation = 1, .ct_state = true, .queue = {.first = 100, .count = 1}};

	(void)state;
	/* No labels: nothing is known, every reply is asked about as if it might be. */
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++)
		assert_int_equal(numbers_of(&set, hook),
				 BIT(NSGATE_FLOW_NEW) | BIT(NSGATE_FLOW_ORIGINAL) |
					 BIT(NSGATE_FLOW_REPLY_STALE) | BIT(NSGATE_FLOW_EXPECTED) |
					 BIT(NSGATE_FLOW_ERROR) | BIT(NSGATE_FLOW_INVALID) |
					 BIT(NSGATE_FLOW_UNTRACKED));
	/* No conntrack. */
	set.ct_state = false;
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++)
		assert_int_equal(numbers_of(&set, hook), BIT(NSGATE_FLOW_UNTRACKED));
}

static void opened_rules_queue_nothing(void **state)
{
	(void)state;
	for (unsigned int bits = 0; bits < KINDS_OF_RULES; bits++) {
		struct rules_set set = kind_of_rules(bits | 16);

		for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++)
			assert_int_equal(numbers_of(&set, hook), 0);
	}
}

#define SETS(batch, type, name) count_messages(batch, NFPROTO_INET, type, NFTA_SET_NAME, name)

/* Rules begin with empty sets, or with none. */
static void sets_of_denied_flows_are_replaced(void **state)
{
	struct rules_set set = {
		.hooks = HOOK(OUT) | HOOK(PREROUTING), .denied = true, .sets = true};
	struct nft_batch batch;

	(void)state;
	nft_batch_begin(&batch, "nsgate");
	set.batch = &batch;
	denied_sets_add(&set, NSGATE_HOOK_OUT, no_sets);
	assert_int_equal(SETS(&batch, NFT_MSG_NEWSET, "denied"), 2);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied"), 0);
	denied_sets_add(&set, NSGATE_HOOK_OUT, both_sets);
	assert_int_equal(SETS(&batch, NFT_MSG_NEWSET, "denied4_out"), 2);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied4_out"), 1);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied6_out"), 1);
	/* Not named, or a hook that sees what others see, too. */
	denied_sets_add(&set, NSGATE_HOOK_IN, both_sets);
	denied_sets_add(&set, NSGATE_HOOK_PREROUTING, no_sets);
	assert_int_equal(SETS(&batch, NFT_MSG_NEWSET, "denied"), 4);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied4_in"), 1);
	set.denied = false;
	denied_sets_add(&set, NSGATE_HOOK_OUT, both_sets);
	assert_int_equal(SETS(&batch, NFT_MSG_NEWSET, "denied"), 4);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied4_out"), 2);
	assert_int_equal(batch.error, 0);
	check_messages(&batch);
	nft_batch_free(&batch);
}

/* Whatever the rules are: what the agent denied is dropped where it may come by. */
static void every_hook_knows_the_answers(void **state)
{
	(void)state;
	for (unsigned int bits = 0; bits < KINDS_OF_RULES; bits++) {
		struct rules_set set = kind_of_rules(bits);
		const bool notes = set.ct_label && set.selective && !set.opened;
		struct nft_batch batch;

		build_hooks(&set, &batch);
		/* Reject, deny, and one that nobody can have meant. */
		assert_int_equal(RULES(&batch, NFPROTO_INET, "answers_"), 3 * NSGATE_HOOK_MAX);
		/* In in, forward and out: note twice, drop; count the direction, drop. */
		assert_int_equal(RULES(&batch, NFPROTO_INET, "denied_"),
				 set.denied ? set.sets ? 9 : 3 : 0);
		assert_int_equal(RULES(&batch, NFPROTO_INET, "dropped_"),
				 set.denied && set.sets ? 12 : 0);
		/*
		 * What is not for here is dropped, and where it can be told what came by another
		 * link; the rest is rejected: twice. In postrouting one.
		 */
		assert_int_equal(RULES(&batch, NFPROTO_INET, "reject_"),
				 3 * 3 + 2 + 3 * set.fib + 1);
		/* Where there is no judging chain any more: drop both; the third is taken off. */
		assert_int_equal(RULES(&batch, NFPROTO_INET, "marked_"),
				 (3 + (notes ? NSGATE_BYPASS_MARKS_MAX : 0)) * NSGATE_HOOK_MAX);
		nft_batch_free(&batch);
	}
}

/* A hook that is not named queues nothing, but notes what passes it, and knows late answers. */
static void hooks_that_are_not_named_label_all_the_same(void **state)
{
	struct rules_set set = {.generation = 1,
				.ct_state = true,
				.ct_label = true,
				.selective = true,
				.bypass = bypass,
				.bypass_count = 1,
				.queue = {.backend = NSGATE_BACKEND_NFT_QUEUE, .count = 1}};
	struct nft_batch batch;

	(void)state;
	build_hooks(&set, &batch);
	assert_int_equal(RULES(&batch, NFPROTO_INET, "judge_"), 0);
	assert_int_equal(RULES(&batch, NFPROTO_INET, "noted_"), 0);
	assert_int_equal(RULES(&batch, NFPROTO_INET, "marked_"), 3 * NSGATE_HOOK_MAX);
	/* In prerouting and postrouting nothing but the answers: others judge what comes there. */
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		char chain[RULES_CHAIN_NAME_MAX];

		rules_chain_name(chain, "settle", hook);
		if (rules_hook_offloads(hook))
			assert_true(RULES(&batch, NFPROTO_INET, chain) > 4);
		else
			assert_int_equal(RULES(&batch, NFPROTO_INET, chain), 1);
	}
	nft_batch_free(&batch);
}

/* Building on after an error does nothing and reports the first one. */
static void a_failed_batch_stays_failed(void **state)
{
	struct rules_set set = {.hooks = ALL_HOOKS,
				.generation = 1,
				.ct_state = true,
				.ct_label = true,
				.queue = {.backend = NSGATE_BACKEND_NFT_XT, .count = 1}};
	struct nft_batch batch;

	(void)state;
	nft_batch_begin(&batch, "nsgate");
	batch.error = -ENOMEM;
	set.batch = &batch;
	rules_judge(&set, NSGATE_HOOK_OUT);
	rules_label(&set, NSGATE_HOOK_OUT);
	assert_null(batch.rule);
	assert_int_equal(nft_batch_commit(&batch, -1), -ENOMEM);
}

static void nonsense_is_refused(void **state)
{
	const struct rules_queues queues = {.backend = NSGATE_BACKEND_NFT_XT, .count = 1};
	const struct nsgate_rules_spec spec = {.hooks = HOOK(OUT), .generation = 1};
	struct rules_queues bad_queues = queues;
	struct nsgate_rules_spec bad = spec;

	(void)state;
	bad.generation = 0;
	assert_int_equal(rules_install(-1, &queues, &bad), -EINVAL);
	bad.generation = NSGATE_GENERATION_MAX + 1;
	assert_int_equal(rules_install(-1, &queues, &bad), -EINVAL);
	bad = spec;
	bad.hooks = ALL_HOOKS + 1;
	assert_int_equal(rules_install(-1, &queues, &bad), -EINVAL);
	bad_queues.count = 0;
	assert_int_equal(rules_install(-1, &bad_queues, &spec), -EINVAL);
	bad_queues =
		(struct rules_queues){.backend = NSGATE_BACKEND_NFT_XT, .first = 65535, .count = 2};
	assert_int_equal(rules_install(-1, &bad_queues, &spec), -EINVAL);
	/* The last number must be one, too. */
	bad_queues.first = (uint16_t)(65536 - 2 * NSGATE_FLOW_MAX + 1);
	assert_int_equal(rules_install(-1, &bad_queues, &spec), -EINVAL);
	bad_queues.first--;
	assert_int_equal(rules_install(-1, &bad_queues, &spec), -EBADF);
	bad_queues = queues;
	bad_queues.backend = NSGATE_BACKEND_NONE;
	assert_int_equal(rules_install(-1, &bad_queues, &spec), -EINVAL);
	assert_int_equal(rules_install(-1, &queues, &spec), -EBADF);
	bad = spec;
	bad.flags = NSGATE_RULES_STRICT;
	bad_queues.backend = NSGATE_BACKEND_NFT_XT;
	bad_queues.links.count = RULES_GUARDED_LINKS_MAX + 1;
	assert_int_equal(rules_install(-1, &bad_queues, &bad), -E2BIG);
}

static struct nsgate_link many[RULES_GUARDED_LINKS_MAX];

static struct rules_links make_links(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		many[i].ifindex = i + 1;
		snprintf(many[i].name, sizeof(many[i].name), "link%u", i);
	}
	return (struct rules_links){.list = many, .count = count};
}

/* What is kept free, for rules that are still to come. */
#define ROOM 65536

static void take_away_old_sets(struct nft_batch *batch)
{
	char name[RULES_CHAIN_NAME_MAX];

	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++)
		for (int family = 0; rules_hook_offloads(hook) && family < RULES_FAMILIES;
		     family++) {
			rules_denied_set_name(name, (enum rules_family)family, hook);
			nft_delete_set(batch, name);
		}
}

/*
 * The largest batch there is: it has to fit as one message. Everything that a policy can ask for,
 * in a namespace that has as many links as may be, and had as many others before.
 */
static void every_link_has_a_chain_in_one_batch(void **state)
{
	const struct rules_links links = make_links(RULES_GUARDED_LINKS_MAX);
	static uint32_t gone[RULES_GUARDED_LINKS_MAX];
	const struct guard_inventory before = {
		.table = true, .links = gone, .link_count = RULES_GUARDED_LINKS_MAX};
	struct rules_set set = {.hooks = ALL_HOOKS,
				.generation = 1,
				.ct_state = true,
				.ct_label = true,
				.offload = true,
				.denied = true,
				.sets = true,
				.fib = true,
				.selective = true,
				.strict = true,
				.bypass = bypass,
				.bypass_count = NSGATE_BYPASS_MARKS_MAX,
				.queue = {.backend = NSGATE_BACKEND_NFT_XT, .count = 16}};
	struct nft_batch batch;

	(void)state;
	for (uint32_t i = 0; i < RULES_GUARDED_LINKS_MAX; i++)
		gone[i] = 1000000 + i;
	build_hooks(&set, &batch);
	take_away_old_sets(&batch);
	nft_add_table(&batch, 0);
	nft_flush_table(&batch);
	for (int i = 0; i < NSGATE_COUNTER_MAX; i++)
		nft_add_counter(&batch, nsgate_counter_names[i]);
	guard_counter(&batch, true, &before);
	guard_fragments(&batch, true);
	guard_links(&batch, true, true, &links, &before);
	assert_int_equal(batch.error, 0);
	assert_int_equal(batch.family, NFPROTO_INET);
	assert_in_range(batch.used, 1, SEND_BUFFER_MAX - 32 - ROOM);
	check_messages(&batch);
	assert_int_equal(CHAINS(&batch, NFT_MSG_NEWCHAIN, "egress_"), RULES_GUARDED_LINKS_MAX);
	assert_int_equal(RULES(&batch, NFPROTO_NETDEV, "egress_"), RULES_GUARDED_LINKS_MAX);
	assert_int_equal(RULES(&batch, NFPROTO_NETDEV, "guard"), 4);
	assert_int_equal(RULES(&batch, NFPROTO_INET, "guard_out"), 2);
	nft_batch_free(&batch);
}

/* The kernel would take no part of it, so none is sent; and the error says why. */
static void a_batch_that_grows_too_long_fails_as_a_whole(void **state)
{
	struct nft_batch batch;
	size_t used;

	(void)state;
	nft_batch_begin(&batch, "nsgate");
	for (unsigned int i = 0; i < SEND_BUFFER_MAX && !batch.error; i++)
		nft_add_chain(&batch, "one_more");
	assert_int_equal(batch.error, -EMSGSIZE);
	used = batch.used;
	assert_in_range(used, SEND_BUFFER, SEND_BUFFER_MAX - 32);
	nft_rule_begin(&batch, "one_more");
	nft_verdict(&batch, NF_DROP);
	nft_rule_end(&batch);
	assert_int_equal(batch.used, used);
	assert_int_equal(nft_batch_commit(&batch, -1), -EMSGSIZE);
}

/* Nothing where there was nothing; else the table is emptied and no chain is touched. */
static void a_guard_is_emptied_not_deleted(void **state)
{
	const struct rules_links links = make_links(2);
	struct guard_inventory before = {.links = NULL};
	uint32_t bound[] = {1, 9};
	struct nft_batch batch;
	size_t empty;

	(void)state;
	nft_batch_begin(&batch, "nsgate");
	empty = batch.used;
	guard_counter(&batch, false, &before);
	guard_fragments(&batch, false);
	guard_links(&batch, false, true, &links, &before);
	assert_int_equal(batch.used, empty);
	before = (struct guard_inventory){.table = true,
					  .counter = true,
					  .fragment_counter = true,
					  .links = bound,
					  .link_count = 2};
	guard_counter(&batch, false, &before);
	guard_fragments(&batch, false);
	guard_links(&batch, false, true, &links, &before);
	check_messages(&batch);
	assert_int_equal(
		count_messages(&batch, NFPROTO_NETDEV, NFT_MSG_DELRULE, NFTA_RULE_TABLE, "nsgate"),
		1);
	assert_int_equal(CHAINS(&batch, NFT_MSG_DELCHAIN, ""), 0);
	assert_int_equal(CHAINS(&batch, NFT_MSG_NEWCHAIN, ""), 0);
	assert_int_equal(RULES(&batch, NFPROTO_NETDEV, ""), 0);
	nft_batch_free(&batch);
}

/* Link 1 is there and guarded, 2 is new, 9 is gone. */
static void links_are_followed(void **state)
{
	const struct rules_links links = make_links(2);
	uint32_t bound[] = {1, 9};
	const struct guard_inventory before = {.table = true, .links = bound, .link_count = 2};
	struct nft_batch batch;

	(void)state;
	nft_batch_begin(&batch, "nsgate");
	guard_follow_links(&batch, &links, &before);
	check_messages(&batch);
	assert_int_equal(CHAINS(&batch, NFT_MSG_DELCHAIN, "egress_9"), 1);
	assert_int_equal(CHAINS(&batch, NFT_MSG_DELCHAIN, ""), 1);
	assert_int_equal(CHAINS(&batch, NFT_MSG_NEWCHAIN, "egress_1"), 1); /* its name may be new */
	assert_int_equal(CHAINS(&batch, NFT_MSG_NEWCHAIN, "egress_2"), 1);
	assert_int_equal(RULES(&batch, NFPROTO_NETDEV, "egress_1"), 0);
	assert_int_equal(RULES(&batch, NFPROTO_NETDEV, "egress_2"), 1);
	nft_batch_free(&batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_fit),
		cmocka_unit_test(loopback_and_links_are_apart),
		cmocka_unit_test(replies_come_by_the_path_back),
		cmocka_unit_test(what_is_ours_answers_nothing_forwarded),
		cmocka_unit_test(every_rule_set_is_one_small_batch),
		cmocka_unit_test(marks_are_let_alone),
		cmocka_unit_test(every_number_is_used_where_it_can_be),
		cmocka_unit_test(what_the_kernel_cannot_tell_is_not_told),
		cmocka_unit_test(opened_rules_queue_nothing),
		cmocka_unit_test(sets_of_denied_flows_are_replaced),
		cmocka_unit_test(every_hook_knows_the_answers),
		cmocka_unit_test(hooks_that_are_not_named_label_all_the_same),
		cmocka_unit_test(a_failed_batch_stays_failed),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(every_link_has_a_chain_in_one_batch),
		cmocka_unit_test(a_batch_that_grows_too_long_fails_as_a_whole),
		cmocka_unit_test(a_guard_is_emptied_not_deleted),
		cmocka_unit_test(links_are_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
