/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A change of rules is one batch: keep or create the table, delete all rules, keep or create the
 * chains, add the rules. Packets see the rules of before or of after. Packets that wait in a
 * queue are not touched, because no base chain is deleted; with one exception: a table of our
 * name that is not as we would have made it was made by somebody inside the namespace, and is
 * replaced whole in the same batch. The agent's answers to packets that waited meanwhile must not
 * be lost either, as a rejection would turn into an acceptance: a hook that is no longer named
 * keeps its settling rules, and a pause leaves them all.
 *
 * The kernel is not asked what it can do in each namespace. Where it refuses an expression, the
 * batch is built again without connection marks, then without conntrack at all.
 */
#include "rules.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>

#include "nsgate/hook.h"
#include "nsgate/mark.h"
#include "rules_set.h"

#define TABLE "nsgate"
#define TRIAL_TABLE "nsgate_trial"

/* What the table holds before a change. */
struct inventory {
	bool counter[RULES_COUNTERS];
	bool hook[NSGATE_HOOK_MAX]; /* has its chains */
};

static int look(int r, bool *ret_exists)
{
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_exists = r == 0;
	return 0;
}

static int take_inventory(int fd, struct inventory *ret)
{
	char chain[RULES_CHAIN_NAME_MAX];
	int r = 0;

	for (int i = 0; i < RULES_COUNTERS && r == 0; i++)
		r = look(nft_find_counter(fd, TABLE, rules_counter_names[i]), &ret->counter[i]);
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX && r == 0; hook++) {
		rules_chain_name(chain, "judge", hook);
		r = look(nft_find_chain(fd, TABLE, chain), &ret->hook[hook]);
	}
	return r;
}

static void build(const struct rules_set *set, bool owned, const struct inventory *inventory)
{
	nft_add_table(set->batch, owned ? NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST : 0);
	nft_flush_table(set->batch);

	/* Counters that exist keep their values only if the batch does not mention them. */
	for (int i = 0; i < RULES_COUNTERS; i++) {
		if (!inventory->counter[i])
			nft_add_counter(set->batch, rules_counter_names[i]);
	}
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		bool named = set->hooks & NSGATE_HOOK_BIT(hook);

		if (named)
			rules_judge(set, hook);
		if (named || inventory->hook[hook])
			rules_settle(set, hook);
	}
}

static int install(int fd, const struct rules_set *wanted, bool owned)
{
	struct rules_set set = *wanted;
	struct inventory inventory;
	struct nft_batch batch;
	int r = take_inventory(fd, &inventory);

	if (r < 0)
		return r;
	nft_batch_begin(&batch, TABLE);
	set.batch = &batch;
	build(&set, owned, &inventory);
	return nft_batch_commit(&batch, fd);
}

/* As install(), in place of a table that somebody else made. */
static int install_anew(int fd, const struct rules_set *wanted, bool owned)
{
	struct rules_set set = *wanted;
	const struct inventory nothing = {.counter = {false}};
	struct nft_batch batch;

	nft_batch_begin(&batch, TABLE);
	nft_delete_table(&batch);
	set.batch = &batch;
	build(&set, owned, &nothing);
	return nft_batch_commit(&batch, fd);
}

static bool means_foreign_table(int error)
{
	return error == -EEXIST || error == -EOPNOTSUPP;
}

static bool valid(const struct rules_queues *queues, const struct nsgate_rules_spec *spec)
{
	if (spec->hooks & ~(NSGATE_HOOK_BIT(NSGATE_HOOK_MAX) - 1))
		return false;
	if (spec->generation < 1 || spec->generation > NSGATE_CTMARK_GEN_MAX)
		return false;
	if (queues->backend != NSGATE_BACKEND_NFT_QUEUE && queues->backend != NSGATE_BACKEND_NFT_XT)
		return false;
	return queues->count >= 1 && queues->first + queues->count - 1 <= UINT16_MAX;
}

static int install_set(int fd, const struct rules_queues *queues,
		       const struct nsgate_rules_spec *spec, bool opened)
{
	const bool on_overload = spec->flags & NSGATE_RULES_OVERLOAD && !opened;
	struct rules_set set = {
		.hooks = spec->hooks,
		.generation = spec->generation,
		.offload = spec->flags & NSGATE_RULES_OFFLOAD,
		.opened = opened,
		.may_pass = spec->flags & (NSGATE_RULES_BYPASS | NSGATE_RULES_OVERLOAD),
		.unjudged = on_overload ? RULES_COUNTER_OVERLOAD : RULES_COUNTER_AGENT_DOWN,
		.queue = {.backend = queues->backend,
			  .first = queues->first,
			  .count = queues->count,
			  .bypass = spec->flags & NSGATE_RULES_BYPASS},
	};
	/* From all that conntrack offers to none of it. */
	static const struct {
		bool state, mark;
	} levels[] = {{true, true}, {true, false}, {false, false}};
	int first_error = 0;

	if (!valid(queues, spec))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		int r;

		set.ct_state = levels[i].state;
		set.ct_mark = levels[i].mark;
		r = install(fd, &set, queues->owned);
		if (means_foreign_table(r)) {
			int again = install_anew(fd, &set, queues->owned);

			r = again == -ENOENT ? r : again;
		}
		if (r == 0)
			return 0;
		first_error = first_error ? first_error : r;
		if (r != -ENOENT && r != -EOPNOTSUPP)
			break;
	}
	return first_error;
}

int rules_install(int fd, const struct rules_queues *queues, const struct nsgate_rules_spec *spec)
{
	return install_set(fd, queues, spec, false);
}

int rules_open(int fd, const struct rules_queues *queues, const struct nsgate_rules_spec *spec)
{
	return install_set(fd, queues, spec, true);
}

int rules_pause(int fd)
{
	struct inventory inventory;
	struct nft_batch batch;
	char chain[RULES_CHAIN_NAME_MAX];
	bool any = false;
	int r = take_inventory(fd, &inventory);

	if (r < 0)
		return r;
	nft_batch_begin(&batch, TABLE);
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		if (!inventory.hook[hook])
			continue;
		rules_chain_name(chain, "judge", hook);
		nft_flush_chain(&batch, chain);
		any = true;
	}
	if (any)
		return nft_batch_commit(&batch, fd);
	nft_batch_free(&batch);
	return 0;
}

int rules_changed(int fd, uint32_t *generation)
{
	uint32_t now = *generation;
	int r = nft_generation(fd, &now);

	if (r < 0 || now == *generation)
		return r;
	*generation = now;
	return 1;
}

int rules_remove(int fd)
{
	struct nft_batch batch;
	int r;

	nft_batch_begin(&batch, TABLE);
	nft_delete_table(&batch);
	r = nft_batch_commit(&batch, fd);
	return r == -ENOENT ? 0 : r;
}

/* Make a table with what `fill` puts in and remove it again, in one batch. */
static int try_table(int fd, uint32_t flags, void (*fill)(struct nft_batch *))
{
	struct nft_batch batch;
	int r;

	nft_batch_begin(&batch, TRIAL_TABLE);
	nft_add_table(&batch, flags);
	if (fill)
		fill(&batch);
	r = nft_batch_commit(&batch, fd);
	if (r < 0)
		return r;
	nft_batch_begin(&batch, TRIAL_TABLE);
	nft_delete_table(&batch);
	return nft_batch_commit(&batch, fd);
}

static void fill_queue(struct nft_batch *batch, enum nsgate_backend backend)
{
	const struct nft_queue_range range = {
		.backend = backend, .first = 0, .count = 2, .bypass = true};

	nft_add_base_chain(batch, "trial", "filter", NSGATE_HOOK_OUT, RULES_JUDGE_PRIORITY);
	nft_rule_begin(batch, "trial");
	nft_queue(batch, &range);
	nft_rule_end(batch);
}

static void fill_queue_native(struct nft_batch *batch)
{
	fill_queue(batch, NSGATE_BACKEND_NFT_QUEUE);
}

static void fill_queue_xt(struct nft_batch *batch)
{
	fill_queue(batch, NSGATE_BACKEND_NFT_XT);
}

static void fill_connmark(struct nft_batch *batch)
{
	nft_add_base_chain(batch, "trial", "filter", NSGATE_HOOK_OUT, RULES_JUDGE_PRIORITY);
	nft_rule_begin(batch, "trial");
	nft_set_ct_mark(batch, UINT32_MAX, NSGATE_CTMARK_REJECTED);
	nft_rule_end(batch);
}

int rules_probe(int fd, struct rules_features *ret)
{
	struct rules_features features = {.backend = NSGATE_BACKEND_NONE};
	int r = try_table(fd, 0, NULL);

	if (r < 0) /* no privilege, or no nftables at all */
		return r;
	if (try_table(fd, 0, fill_queue_native) == 0)
		features.backend = NSGATE_BACKEND_NFT_QUEUE;
	else if (try_table(fd, 0, fill_queue_xt) == 0)
		features.backend = NSGATE_BACKEND_NFT_XT;
	features.owned_tables = try_table(fd, NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST, NULL) == 0;
	features.connmark = try_table(fd, 0, fill_connmark) == 0;
	*ret = features;
	return 0;
}
