/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of the rule set can be told without a kernel; tests/platform asks the kernel itself. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

#include "../../broker/rules.h"
#include "../../broker/rules_guard.h"
#include "../../broker/rules_set.h"
#include "nsgate/hook.h"
#include "nsgate/mark.h"

#define HOOK(name) NSGATE_HOOK_BIT(NSGATE_HOOK_##name)
#define ALL_HOOKS (NSGATE_HOOK_BIT(NSGATE_HOOK_MAX) - 1)
/* net.core.wmem_default where nobody changed it: what a batch has to fit into. */
#define SEND_BUFFER 212992

static void names_fit(void **state)
{
	char name[RULES_CHAIN_NAME_MAX];

	(void)state;
	rules_chain_name(name, "judge", NSGATE_HOOK_IN);
	assert_string_equal(name, "judge_in");
	rules_chain_name(name, "notices", NSGATE_HOOK_POSTROUTING);
	assert_string_equal(name, "notices_postrouting");
}

static void hooks_remember_by_their_own_bit(void **state)
{
	(void)state;
	for (uint32_t hooks = 0; hooks <= ALL_HOOKS; hooks++) {
		assert_int_equal(rules_remember_bit(hooks, NSGATE_HOOK_IN), NSGATE_CTMARK_IN);
		assert_int_equal(rules_remember_bit(hooks, NSGATE_HOOK_OUT), NSGATE_CTMARK_OUT);
		assert_int_equal(rules_remember_bit(hooks, NSGATE_HOOK_FORWARD),
				 NSGATE_CTMARK_FORWARD);
	}
}

/* A named hook must never read as its own the bit that prerouting or postrouting left. */
static void borrowed_bits_are_free(void **state)
{
	static const uint32_t borrowers[] = {NSGATE_HOOK_PREROUTING, NSGATE_HOOK_POSTROUTING};
	static const uint32_t owners[] = {NSGATE_HOOK_IN, NSGATE_HOOK_FORWARD, NSGATE_HOOK_OUT};

	(void)state;
	for (uint32_t hooks = 0; hooks <= ALL_HOOKS; hooks++) {
		for (size_t b = 0; b < 2; b++) {
			uint32_t bit = rules_remember_bit(hooks, borrowers[b]);

			for (size_t o = 0; o < 3; o++) {
				if (hooks & NSGATE_HOOK_BIT(owners[o]))
					assert_int_not_equal(bit,
							     rules_remember_bit(hooks, owners[o]));
			}
		}
	}
}

/* No bit only where each flow of that way passes a hook that remembers it. */
static void routing_hooks_remember_unless_others_do(void **state)
{
	uint32_t incoming = HOOK(IN) | HOOK(FORWARD);
	uint32_t outgoing = HOOK(OUT) | HOOK(FORWARD);

	(void)state;
	for (uint32_t hooks = 0; hooks <= ALL_HOOKS; hooks++) {
		assert_int_equal(!rules_remember_bit(hooks, NSGATE_HOOK_PREROUTING),
				 (hooks & incoming) == incoming);
		assert_int_equal(!rules_remember_bit(hooks, NSGATE_HOOK_POSTROUTING),
				 (hooks & outgoing) == outgoing);
	}
}

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

#define CHAINS(batch, type, prefix)                                                                \
	count_messages(batch, NFPROTO_NETDEV, type, NFTA_CHAIN_NAME, prefix)
#define RULES(batch, family, prefix)                                                               \
	count_messages(batch, family, NFT_MSG_NEWRULE, NFTA_RULE_CHAIN, prefix)

static const bool no_sets[RULES_FAMILIES], both_sets[RULES_FAMILIES] = {true, true};

static void build_all_hooks(const struct rules_set *wanted)
{
	struct rules_set set = *wanted;
	struct nft_batch batch;

	nft_batch_begin(&batch, "nsgate");
	set.batch = &batch;
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		rules_denied_sets(&set, hook, no_sets);
		rules_judge(&set, hook);
		rules_settle(&set, hook);
	}
	assert_int_equal(batch.error, 0);
	assert_null(batch.rule);
	assert_in_range(batch.used, 1, SEND_BUFFER / 2);
	check_messages(&batch);
	nft_batch_free(&batch);
}

static void every_rule_set_is_one_small_batch(void **state)
{
	(void)state;
	for (unsigned int bits = 0; bits < 64; bits++) {
		struct rules_set set = {
			.hooks = ALL_HOOKS,
			.generation = NSGATE_CTMARK_GEN_MAX,
			.offload = bits & 1,
			.denied = bits & 32,
			.sets = bits & 32 && bits & 2,
			.ct_state = bits & 2,
			.ct_mark = (bits & 6) == 6,
			.queue = {.backend = bits & 8 ? NSGATE_BACKEND_NFT_QUEUE
						      : NSGATE_BACKEND_NFT_XT,
				  .first = 65520,
				  .count = 16,
				  .bypass = bits & 16},
		};

		build_all_hooks(&set);
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
	rules_denied_sets(&set, NSGATE_HOOK_OUT, no_sets);
	assert_int_equal(SETS(&batch, NFT_MSG_NEWSET, "denied"), 2);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied"), 0);
	rules_denied_sets(&set, NSGATE_HOOK_OUT, both_sets);
	assert_int_equal(SETS(&batch, NFT_MSG_NEWSET, "denied4_out"), 2);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied4_out"), 1);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied6_out"), 1);
	/* Not named, or a hook that sees what others see, too. */
	rules_denied_sets(&set, NSGATE_HOOK_IN, both_sets);
	rules_denied_sets(&set, NSGATE_HOOK_PREROUTING, no_sets);
	assert_int_equal(SETS(&batch, NFT_MSG_NEWSET, "denied"), 4);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied4_in"), 1);
	set.denied = false;
	rules_denied_sets(&set, NSGATE_HOOK_OUT, both_sets);
	assert_int_equal(SETS(&batch, NFT_MSG_NEWSET, "denied"), 4);
	assert_int_equal(SETS(&batch, NFT_MSG_DELSET, "denied4_out"), 2);
	assert_int_equal(batch.error, 0);
	check_messages(&batch);
	nft_batch_free(&batch);
}

/* Whatever the rules are: what the agent denied is dropped where it may come by. */
static void every_hook_knows_the_answer(void **state)
{
	struct rules_set set = {.hooks = ALL_HOOKS, .generation = 1};

	(void)state;
	for (unsigned int bits = 0; bits < 4; bits++) {
		const bool denied = bits & 1, sets = bits & 2;
		struct nft_batch batch;

		nft_batch_begin(&batch, "nsgate");
		set.batch = &batch;
		set.denied = denied;
		set.sets = sets;
		for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
			rules_judge(&set, hook);
			rules_settle(&set, hook);
		}
		/* In in, forward and out: clear, note twice, drop; count the direction, drop. */
		assert_int_equal(RULES(&batch, NFPROTO_INET, "denied_"),
				 denied ? sets ? 12 : 6 : 0);
		assert_int_equal(RULES(&batch, NFPROTO_INET, "dropped_"), denied && sets ? 12 : 0);
		/* The drop, and what rejects: two rules, or one in postrouting. */
		assert_int_equal(RULES(&batch, NFPROTO_INET, "reject_"), 3 * NSGATE_HOOK_MAX - 1);
		nft_batch_free(&batch);
	}
}

/* Building on after an error does nothing and reports the first one. */
static void a_failed_batch_stays_failed(void **state)
{
	struct rules_set set = {.hooks = ALL_HOOKS,
				.generation = 1,
				.ct_state = true,
				.ct_mark = true,
				.queue = {.backend = NSGATE_BACKEND_NFT_XT, .count = 1}};
	struct nft_batch batch;

	(void)state;
	nft_batch_begin(&batch, "nsgate");
	batch.error = -ENOMEM;
	set.batch = &batch;
	rules_judge(&set, NSGATE_HOOK_OUT);
	rules_settle(&set, NSGATE_HOOK_OUT);
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
	bad.generation = NSGATE_CTMARK_GEN_MAX + 1;
	assert_int_equal(rules_install(-1, &queues, &bad), -EINVAL);
	bad = spec;
	bad.hooks = ALL_HOOKS + 1;
	assert_int_equal(rules_install(-1, &queues, &bad), -EINVAL);
	bad_queues.count = 0;
	assert_int_equal(rules_install(-1, &bad_queues, &spec), -EINVAL);
	bad_queues =
		(struct rules_queues){.backend = NSGATE_BACKEND_NFT_XT, .first = 65535, .count = 2};
	assert_int_equal(rules_install(-1, &bad_queues, &spec), -EINVAL);
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

static void every_link_has_a_chain_in_one_batch(void **state)
{
	const struct rules_links links = make_links(RULES_GUARDED_LINKS_MAX);
	const struct guard_inventory nothing = {.links = NULL};
	struct rules_set set = {.hooks = ALL_HOOKS,
				.generation = 1,
				.ct_state = true,
				.ct_mark = true,
				.offload = true,
				.denied = true,
				.sets = true,
				.strict = true,
				.queue = {.backend = NSGATE_BACKEND_NFT_XT, .count = 16}};
	struct nft_batch batch;

	(void)state;
	nft_batch_begin(&batch, "nsgate");
	set.batch = &batch;
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		rules_denied_sets(&set, hook, no_sets);
		rules_judge(&set, hook);
		rules_settle(&set, hook);
	}
	guard_counter(&batch, true, &nothing);
	guard_fragments(&batch, true);
	guard_links(&batch, true, true, &links, &nothing);
	assert_int_equal(batch.error, 0);
	assert_int_equal(batch.family, NFPROTO_INET);
	assert_in_range(batch.used, 1, SEND_BUFFER - 32);
	check_messages(&batch);
	assert_int_equal(CHAINS(&batch, NFT_MSG_NEWCHAIN, "egress_"), RULES_GUARDED_LINKS_MAX);
	assert_int_equal(RULES(&batch, NFPROTO_NETDEV, "egress_"), RULES_GUARDED_LINKS_MAX);
	assert_int_equal(RULES(&batch, NFPROTO_NETDEV, "guard"), 4);
	assert_int_equal(RULES(&batch, NFPROTO_INET, "guard_out"), 2);
	nft_batch_free(&batch);
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
		cmocka_unit_test(hooks_remember_by_their_own_bit),
		cmocka_unit_test(borrowed_bits_are_free),
		cmocka_unit_test(routing_hooks_remember_unless_others_do),
		cmocka_unit_test(every_rule_set_is_one_small_batch),
		cmocka_unit_test(sets_of_denied_flows_are_replaced),
		cmocka_unit_test(every_hook_knows_the_answer),
		cmocka_unit_test(a_failed_batch_stays_failed),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(every_link_has_a_chain_in_one_batch),
		cmocka_unit_test(a_guard_is_emptied_not_deleted),
		cmocka_unit_test(links_are_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
