// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Every pattern ends in a whole name: a.b is the end of "a.b", "*.a.b", ".a.b" and "x*y.a.b". An
 * entry is such an end with what is said of it: which lists want it itself, which want all below,
 * and the labels with a star that may stand in front. The table finds an entry by a hash that is
 * computed from the last byte to the first, so one walk over a name has the hashes of all its ends.
 *
 * Nobody but who writes policies puts anything into the table, and who asks for names only looks,
 * so the hash need not withstand anybody: the longest run of slots is the policy's.
 */
#include "proto/domain_set.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_FIRST 64
#define NOTHING UINT32_MAX

struct star {
	uint64_t lists;
	uint32_t next;	       /* of the same entry; NOTHING: the last */
	uint8_t before, after; /* bytes of `text` on each side of the star */
	char text[DOMAIN_LABEL_MAX];
};

struct entry {
	uint64_t itself, below; /* lists */
	uint32_t text;		/* its name: an offset in the set's texts */
	uint32_t stars;		/* the first of them; NOTHING: none */
	uint8_t length;
	uint8_t star_count;
};

struct slot {
	uint32_t hash;
	uint32_t entry; /* NOTHING: free */
};

struct domain_set {
	struct slot *slots;
	size_t slot_count;     /* a power of two, at least twice the entries */
	struct entry *entries; /* the first is the root's */
	size_t entry_count, entry_room;
	struct star *stars;
	size_t star_count, star_room;
	char *texts;
	size_t text_length, text_room;
	size_t pattern_count;
};

/* One byte more at the front of an end; the multiplier is FNV's (draft-eastlake-fnv). */
static uint64_t hash_step(uint64_t hash, char byte)
{
	return (hash ^ (uint8_t)byte) * UINT64_C(0x100000001b3);
}

#define HASH_FIRST UINT64_C(0xcbf29ce484222325)

static uint64_t hash_end(const char *text, size_t length)
{
	uint64_t hash = HASH_FIRST;

	while (length > 0)
		hash = hash_step(hash, text[--length]);
	return hash;
}

/* The upper half: the lower bits of a product know nothing of the upper bits of its factors. */
static uint32_t hash_half(uint64_t hash)
{
	return (uint32_t)(hash >> 32);
}

static struct entry *find(const struct domain_set *set, uint64_t hash, const char *text,
			  size_t length)
{
	const size_t mask = set->slot_count - 1;

	for (size_t i = hash_half(hash) & mask; set->slots[i].entry != NOTHING;
	     i = (i + 1) & mask) {
		struct entry *entry = &set->entries[set->slots[i].entry];

		if (set->slots[i].hash == hash_half(hash) && entry->length == length &&
		    memcmp(set->texts + entry->text, text, length) == 0)
			return entry;
	}
	return NULL;
}

/* ---- adding ---- */

struct domain_set *domain_set_new(void)
{
	struct domain_set *set = calloc(1, sizeof(*set));

	if (!set)
		return NULL;
	set->slots = malloc(SLOTS_FIRST * sizeof(*set->slots));
	set->entries = malloc(sizeof(*set->entries));
	if (!set->slots || !set->entries) {
		domain_set_free(set);
		return NULL;
	}
	memset(set->slots, 0xff, SLOTS_FIRST * sizeof(*set->slots));
	set->slot_count = SLOTS_FIRST;
	set->entries[0] = (struct entry){.stars = NOTHING};
	set->entry_count = set->entry_room = 1;
	return set;
}

void domain_set_free(struct domain_set *set)
{
	if (!set)
		return;
	free(set->slots);
	free(set->entries);
	free(set->stars);
	free(set->texts);
	free(set);
}

/* An array with room for `more` further elements, moved where it had none; NULL without memory. */
static void *reserve(void *array, size_t *room, size_t count, size_t more, size_t size)
{
	size_t wanted = *room ? *room : 16;
	void *bigger;

	while (wanted < count + more)
		wanted *= 2;
	if (wanted == *room)
		return array;
	bigger = realloc(array, wanted * size);
	if (bigger)
		*room = wanted;
	return bigger;
}

static int reserve_entry(struct domain_set *set)
{
	struct entry *entries =
		reserve(set->entries, &set->entry_room, set->entry_count, 1, sizeof(*set->entries));

	if (!entries)
		return -ENOMEM;
	set->entries = entries;
	return 0;
}

static int reserve_star(struct domain_set *set)
{
	struct star *stars =
		reserve(set->stars, &set->star_room, set->star_count, 1, sizeof(*set->stars));

	if (!stars)
		return -ENOMEM;
	set->stars = stars;
	return 0;
}

static int reserve_text(struct domain_set *set, size_t length)
{
	char *texts = reserve(set->texts, &set->text_room, set->text_length, length, 1);

	if (!texts)
		return -ENOMEM;
	set->texts = texts;
	return 0;
}

static void occupy(struct slot *slots, size_t slot_count, struct slot slot)
{
	size_t i = slot.hash & (slot_count - 1);

	while (slots[i].entry != NOTHING)
		i = (i + 1) & (slot_count - 1);
	slots[i] = slot;
}

static int grow_slots(struct domain_set *set)
{
	const size_t count = set->slot_count * 2;
	struct slot *slots;

	if ((set->entry_count + 1) * 2 <= set->slot_count)
		return 0;
	slots = malloc(count * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memset(slots, 0xff, count * sizeof(*slots));
	for (size_t i = 0; i < set->slot_count; i++)
		if (set->slots[i].entry != NOTHING)
			occupy(slots, count, set->slots[i]);
	free(set->slots);
	set->slots = slots;
	set->slot_count = count;
	return 0;
}

/* The entry of an end, made where there is none. */
static int need_entry(struct domain_set *set, const char *text, size_t length,
		      struct entry **ret_entry)
{
	const uint64_t hash = hash_end(text, length);

	*ret_entry = length ? find(set, hash, text, length) : &set->entries[0];
	if (*ret_entry)
		return 0;
	if (reserve_entry(set) < 0 || reserve_text(set, length) < 0 || grow_slots(set) < 0)
		return -ENOMEM;
	memcpy(set->texts + set->text_length, text, length);
	occupy(set->slots, set->slot_count,
	       (struct slot){.hash = hash_half(hash), .entry = (uint32_t)set->entry_count});
	*ret_entry = &set->entries[set->entry_count++];
	**ret_entry = (struct entry){
		.text = (uint32_t)set->text_length, .stars = NOTHING, .length = (uint8_t)length};
	set->text_length += length;
	return 0;
}

static int add_star(struct domain_set *set, uint64_t lists, const struct domain_pattern *pattern)
{
	const char *text = pattern->domain.text;
	const char *dot = memchr(text, '.', pattern->domain.length);
	const size_t label = dot ? (size_t)(dot - text) : pattern->domain.length;
	struct entry *entry;
	struct star *star;

	if (reserve_star(set) < 0 ||
	    need_entry(set, dot ? dot + 1 : "", dot ? pattern->domain.length - label - 1 : 0,
		       &entry) < 0)
		return -ENOMEM;
	for (uint32_t i = entry->stars; i != NOTHING; i = set->stars[i].next) {
		star = &set->stars[i];
		if (star->before == pattern->star && star->before + star->after == (int)label &&
		    memcmp(star->text, text, label) == 0) {
			star->lists |= lists;
			return 0;
		}
	}
	if (entry->star_count == DOMAIN_SET_STARS_MAX)
		return -ENOSPC;
	star = &set->stars[set->star_count];
	*star = (struct star){.lists = lists,
			      .next = entry->stars,
			      .before = pattern->star,
			      .after = (uint8_t)(label - pattern->star)};
	memcpy(star->text, text, label);
	entry->stars = (uint32_t)set->star_count++;
	entry->star_count++;
	return 0;
}

static int add_end(struct domain_set *set, uint64_t lists, const struct domain_pattern *pattern)
{
	struct entry *entry;

	if (need_entry(set, pattern->domain.text, pattern->domain.length, &entry) < 0)
		return -ENOMEM;
	if (pattern->kind != DOMAIN_PATTERN_BELOW)
		entry->itself |= lists;
	if (pattern->kind != DOMAIN_PATTERN_EXACT)
		entry->below |= lists;
	return 0;
}

int domain_set_add(struct domain_set *set, unsigned int list, const struct domain_pattern *pattern)
{
	const uint64_t lists = UINT64_C(1) << list;
	int err;

	if (set->pattern_count == DOMAIN_SET_PATTERNS_MAX)
		return -E2BIG;
	err = pattern->kind == DOMAIN_PATTERN_STAR ? add_star(set, lists, pattern)
						   : add_end(set, lists, pattern);
	if (!err)
		set->pattern_count++;
	return err;
}

/* ---- looking up ---- */

static uint64_t match_stars(const struct domain_set *set, const struct entry *entry,
			    const char *label, size_t length)
{
	uint64_t lists = 0;

	for (uint32_t i = entry->stars; i != NOTHING; i = set->stars[i].next) {
		const struct star *star = &set->stars[i];

		if (length >= (size_t)star->before + star->after &&
		    memcmp(label, star->text, star->before) == 0 &&
		    memcmp(label + length - star->after, star->text + star->before, star->after) ==
			    0)
			lists |= star->lists;
	}
	return lists;
}

uint64_t domain_set_match(const struct domain_set *set, const struct domain *domain)
{
	static const struct entry nothing = {.stars = NOTHING};
	const struct entry *above = &set->entries[0], *entry;
	size_t end = domain->length; /* of the label that the walk is in */
	uint64_t hash = HASH_FIRST, lists = 0;

	for (size_t i = domain->length; i-- > 0;) {
		hash = hash_step(hash, domain->text[i]);
		if (i > 0 && domain->text[i - 1] != '.')
			continue;
		entry = find(set, hash, domain->text + i, domain->length - i);
		lists |= above->below;
		if (i > 0) {
			above = entry ? entry : &nothing;
			end = i - 1;
			continue;
		}
		if (entry)
			lists |= entry->itself;
		lists |= match_stars(set, above, domain->text, end);
	}
	return lists;
}
