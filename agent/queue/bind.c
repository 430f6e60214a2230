/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A policy is put in force between two turns. Its rules take over the counters of the rules of
 * the same name: the old slots are looked up in a table of the new names, in linear time. What
 * the new policy does not have is kept, and looked up in the same way at the next change.
 *
 * The kernel copies packets by the configuration of the moment they are queued. What waits when a
 * policy needs more of them than the last one did (more bytes, the user, single segments) cannot
 * be judged by it; every id handed out so far is noted as stale and goes round once more.
 */
#include <assert.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <string.h>

#include "agent/queue/internal.h"

#define CONFIG_MASK (NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_UID_GID)
#define CONFIG_SIZE (64 * NSGATE_FLOW_MAX) /* bytes of the messages that set it */

/* ---- counters of the rules ---- */

/* Places of the new rules by name hash, open addressing: index + 1, 0 is free. */
struct rule_table {
	uint32_t mask;
	uint16_t slots[2 * NSGATE_RULES_MAX];
};

static_assert(NSGATE_RULES_MAX < UINT16_MAX, "an index and the free mark fit 16 bits");
static_assert((NSGATE_RULES_MAX & (NSGATE_RULES_MAX - 1)) == 0, "the table can be half empty");

static void table_fill(struct rule_table *table, const struct shm_rule *rules, size_t count)
{
	uint32_t size = 1;

	while (size < 2 * count)
		size *= 2;
	table->mask = size - 1;
	memset(table->slots, 0, size * sizeof(table->slots[0]));
	for (size_t i = 0; i < count; i++) {
		uint32_t at = (uint32_t)rules[i].name_hash & table->mask;

		while (table->slots[at])
			at = (at + 1) & table->mask;
		table->slots[at] = (uint16_t)(i + 1);
	}
}

static struct shm_rule *table_find(const struct rule_table *table, struct shm_rule *rules,
				   uint64_t name_hash)
{
	uint32_t at = (uint32_t)name_hash & table->mask;

	for (; table->slots[at]; at = (at + 1) & table->mask) {
		struct shm_rule *rule = &rules[table->slots[at] - 1];

		if (rule->name_hash == name_hash)
			return rule;
	}
	return NULL;
}

static void store_count(struct shm_count *to, const struct shm_count *from)
{
	__atomic_store_n(&to->packets, from->packets, __ATOMIC_RELAXED);
	__atomic_store_n(&to->bytes, from->bytes, __ATOMIC_RELAXED);
}

static void store_rule(struct shm_rule *to, const struct shm_rule *from)
{
	__atomic_store_n(&to->name_hash, from->name_hash, __ATOMIC_RELAXED);
	store_count(&to->count, &from->count);
}

static bool has_hits(const struct shm_rule *slot)
{
	return slot->count.packets || slot->count.bytes;
}

/* Is the slot in use as the counter of that rule, or free and is to be? */
static bool is_stored(const struct shm_rule *slot, const struct shm_rule *wanted)
{
	if (slot->name_hash == wanted->name_hash)
		return slot->count.packets >= wanted->count.packets;
	return !slot->name_hash && !wanted->count.packets && !wanted->count.bytes;
}

/*
 * A rule that is where it was, which is most of them, is not written at all; one without hits has
 * no slot, until it is hit.
 */
static void store_rules(struct shm_queue *shm, const struct shm_rule *rules, uint32_t count)
{
	static const struct shm_rule unused;
	struct shm_rule *slots = shm_rules(shm);

	for (uint32_t i = 0; i < count; i++) {
		const bool is_hit = has_hits(&rules[i]);

		if (!is_hit && !shm_rule_touched(shm->rules_touched, i))
			continue;
		if (shm_rule_reach(shm->rules_touched, slots, i) < 0)
			continue; /* its counters begin anew */
		if (is_stored(&slots[i], &rules[i]))
			continue;
		store_rule(&slots[i], is_hit ? &rules[i] : &unused);
	}
	for (uint32_t i = count; i < shm->rules_used && i < shm->layout.rules; i++) {
		if (shm_rule_touched(shm->rules_touched, i) && slots[i].name_hash)
			store_rule(&slots[i], &unused);
	}
	__atomic_store_n(&shm->rules_used, count, __ATOMIC_RELAXED);
}

/* ---- counters that are not in force ---- */

/* The larger of the two: a crash may have left an old copy of a count behind. */
static void take_count(struct shm_count *to, const struct shm_count *from)
{
	if (from->packets > to->packets)
		*to = *from;
}

static void set_kept_used(struct shm_queue *shm, uint64_t used)
{
	__atomic_store_n(&shm->kept_used, used, __ATOMIC_RELEASE);
}

/* Append. Where all is full, those go that were kept first; where there is no memory, this one. */
static void keep(struct shm_queue *shm, const struct shm_rule *slot)
{
	const uint64_t room = shm->layout.kept, evicted = room / 4;
	struct shm_rule *kept = shm_kept(shm);
	uint64_t used = shm->kept_used;

	if (used >= room) {
		used = room - evicted;
		for (uint64_t i = 0; i < used; i++)
			store_rule(&kept[i], &kept[i + evicted]);
		set_kept_used(shm, used);
	}
	if (used % SHM_RULES_GROUP == 0 &&
	    shm_reach(&kept[used], SHM_RULES_GROUP * sizeof(*kept)) < 0)
		return;
	store_rule(&kept[used], slot);
	set_kept_used(shm, used + 1);
}

/* Take out what is in force now. */
static void unkeep(struct shm_queue *shm, const struct rule_table *table, struct shm_rule *rules,
		   uint64_t fallback_key)
{
	struct shm_rule *kept = shm_kept(shm);
	uint64_t left = 0;

	for (uint64_t i = 0; i < shm->kept_used; i++) {
		const struct shm_rule *slot = &kept[i];

		if (slot->name_hash == fallback_key || table_find(table, rules, slot->name_hash))
			continue;
		if (left != i)
			store_rule(&kept[left], slot);
		left++;
	}
	set_kept_used(shm, left);
}

/*
 * The counts that the rules of the new policy begin with, and its default. What leaves is kept
 * before anything is overwritten, and taken out only after it is in force again: whoever dies in
 * between leaves a count twice, and never none.
 */
static void swap_counters(struct shm_queue *shm, const struct rule_table *table,
			  struct shm_rule *rules, uint32_t count, uint64_t fallback_key)
{
	struct shm_rule fallback = {.name_hash = shm->fallback_key, .count = shm->fallback};
	const struct shm_rule *kept = shm_kept(shm), *slots = shm_rules(shm);

	for (uint32_t i = 0; i < shm->rules_used && i < shm->layout.rules; i++) {
		struct shm_rule *rule;

		if (!shm_rule_touched(shm->rules_touched, i) || !has_hits(&slots[i]))
			continue;
		rule = table_find(table, rules, slots[i].name_hash);
		if (rule)
			take_count(&rule->count, &slots[i].count);
		else
			keep(shm, &slots[i]);
	}
	if (fallback.name_hash != fallback_key) {
		if (has_hits(&fallback))
			keep(shm, &fallback);
		fallback = (struct shm_rule){.name_hash = fallback_key};
	}
	for (uint64_t i = 0; i < shm->kept_used; i++) {
		const struct shm_rule *slot = &kept[i];
		struct shm_rule *rule = slot->name_hash == fallback_key
						? &fallback
						: table_find(table, rules, slot->name_hash);

		if (rule)
			take_count(&rule->count, &slot->count);
	}
	store_rules(shm, rules, count);
	store_count(&shm->fallback, &fallback.count);
	__atomic_store_n(&shm->fallback_key, fallback_key, __ATOMIC_RELAXED);
	if (shm->kept_used)
		unkeep(shm, table, rules, fallback_key);
}

static void keep_counters(struct shm_queue *shm, const struct queue_binding *binding,
			  const struct policy_info *info)
{
	const uint32_t count = (uint32_t)info->rule_count;
	struct shm_rule *scratch = binding->scratch;
	struct rule_table table;

	if (!shm_rules_any_touched(shm->rules_touched) && !shm->kept_used &&
	    !shm->fallback.packets) {
		__atomic_store_n(&shm->rules_used, count, __ATOMIC_RELAXED);
		__atomic_store_n(&shm->fallback_key, binding->fallback_key, __ATOMIC_RELAXED);
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		scratch[i] = (struct shm_rule){.name_hash = info->rules[i].name_hash};
	table_fill(&table, scratch, count);
	swap_counters(shm, &table, scratch, count, binding->fallback_key);
}

/* ---- configuration of the kernel's queue ---- */

static uint32_t wanted_flags(const struct policy_info *info)
{
	return (info->needs & POLICY_NEED_SEGMENTS ? 0 : NFQA_CFG_F_GSO) |
	       (info->open_on_overload ? NFQA_CFG_F_FAIL_OPEN : 0) |
	       (info->needs & POLICY_NEED_OWNER ? NFQA_CFG_F_UID_GID : 0);
}

/*
 * Of a packet that is new to conntrack and comes in, the owner tells that it is of a connection:
 * the kernel has found its socket (end.c).
 */
static uint32_t wanted_new_flags(const struct policy_info *info)
{
	return wanted_flags(info) | (info->rejects ? NFQA_CFG_F_UID_GID : 0);
}

/*
 * Without the id nothing can be marked: packets copied too short are malformed then. A packet has
 * its id a moment before it counts as pending, so all numbers are marked, which costs nothing where
 * nothing waits.
 */
static void mark_stale(struct queue *queue)
{
	struct queue_lines kernel;

	if (queue_kernel_read_lines(queue->proc_fd, queue->number, queue->stride, &kernel) < 0)
		return;
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
		queue->numbers[flow].has_stale = true;
		queue->numbers[flow].stale_id = kernel.id_sequence[flow];
	}
}

static bool append_config(const struct queue *queue, struct nfq_batch *batch, uint32_t copy_range,
			  uint32_t flags, uint32_t new_flags)
{
	for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++)
		if (!nfq_append_config(batch, queue_number_of(queue, (enum nsgate_flow)flow),
				       copy_range, flow == NSGATE_FLOW_NEW ? new_flags : flags,
				       CONFIG_MASK))
			return false;
	return true;
}

/*
 * A refusal comes as a message among the packets and is noted there. What could not be sent is
 * tried again at the next turn, before anything is judged that the policy cannot see whole.
 */
void queue_configure(struct queue *queue)
{
	const struct policy_info *info = policy_info(queue->in_force.policy);
	const uint32_t flags = wanted_flags(info), new_flags = wanted_new_flags(info);
	const uint32_t copy_range =
		info->copy_length < QUEUE_COPY_MAX ? info->copy_length : QUEUE_COPY_MAX;
	const bool sees_less = copy_range > queue->copy_range ||
			       (flags & ~queue->config_flags & NFQA_CFG_F_UID_GID) ||
			       (queue->config_flags & ~flags & NFQA_CFG_F_GSO);
	uint8_t buffer[CONFIG_SIZE];
	struct nfq_batch batch = {.buffer = buffer, .size = sizeof(buffer)};
	int err;

	queue->config_unsent = false;
	if (flags == queue->config_flags && new_flags == queue->new_flags &&
	    copy_range == queue->copy_range)
		return;
	if (!append_config(queue, &batch, copy_range, flags, new_flags))
		return;
	err = queue_send(queue, &batch);
	if (err) {
		queue_note_error(queue, -err);
		queue->config_unsent = true;
		return;
	}
	queue->config_flags = flags;
	queue->new_flags = new_flags;
	queue->copy_range = copy_range;
	if (sees_less)
		mark_stale(queue);
}

/* ---- binding ---- */

#define SWAP(a, b)                                                                                 \
	do {                                                                                       \
		__typeof__(a) swapped_ = (a);                                                      \
		(a) = (b);                                                                         \
		(b) = swapped_;                                                                    \
	} while (0)

void queue_bind(struct queue *queue, struct queue_binding *binding)
{
	memset(queue->clashes, 0, sizeof(queue->clashes)); /* flows are noted anew */
	SWAP(queue->in_force.policy, binding->policy);
	SWAP(queue->in_force.state, binding->state);
	SWAP(queue->links, binding->links);
	SWAP(queue->link_count, binding->link_count);
	SWAP(queue->generation, binding->generation);
	SWAP(queue->in_force.accept_without_policy, binding->accept_without_policy);
	SWAP(queue->in_force.selective, binding->selective);
	queue->in_force.state.counters = shm_rules(queue->shm);
	queue->in_force.state.touched = queue->shm->rules_touched;
	queue->config_unsent = false;
	/* Until the rules in force are those of this policy. */
	queue->in_force.notes_denied = false;
	queue->in_force.turns = false;
	SWAP(queue->in_force.names, binding->names);
	if (!queue->in_force.policy)
		return;

	counters_turn_begin(queue->shm);
	keep_counters(queue->shm, binding, policy_info(queue->in_force.policy));
	counters_turn_end(queue->shm);
	queue_configure(queue);
}
