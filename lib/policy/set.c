/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nsgate/limits.h"
#include "policy/set.h"

#define ALIGNMENT 64

/* ---- records stored once ---- */

void policy_interner_init(struct policy_interner *interner, size_t record_size)
{
	memset(interner, 0, sizeof(*interner));
	interner->record_size = record_size;
}

static uint64_t hash_record(const unsigned char *record, size_t size)
{
	uint64_t hash = size, word;
	size_t at = 0;

	for (; size - at >= sizeof(word); at += sizeof(word)) {
		memcpy(&word, record + at, sizeof(word));
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 29;
	}
	for (; at < size; at++)
		hash = (hash ^ record[at]) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

static unsigned char *record_at(const struct policy_interner *interner, uint32_t number)
{
	return interner->records + number * interner->record_size;
}

static int resize_records(struct policy_interner *interner, uint32_t room)
{
	size_t size = room * interner->record_size;
	unsigned char *records;

	size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	records = aligned_alloc(ALIGNMENT, size);
	if (!records)
		return -ENOMEM;
	if (interner->records)
		memcpy(records, interner->records, interner->count * interner->record_size);
	free(interner->records);
	interner->records = records;
	interner->room = room;
	return 0;
}

/* The slot of a record, or the free one where it would be. */
static uint32_t *find_slot(const struct policy_interner *interner, const void *record)
{
	uint32_t at = (uint32_t)hash_record(record, interner->record_size);

	for (;; at++) {
		uint32_t *slot = &interner->slots[at & (interner->slot_count - 1)];

		if (*slot == 0 ||
		    memcmp(record_at(interner, *slot - 1), record, interner->record_size) == 0)
			return slot;
	}
}

static int resize_slots(struct policy_interner *interner, uint32_t slot_count)
{
	uint32_t *slots = calloc(slot_count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	free(interner->slots);
	interner->slots = slots;
	interner->slot_count = slot_count;
	for (uint32_t i = 0; i < interner->count; i++)
		*find_slot(interner, record_at(interner, i)) = i + 1;
	return 0;
}

int policy_interner_add(struct policy_interner *interner, const void *record, uint32_t *ret)
{
	uint32_t *slot;
	int err;

	if (interner->count >= interner->slot_count / 2) {
		err = resize_slots(interner, interner->slot_count ? interner->slot_count * 2 : 32);
		if (err < 0)
			return err;
	}
	slot = find_slot(interner, record);
	if (*slot == 0) {
		if (interner->count == interner->room) {
			err = resize_records(interner, interner->room ? interner->room * 2 : 8);
			if (err < 0)
				return err;
		}
		memcpy(record_at(interner, interner->count), record, interner->record_size);
		*slot = ++interner->count;
	}
	*ret = *slot - 1;
	return 0;
}

void policy_interner_seal(struct policy_interner *interner)
{
	free(interner->slots);
	interner->slots = NULL;
	interner->slot_count = 0;
	if (interner->count > 0 && interner->count < interner->room)
		resize_records(interner, interner->count); /* keeps what it has on failure */
}

void policy_interner_free(struct policy_interner *interner)
{
	free(interner->records);
	free(interner->slots);
	policy_interner_init(interner, interner->record_size);
}

/* ---- sets ---- */

#define EMPTY_CHUNK 0 /* the first to be stored */

static_assert(NSGATE_RULES_MAX <= 32 * POLICY_CHUNK_RULES, "a set's mask has a bit for each chunk");

int policy_sets_init(struct policy_sets *sets, size_t rule_count)
{
	const struct policy_chunk empty = {.words = {0}};
	uint32_t number;

	sets->chunks_per_set = (rule_count + POLICY_CHUNK_RULES - 1) / POLICY_CHUNK_RULES;
	policy_interner_init(&sets->chunks, sizeof(struct policy_chunk));
	policy_interner_init(&sets->sets, (1 + sets->chunks_per_set) * sizeof(uint32_t));
	return policy_interner_add(&sets->chunks, &empty, &number);
}

void policy_sets_seal(struct policy_sets *sets)
{
	policy_interner_seal(&sets->chunks);
	policy_interner_seal(&sets->sets);
}

void policy_sets_free(struct policy_sets *sets)
{
	policy_interner_free(&sets->chunks);
	policy_interner_free(&sets->sets);
}

int policy_set_draft_init(struct policy_set_draft *draft, const struct policy_sets *sets)
{
	draft->chunk_count = sets->chunks_per_set;
	draft->chunks = calloc(draft->chunk_count, sizeof(*draft->chunks));
	draft->record = calloc(1 + draft->chunk_count, sizeof(*draft->record));
	draft->changed = calloc(draft->chunk_count, sizeof(*draft->changed));
	return draft->chunks && draft->record && draft->changed ? 0 : -ENOMEM;
}

void policy_set_draft_clear(struct policy_set_draft *draft)
{
	memset(draft->chunks, 0, draft->chunk_count * sizeof(*draft->chunks));
	memset(draft->record, 0, (1 + draft->chunk_count) * sizeof(*draft->record));
	memset(draft->changed, 0, draft->chunk_count * sizeof(*draft->changed));
}

void policy_set_draft_toggle(struct policy_set_draft *draft, size_t rule)
{
	size_t chunk = rule / POLICY_CHUNK_RULES, bit = rule % POLICY_CHUNK_RULES;

	draft->chunks[chunk].words[bit / 64] ^= UINT64_C(1) << bit % 64;
	draft->changed[chunk] = true;
}

int policy_set_draft_store(struct policy_set_draft *draft, struct policy_sets *sets, uint32_t *ret)
{
	int err;

	for (size_t i = 0; i < draft->chunk_count; i++) {
		if (!draft->changed[i])
			continue;
		err = policy_interner_add(&sets->chunks, &draft->chunks[i], &draft->record[1 + i]);
		if (err < 0)
			return err;
		if (draft->record[1 + i] == EMPTY_CHUNK)
			draft->record[0] &= ~(UINT32_C(1) << i);
		else
			draft->record[0] |= UINT32_C(1) << i;
		draft->changed[i] = false;
	}
	return policy_interner_add(&sets->sets, draft->record, ret);
}

void policy_set_draft_free(struct policy_set_draft *draft)
{
	free(draft->chunks);
	free(draft->record);
	free(draft->changed);
}
