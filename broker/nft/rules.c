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
 * keeps the rules of settle_<hook>, and a pause leaves them all. In the hooks in, out and forward
 * they are there always.
 *
 * Sets of denied flows (broker/nft/denied.c) are replaced in the batch, too: rules begin with empty
 * ones.
 *
 * The table of the guard (broker/nft/guard.c) is of another family and changes in the same batch.
 *
 * Where tables are owned, those that an earlier broker left are taken over in a batch before.
 *
 * The kernel is not asked what it can do in each namespace. Where it refuses an expression, the
 * batch is built again without sets of denied flows, without conntrack's labels, then without
 * conntrack at all.
 */
#include "broker/nft/rules.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include "nsgate/hook.h"
#include "nsgate/flow.h"
#include "broker/nft/denied.h"
#include "broker/nft/guard.h"
#include "broker/nft/set.h"
#include "broker/nft/table.h"

#define TRIAL_TABLE "nsgate_trial"

/* What the table holds before a change. */
struct inventory {
	struct rules_tables tables;
	bool counter[NSGATE_COUNTER_MAX];
	bool hook[NSGATE_HOOK_MAX]; /* has its chains */
	bool denied[NSGATE_HOOK_MAX][RULES_FAMILIES];
	struct guard_inventory guard;
};

static int look(int r, bool *ret_exists)
{
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_exists = r == 0;
	return 0;
}

static int look_for_sets(int fd, const char *table, uint32_t hook, bool ret_exist[RULES_FAMILIES])
{
	char name[RULES_CHAIN_NAME_MAX];
	int r = 0;

	for (int family = 0; family < RULES_FAMILIES && r == 0; family++) {
		rules_denied_set_name(name, (enum rules_family)family, hook);
		r = look(nft_find_set(fd, NFPROTO_INET, table, name), &ret_exist[family]);
	}
	return r;
}

static int look_into_table(int fd, struct inventory *ret)
{
	const char *table = ret->tables.inet.name;
	char chain[RULES_CHAIN_NAME_MAX];
	int r = 0;

	for (int i = 0; i < NSGATE_COUNTER_MAX && r == 0; i++)
		r = look(nft_find_counter(fd, NFPROTO_INET, table, nsgate_counter_names[i]),
			 &ret->counter[i]);
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX && r == 0; hook++) {
		rules_chain_name(chain, "judge", hook);
		r = look(nft_find_chain(fd, NFPROTO_INET, table, chain), &ret->hook[hook]);
		if (r == 0 && rules_hook_offloads(hook))
			r = look_for_sets(fd, table, hook, ret->denied[hook]);
	}
	return r;
}

/* Two questions where there is no table: until rules are back, what somebody flushed is open. */
static int take_inventory(int fd, struct inventory *ret)
{
	int r = rules_tables_find(fd, &ret->tables);

	if (r == 0 && ret->tables.inet.exists)
		r = look_into_table(fd, ret);
	ret->guard = (struct guard_inventory){.links = NULL};
	return r ? r : guard_take_inventory(fd, &ret->tables, &ret->guard);
}

static void inventory_free(struct inventory *inventory)
{
	guard_inventory_free(&inventory->guard);
}

#define OWNED (NFT_TABLE_F_OWNER | NFT_TABLE_PERSIST)

static void begin_batch(struct nft_batch *batch, const struct rules_tables *tables,
			uint32_t generation)
{
	nft_batch_begin_at(batch, tables->inet.name, generation);
	nft_batch_name_netdev(batch, tables->netdev.name);
}

/*
 * Become the owner of tables that outlived theirs, by themselves: the kernel refuses new base
 * chains in a batch that changes the flags of their table.
 */
static int adopt(int fd, const struct inventory *inventory)
{
	const struct rules_tables *tables = &inventory->tables;
	struct nft_batch batch;

	if (!tables->inet.exists && !tables->netdev.exists)
		return 0;
	begin_batch(&batch, tables, 0);
	if (tables->inet.exists)
		nft_add_table(&batch, OWNED);
	nft_batch_turn(&batch, NFPROTO_NETDEV);
	if (tables->netdev.exists)
		nft_add_table(&batch, OWNED);
	return nft_batch_commit(&batch, fd);
}

static void build(const struct rules_set *set, bool owned, const struct rules_links *links,
		  const struct inventory *inventory)
{
	nft_add_table(set->batch, owned ? OWNED : 0);
	nft_flush_table(set->batch);

	/* Counters that exist keep their values only if the batch does not mention them. */
	for (int i = 0; i < NSGATE_COUNTER_MAX; i++) {
		if (!inventory->counter[i])
			nft_add_counter(set->batch, nsgate_counter_names[i]);
	}
	guard_counter(set->batch, set->strict, &inventory->guard);
	if (set->ct_label)
		rules_unsure(set);
	for (uint32_t hook = 0; hook < NSGATE_HOOK_MAX; hook++) {
		bool named = set->hooks & NSGATE_HOOK_BIT(hook);

		denied_sets_add(set, hook, inventory->denied[hook]);
		if (named || rules_judges_looped(set, hook))
			rules_judge(set, hook);
		if (named || inventory->hook[hook] || rules_hook_offloads(hook))
			rules_label(set, hook);
	}
	guard_fragments(set->batch, set->strict);
	guard_links(set->batch, set->strict, owned, links, &inventory->guard);
}

struct links_now {
	struct nsgate_link list[RULES_GUARDED_LINKS_MAX];
	unsigned int count;
};

static void look_up_link(int fd, uint32_t ifindex, struct links_now *now)
{
	struct ifreq request = {.ifr_ifindex = (int)ifindex};
	struct nsgate_link *link = &now->list[now->count];

	for (unsigned int i = 0; i < now->count; i++)
		if (now->list[i].ifindex == ifindex)
			return;
	if (now->count == RULES_GUARDED_LINKS_MAX || ioctl(fd, SIOCGIFNAME, &request) < 0)
		return;
	link->ifindex = ifindex;
	memcpy(link->name, request.ifr_name, sizeof(link->name));
	now->count++;
}

/* The links told of, and those guarded already, that are still there, by the names of now. */
static struct rules_links look_up_links(int fd, const struct rules_links *told,
					const struct guard_inventory *guarded,
					struct links_now *now)
{
	now->count = 0;
	for (unsigned int i = 0; i < told->count; i++)
		look_up_link(fd, told->list[i].ifindex, now);
	for (unsigned int i = 0; i < guarded->link_count; i++)
		look_up_link(fd, guarded->links[i], now);
	return (struct rules_links){.list = now->list, .count = now->count};
}

/* `at`: the generation of the rule set that is to be changed; 0: of any. */
static int try_install(int fd, const struct rules_set *wanted, const struct rules_queues *queues,
		       uint32_t at)
{
	struct rules_set set = *wanted;
	struct inventory inventory = {.counter = {false}};
	struct rules_links links;
	struct links_now now;
	struct nft_batch batch;
	int r = take_inventory(fd, &inventory);

	if (r == 0 && queues->owned)
		r = adopt(fd, &inventory);
	if (!queues->owned)
		rules_tables_keep_name(&inventory.tables);
	if (r == 0) {
		links = look_up_links(fd, &queues->links, &inventory.guard, &now);
		begin_batch(&batch, &inventory.tables, at);
		set.batch = &batch;
		build(&set, queues->owned, &links, &inventory);
		r = nft_batch_commit(&batch, fd);
	}
	if (r == 0)
		rules_tables_tidy(fd, &inventory.tables);
	inventory_free(&inventory);
	return r;
}

/*
 * Where anybody may change the table, the kernel is told which rule set was looked at. Somebody who
 * changes rules all the time must not keep ours out, so the last try takes any.
 */
#define PIN_TRIES 4

static int pin(int fd, const struct rules_set *wanted, const struct rules_queues *queues,
	       int (*try)(int, const struct rules_set *, const struct rules_queues *, uint32_t))
{
	int r = -ERESTART;

	if (!queues->ret_generation)
		return try(fd, wanted, queues, 0);
	for (int i = 0; r == -ERESTART && i <= PIN_TRIES; i++) {
		uint32_t at = 0;

		r = i < PIN_TRIES ? nft_generation(fd, &at) : 0;
		if (r == 0)
			r = try(fd, wanted, queues, at);
		if (r == 0)
			*queues->ret_generation = at ? nft_generation_after(at) : 0;
	}
	return r;
}

/*
 * ENOENT can mean that a link went or was renamed right now (before Linux 6.16). A kernel that
 * lacks an expression says so every time.
 */
#define LINK_TRIES 3
/* And EPERM, that somebody made himself the owner of the table since it was looked for. */
#define OWNER_TRIES 3

static int install(int fd, const struct rules_set *wanted, const struct rules_queues *queues)
{
	int r = pin(fd, wanted, queues, try_install);

	for (int i = 1; r == -ENOENT && wanted->strict && i < LINK_TRIES; i++)
		r = pin(fd, wanted, queues, try_install);
	for (int i = 1; r == -EPERM && i < OWNER_TRIES; i++)
		r = pin(fd, wanted, queues, try_install);
	return r;
}

/* Delete what there is of our tables. Return: whether there is any. */
static bool delete_tables(struct nft_batch *batch, const struct rules_tables *tables)
{
	if (tables->inet.exists)
		nft_delete_table(batch);
	nft_batch_turn(batch, NFPROTO_NETDEV);
	if (tables->netdev.exists)
		nft_delete_table(batch);
	nft_batch_turn(batch, NFPROTO_INET);
	return tables->inet.exists || tables->netdev.exists;
}

static int try_anew(int fd, const struct rules_set *wanted, const struct rules_queues *queues,
		    uint32_t at)
{
	const struct inventory nothing = {.counter = {false}};
	struct rules_set set = *wanted;
	struct rules_tables tables;
	struct rules_links links;
	struct links_now now;
	struct nft_batch batch;
	int r = rules_tables_find(fd, &tables);

	if (r < 0)
		return r;
	if (!queues->owned)
		rules_tables_keep_name(&tables);
	links = look_up_links(fd, &queues->links, &nothing.guard, &now);
	begin_batch(&batch, &tables, at);
	delete_tables(&batch, &tables);
	set.batch = &batch;
	build(&set, queues->owned, &links, &nothing);
	return nft_batch_commit(&batch, fd);
}

/* As install(), in place of tables that somebody else made. */
static int install_anew(int fd, const struct rules_set *wanted, const struct rules_queues *queues)
{
	return pin(fd, wanted, queues, try_anew);
}

static bool means_foreign_table(int error)
{
	return error == -EEXIST || error == -EOPNOTSUPP;
}

static bool valid(const struct rules_queues *queues, const struct nsgate_rules_spec *spec)
{
	if (spec->hooks & ~(NSGATE_HOOK_BIT(NSGATE_HOOK_MAX) - 1))
		return false;
	if (spec->generation < 1 || spec->generation > NSGATE_GENERATION_MAX)
		return false;
	if (queues->backend != NSGATE_BACKEND_NFT_QUEUE && queues->backend != NSGATE_BACKEND_NFT_XT)
		return false;
	return queues->count >= 1 &&
	       queues->first + NSGATE_FLOW_MAX * queues->count - 1U <= UINT16_MAX;
}

static int install_set(int fd, const struct rules_queues *queues,
		       const struct nsgate_rules_spec *spec, bool opened)
{
	const uint32_t denying = NSGATE_RULES_OFFLOAD | NSGATE_RULES_DENIED;
	const uint32_t selective =
		NSGATE_RULES_BYPASS | NSGATE_RULES_OVERLOAD | NSGATE_RULES_CONSUMERS;
	struct rules_set set = {
		.hooks = spec->hooks,
		.generation = spec->generation,
		.offload = spec->flags & NSGATE_RULES_OFFLOAD,
		.denied = (spec->flags & denying) == denying,
		.opened = opened,
		.selective = spec->flags & selective,
		.strict = spec->flags & NSGATE_RULES_STRICT,
		.names = spec->flags & NSGATE_RULES_NAMES,
		.fib = queues->fib,
		.bypass = spec->bypass,
		.bypass_count = spec->bypass_count,
		.queue = {.backend = queues->backend,
			  .first = queues->first,
			  .count = queues->count,
			  .bypass = spec->flags & NSGATE_RULES_BYPASS},
	};
	/* From all that conntrack and sets offer to none of it. */
	static const struct {
		bool sets, state, label;
	} levels[] = {{true, true, true},
		      {false, true, true},
		      {false, true, false},
		      {false, false, false}};
	int first_error = 0;

	if (!valid(queues, spec))
		return -EINVAL;
	for (unsigned int i = 0; i < NSGATE_ANSWER_MAX; i++)
		set.answers[i] = nsgate_answer_mark(queues->cookie, (enum nsgate_answer)i);
	if (set.strict && queues->links.count > RULES_GUARDED_LINKS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		int r;

		if (levels[i].sets && (!set.denied || opened))
			continue; /* an answer that is late is understood all the same */
		set.sets = levels[i].sets;
		set.ct_state = levels[i].state;
		set.ct_label = levels[i].label;
		r = install(fd, &set, queues);
		if (means_foreign_table(r)) {
			int again = install_anew(fd, &set, queues);

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

static int try_follow_links(int fd, const struct rules_links *links)
{
	struct guard_inventory inventory;
	struct rules_tables tables;
	struct rules_links current;
	struct links_now now;
	struct nft_batch batch;
	int r = rules_tables_find(fd, &tables);

	if (r < 0)
		return r;
	r = guard_take_inventory(fd, &tables, &inventory);
	if (r == 0) {
		current = look_up_links(fd, links, &inventory, &now);
		begin_batch(&batch, &tables, 0);
		guard_follow_links(&batch, &current, &inventory);
		r = nft_batch_commit(&batch, fd);
	}
	guard_inventory_free(&inventory);
	return r;
}

int rules_follow_links(int fd, const struct rules_links *links)
{
	int r = -ENOENT;

	if (links->count > RULES_GUARDED_LINKS_MAX)
		return -E2BIG;
	for (int i = 0; r == -ENOENT && i < LINK_TRIES; i++)
		r = try_follow_links(fd, links);
	return r;
}

int rules_pause(int fd)
{
	struct inventory inventory = {.counter = {false}};
	struct nft_batch batch;
	char chain[RULES_CHAIN_NAME_MAX];
	bool any = false;
	int r = take_inventory(fd, &inventory);

	inventory_free(&inventory);
	if (r < 0)
		return r;
	begin_batch(&batch, &inventory.tables, 0);
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
	struct rules_tables tables;
	struct nft_batch batch;
	int r = rules_tables_find(fd, &tables);

	if (r < 0)
		return r;
	rules_tables_tidy(fd, &tables);
	begin_batch(&batch, &tables, 0);
	if (!delete_tables(&batch, &tables)) {
		nft_batch_free(&batch);
		return 0;
	}
	r = nft_batch_commit(&batch, fd);
	return r == -ENOENT ? 0 : r;
}

int rules_table_numbers(int fd, struct rules_table_numbers *ret)
{
	struct rules_tables tables;
	int r = rules_tables_find(fd, &tables);

	if (r == 0) {
		ret->inet = tables.inet.exists ? tables.inet.number : 0;
		ret->netdev = tables.netdev.exists ? tables.netdev.number : 0;
	}
	return r;
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
	if (fill == guard_try) {
		nft_batch_turn(&batch, NFPROTO_NETDEV);
		nft_delete_table(&batch);
	}
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

static void fill_counter(struct nft_batch *batch)
{
	nft_add_counter(batch, "trial");
	nft_add_base_chain(batch, "trial", "filter", NSGATE_HOOK_OUT, RULES_JUDGE_PRIORITY);
	nft_rule_begin(batch, "trial");
	nft_count(batch, "trial");
	nft_rule_end(batch);
}

static void fill_limit(struct nft_batch *batch)
{
	nft_add_base_chain(batch, "trial", "filter", NSGATE_HOOK_OUT, RULES_JUDGE_PRIORITY);
	nft_rule_begin(batch, "trial");
	nft_limit(batch, 1, 1);
	nft_rule_end(batch);
}

static void fill_label(struct nft_batch *batch)
{
	struct nft_label label = {.words = {0}};

	nft_label_add(&label, NSGATE_LABEL_UNSURE);
	nft_add_base_chain(batch, "trial", "filter", NSGATE_HOOK_OUT, RULES_JUDGE_PRIORITY);
	nft_rule_begin(batch, "trial");
	nft_set_label(batch, &label);
	nft_rule_end(batch);
}

static void fill_fib(struct nft_batch *batch)
{
	nft_add_base_chain(batch, "trial", "filter", NSGATE_HOOK_FORWARD, RULES_JUDGE_PRIORITY);
	nft_rule_begin(batch, "trial");
	nft_match_local_source(batch, NFT_CMP_NEQ);
	nft_match_source_elsewhere(batch);
	nft_verdict(batch, NF_DROP);
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
	features.owned_tables = try_table(fd, NFT_TABLE_F_OWNER | NFT_TABLE_PERSIST, NULL) == 0;
	features.counter = try_table(fd, 0, fill_counter) == 0;
	features.limit = try_table(fd, 0, fill_limit) == 0;
	features.label = try_table(fd, 0, fill_label) == 0;
	features.fib = try_table(fd, 0, fill_fib) == 0;
	features.guard = try_table(fd, 0, guard_try) == 0;
	*ret = features;
	return 0;
}
