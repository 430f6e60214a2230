/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names/asked.h"

#include <string.h>

#include "nsgate/shm.h"

#define NO_SLOT UINT32_MAX

static struct names_query *record_of(const struct names_asked *asked, uint32_t slot)
{
	return names_area_query(asked->area, slot);
}

static uint32_t key_of(const struct names_query *query)
{
	const uint64_t hash =
		names_hash_address(query->family, &query->client) ^
		((uint64_t)query->client_port << 16 | query->id) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)(hash ^ hash >> 32) % NAMES_ASKED_MAX;
}

static void link_slot(struct names_asked *asked, uint32_t slot)
{
	const uint32_t key = key_of(record_of(asked, slot));

	asked->next[slot] = asked->places[key];
	asked->places[key] = slot;
	asked->is_used[slot] = true;
}

static void remove_slot(struct names_asked *asked, uint32_t slot)
{
	struct names_query *record = record_of(asked, slot);
	uint32_t *at = &asked->places[key_of(record)];

	__atomic_store_n(&record->state, 0, __ATOMIC_RELEASE);
	while (*at != slot)
		at = &asked->next[*at];
	*at = asked->next[slot];
	asked->is_used[slot] = false;
	if (slot < asked->free)
		asked->free = slot;
}

static bool is_over(const struct names_query *record, uint64_t now_ns)
{
	return now_ns > record->at_ns && now_ns - record->at_ns > NAMES_ASKED_NS;
}

static bool is_same(const struct names_query *a, const struct names_query *b)
{
	return a->id == b->id && a->client_port == b->client_port && a->family == b->family &&
	       a->protocol == b->protocol && a->resolver_port == b->resolver_port &&
	       a->type == b->type && memcmp(&a->client, &b->client, sizeof(a->client)) == 0 &&
	       memcmp(&a->resolver, &b->resolver, sizeof(a->resolver)) == 0 &&
	       domain_equal(&a->domain, &b->domain);
}

static uint32_t find(const struct names_asked *asked, const struct names_query *query)
{
	uint32_t slot = asked->places[key_of(query)];

	while (slot != NO_SLOT && !is_same(record_of(asked, slot), query))
		slot = asked->next[slot];
	return slot;
}

int names_asked_find(const struct names_asked *asked, const struct names_query *query,
		     uint64_t now_ns)
{
	const uint32_t slot = find(asked, query);

	return slot != NO_SLOT && !is_over(record_of(asked, slot), now_ns) ? (int)slot : -1;
}

/* Remove what nobody answered in time; and where all were asked lately, the oldest. */
static void make_room(struct names_asked *asked, uint64_t now_ns)
{
	uint32_t oldest = NO_SLOT;

	for (uint32_t slot = 0; slot < NAMES_ASKED_MAX; slot++) {
		if (!asked->is_used[slot])
			continue;
		if (is_over(record_of(asked, slot), now_ns))
			remove_slot(asked, slot);
		else if (oldest == NO_SLOT ||
			 record_of(asked, slot)->at_ns < record_of(asked, oldest)->at_ns)
			oldest = slot;
	}
	if (asked->free >= NAMES_ASKED_MAX && oldest != NO_SLOT)
		remove_slot(asked, oldest);
}

static bool reach(struct names_asked *asked, uint32_t slot)
{
	struct names_area *area = asked->area;

	if (slot < area->asked_top)
		return true;
	if (shm_reach(record_of(asked, slot), area->asked_size) < 0)
		return false;
	area->asked_top = slot + 1;
	return true;
}

static uint32_t take_slot(struct names_asked *asked, uint64_t now_ns)
{
	for (int i = 0; i < 2; i++) {
		while (asked->free < NAMES_ASKED_MAX && asked->is_used[asked->free])
			asked->free++;
		if (asked->free < NAMES_ASKED_MAX && reach(asked, asked->free))
			return asked->free;
		make_room(asked, now_ns);
	}
	return NO_SLOT;
}

void names_asked_add(struct names_asked *asked, const struct names_query *query)
{
	uint32_t slot = find(asked, query);
	struct names_query *record;

	if (slot != NO_SLOT) { /* asked again */
		record_of(asked, slot)->at_ns = query->at_ns;
		record_of(asked, slot)->oif = query->oif;
		return;
	}
	slot = take_slot(asked, query->at_ns);
	if (slot == NO_SLOT)
		return;
	record = record_of(asked, slot);
	*record = *query; /* its state is 0 until the rest is there */
	__atomic_store_n(&record->state, 1, __ATOMIC_RELEASE);
	link_slot(asked, slot);
}

const struct names_query *names_asked_at(const struct names_asked *asked, int slot)
{
	return record_of(asked, (uint32_t)slot);
}

void names_asked_remove(struct names_asked *asked, int slot)
{
	remove_slot(asked, (uint32_t)slot);
}

void names_asked_open(struct names_asked *asked, struct names_area *area)
{
	memset(asked, 0, sizeof(*asked));
	asked->area = area;
	for (uint32_t i = 0; i < NAMES_ASKED_MAX; i++)
		asked->places[i] = NO_SLOT;
	for (uint32_t slot = 0; slot < area->asked_top && slot < NAMES_ASKED_MAX; slot++) {
		const struct names_query *record = record_of(asked, slot);

		if (record->state == 1 && record->domain.length <= DOMAIN_TEXT_MAX &&
		    record->domain.text[record->domain.length] == '\0')
			link_slot(asked, slot);
	}
}
