/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of rules, as bits, each different one stored once.
 *
 * A set is cut into chunks of 512 rules (one cache line), and is stored as the list of its
 * chunks' numbers, after a mask of those that are not empty. Sets of one policy mostly differ in
 * a few rules, so they share most of their chunks; and the masks tell a reader what to skip.
 */
#ifndef NSGATE_POLICY_SET_H
#define NSGATE_POLICY_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_CHUNK_WORDS 8
#define POLICY_CHUNK_RULES (POLICY_CHUNK_WORDS * 64)

/* As wide as a register of any 64-bit machine; the compiler makes do where there is none. */
typedef int64_t policy_vector __attribute__((vector_size(16)));

struct policy_chunk {
	union {
		uint64_t words[POLICY_CHUNK_WORDS];
		policy_vector vectors[POLICY_CHUNK_WORDS / 2];
	};
};

/* Records of one size, each different one stored once and numbered in the order of arrival. */
struct policy_interner {
	size_t record_size;
	unsigned char *records; /* aligned to 64 bytes */
	uint32_t count, room;
	uint32_t *slots; /* record's number + 1, or 0; hashed, open addressing */
	uint32_t slot_count;
};

void policy_interner_init(struct policy_interner *interner, size_t record_size);
/* Return: 0 with the number of the record, which is copied if new; -ENOMEM. */
int policy_interner_add(struct policy_interner *interner, const void *record, uint32_t *ret);
/* Give back what only adding needs. Adding again is not possible. */
void policy_interner_seal(struct policy_interner *interner);
void policy_interner_free(struct policy_interner *interner);

struct policy_sets {
	size_t chunks_per_set;
	struct policy_interner chunks; /* of struct policy_chunk */
	struct policy_interner sets;   /* of uint32_t[1 + chunks_per_set] */
};

int policy_sets_init(struct policy_sets *sets, size_t rule_count);
void policy_sets_seal(struct policy_sets *sets);
void policy_sets_free(struct policy_sets *sets);

/* A set: bit i of its first word tells if chunk i has any rule, word 1 + i is chunk i's number. */
static inline const uint32_t *policy_sets_get(const struct policy_sets *sets, uint32_t set)
{
	return (const uint32_t *)(const void *)sets->sets.records +
	       set * (1 + sets->chunks_per_set);
}

static inline const struct policy_chunk *policy_sets_chunk(const struct policy_sets *sets,
							   uint32_t chunk)
{
	return (const struct policy_chunk *)(const void *)sets->chunks.records + chunk;
}

/* A set that changes step by step; only the chunks that changed are looked up again. */
struct policy_set_draft {
	struct policy_chunk *chunks;
	uint32_t *record; /* as it will be stored */
	bool *changed;
	size_t chunk_count;
};

int policy_set_draft_init(struct policy_set_draft *draft, const struct policy_sets *sets);
void policy_set_draft_clear(struct policy_set_draft *draft);
void policy_set_draft_toggle(struct policy_set_draft *draft, size_t rule);
/* Return: 0 with the number of the set that the draft now is; -ENOMEM. */
int policy_set_draft_store(struct policy_set_draft *draft, struct policy_sets *sets, uint32_t *ret);
void policy_set_draft_free(struct policy_set_draft *draft);

#endif
