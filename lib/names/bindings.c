/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * A slot is a record of the area and what we know of it here. Slots of addresses that fall on the
 * same place are a chain. A record is taken back before its slot is given to another, and counts
 * only when it is written whole (names/area.h).
 *
 * What has expired stays until its place is needed: flows that began before go by it.
 */
#include "names/bindings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nsgate/shm.h"

#define LOOKED_AT 8 /* slots, whenever something is added */

static struct names_binding *record_of(const struct names_bindings *bindings, uint32_t slot)
{
	return names_area_binding(bindings->area, slot);
}

static uint32_t *place_of(const struct names_bindings *bindings, uint8_t family,
			  const struct pkt_addr *address)
{
	return &bindings->places[names_hash_address(family, address) & bindings->place_mask];
}

static bool is_of(const struct names_binding *record, uint8_t family,
		  const struct pkt_addr *address)
{
	return record->family == family && memcmp(&record->address, address, sizeof(*address)) == 0;
}

static bool has_expired(const struct names_binding *record, uint64_t now_ns)
{
	return record->expires_ns <= now_ns;
}

static void link_slot(struct names_bindings *bindings, uint32_t slot)
{
	const struct names_binding *record = record_of(bindings, slot);
	uint32_t *place = place_of(bindings, record->family, &record->address);

	bindings->slots[slot] = (struct names_slot){.next = *place, .is_used = true};
	*place = slot;
	bindings->used++;
}

static void remove_slot(struct names_bindings *bindings, uint32_t slot)
{
	struct names_binding *record = record_of(bindings, slot);
	uint32_t *at = place_of(bindings, record->family, &record->address);

	__atomic_store_n(&record->state, 0, __ATOMIC_RELEASE);
	while (*at != slot)
		at = &bindings->slots[*at].next;
	*at = bindings->slots[slot].next;
	bindings->slots[slot].is_used = false;
	bindings->used--;
	if (slot < bindings->free)
		bindings->free = slot;
}

static void note_lapsed(struct names_bindings *bindings, struct names_binding *record)
{
	if (record->has_lapsed)
		return;
	record->has_lapsed = 1;
	bindings->expired++;
}

/* The one to go: an expired one, else the one that was used longest ago and is not pinned. */
static uint32_t find_victim(const struct names_bindings *bindings, uint64_t now_ns)
{
	uint32_t victim = NAMES_NO_SLOT;
	uint64_t oldest = UINT64_MAX;

	for (uint32_t slot = 0; slot < bindings->limit; slot++) {
		const struct names_binding *record = record_of(bindings, slot);
		uint64_t age;

		if (!bindings->slots[slot].is_used)
			continue;
		if (has_expired(record, now_ns))
			age = record->used_ns / 2; /* before all that have not */
		else
			age = record->is_pinned ? UINT64_MAX - 1 : record->used_ns / 2 + INT64_MAX;
		if (age >= oldest)
			continue;
		oldest = age;
		victim = slot;
	}
	return victim;
}

static void evict(struct names_bindings *bindings, uint32_t slot, uint64_t now_ns)
{
	struct names_binding *record = record_of(bindings, slot);

	if (has_expired(record, now_ns))
		note_lapsed(bindings, record);
	else
		bindings->evicted++;
	remove_slot(bindings, slot);
}

/* A record that was never used has to have its memory before it is touched. */
static bool reach(struct names_bindings *bindings, uint32_t slot)
{
	struct names_area *area = bindings->area;

	if (slot < area->bindings_top)
		return true;
	if (shm_reach(record_of(bindings, slot), area->binding_size) < 0)
		return false;
	area->bindings_top = slot + 1;
	return true;
}

static uint32_t find_free(struct names_bindings *bindings)
{
	while (bindings->free < bindings->limit && bindings->slots[bindings->free].is_used)
		bindings->free++;
	return bindings->free < bindings->limit && reach(bindings, bindings->free) ? bindings->free
										   : NAMES_NO_SLOT;
}

static uint32_t take_slot(struct names_bindings *bindings, uint64_t now_ns)
{
	uint32_t slot = find_free(bindings);

	if (slot != NAMES_NO_SLOT)
		return slot;
	slot = find_victim(bindings, now_ns);
	if (slot != NAMES_NO_SLOT)
		evict(bindings, slot, now_ns);
	return slot;
}

/* Find the name of an address; and, where it has as many as it may, the least used of them. */
static uint32_t find(const struct names_bindings *bindings, uint8_t family,
		     const struct pkt_addr *address, const struct domain *domain,
		     uint32_t *ret_surplus)
{
	uint32_t count = 0, least = NAMES_NO_SLOT;

	for (uint32_t slot = *place_of(bindings, family, address); slot != NAMES_NO_SLOT;
	     slot = bindings->slots[slot].next) {
		const struct names_binding *record = record_of(bindings, slot);

		if (!is_of(record, family, address))
			continue;
		if (domain_equal(&record->domain, domain))
			return slot;
		count++;
		if (!record->is_pinned && (least == NAMES_NO_SLOT ||
					   record->used_ns < record_of(bindings, least)->used_ns))
			least = slot;
	}
	*ret_surplus = count >= NAMES_OF_ADDRESS_MAX ? least : NAMES_NO_SLOT;
	return NAMES_NO_SLOT;
}

static void renew(struct names_binding *record, uint64_t expires_ns, bool is_pinned,
		  uint64_t now_ns)
{
	if (expires_ns > record->expires_ns)
		record->expires_ns = expires_ns;
	record->has_lapsed = has_expired(record, now_ns);
	record->is_pinned |= is_pinned;
	record->used_ns = now_ns;
}

/* Look at a few more, so that what has expired is counted some time. */
static void look_on(struct names_bindings *bindings, uint64_t now_ns)
{
	for (int i = 0; i < LOOKED_AT && bindings->used; i++) {
		bindings->hand = bindings->hand + 1 < bindings->limit ? bindings->hand + 1 : 0;
		if (bindings->slots[bindings->hand].is_used &&
		    has_expired(record_of(bindings, bindings->hand), now_ns))
			note_lapsed(bindings, record_of(bindings, bindings->hand));
	}
}

bool names_bindings_add(struct names_bindings *bindings, uint8_t family,
			const struct pkt_addr *address, const struct domain *domain,
			uint64_t expires_ns, bool is_pinned, uint64_t now_ns)
{
	struct names_binding *record;
	uint32_t surplus = NAMES_NO_SLOT;
	uint32_t slot = find(bindings, family, address, domain, &surplus);

	look_on(bindings, now_ns);
	if (slot != NAMES_NO_SLOT) {
		renew(record_of(bindings, slot), expires_ns, is_pinned, now_ns);
		return false;
	}
	if (surplus != NAMES_NO_SLOT)
		evict(bindings, surplus, now_ns);
	slot = take_slot(bindings, now_ns);
	if (slot == NAMES_NO_SLOT)
		return false;
	record = record_of(bindings, slot);
	record->expires_ns = expires_ns;
	record->used_ns = now_ns;
	record->address = *address;
	record->family = family;
	record->is_pinned = is_pinned;
	record->has_lapsed = 0;
	record->domain = *domain;
	__atomic_store_n(&record->state, 1, __ATOMIC_RELEASE);
	link_slot(bindings, slot);
	return true;
}

static uint64_t lists_of(struct names_slot *slot, const struct names_binding *record,
			 const struct names_asking *asking)
{
	if (slot->lists_of != asking->policy_key) {
		slot->lists = asking->lists(asking->policy, &record->domain);
		slot->lists_of = asking->policy_key;
	}
	return slot->lists;
}

bool names_bindings_look_up(struct names_bindings *bindings, uint8_t family,
			    const struct pkt_addr *address, bool expired_too, uint64_t now_ns,
			    const struct names_asking *asking, uint64_t *ret_lists)
{
	bool found = false;

	*ret_lists = 0;
	for (uint32_t slot = *place_of(bindings, family, address); slot != NAMES_NO_SLOT;
	     slot = bindings->slots[slot].next) {
		struct names_binding *record = record_of(bindings, slot);

		if (!is_of(record, family, address) ||
		    (!expired_too && has_expired(record, now_ns)))
			continue;
		record->used_ns = now_ns;
		*ret_lists |= lists_of(&bindings->slots[slot], record, asking);
		found = true;
	}
	return found;
}

uint32_t names_bindings_remove(struct names_bindings *bindings, names_pick_fn *pick,
			       const void *arg)
{
	uint32_t removed = 0;

	for (uint32_t slot = 0; slot < bindings->limit; slot++) {
		if (!bindings->slots[slot].is_used || !pick(record_of(bindings, slot), arg))
			continue;
		remove_slot(bindings, slot);
		removed++;
	}
	return removed;
}

uint32_t names_bindings_count(const struct names_bindings *bindings, uint64_t now_ns)
{
	uint32_t alive = 0;

	for (uint32_t slot = 0; slot < bindings->limit; slot++)
		alive += bindings->slots[slot].is_used &&
			 !has_expired(record_of(bindings, slot), now_ns);
	return alive;
}

const struct names_binding *names_bindings_at(const struct names_bindings *bindings, uint32_t slot)
{
	return bindings->slots[slot].is_used ? record_of(bindings, slot) : NULL;
}

/* ---- opening ---- */

/* The length of a name is read without a look, and its text ends. */
static bool is_sound(const struct names_binding *record)
{
	return record->state == 1 && record->domain.length <= DOMAIN_TEXT_MAX &&
	       record->domain.text[record->domain.length] == '\0';
}

static void move_down(struct names_bindings *bindings, uint32_t from)
{
	struct names_binding *record = record_of(bindings, from);
	const struct names_binding copy = *record;

	__atomic_store_n(&record->state, 0, __ATOMIC_RELEASE);
	/* With the time of its last use as now: it has not expired for being late. */
	names_bindings_add(bindings, copy.family, &copy.address, &copy.domain, copy.expires_ns,
			   copy.is_pinned, copy.used_ns);
}

static void take_records(struct names_bindings *bindings)
{
	for (uint32_t slot = 0; slot < bindings->area->bindings_top; slot++) {
		struct names_binding *record = record_of(bindings, slot);

		if (!is_sound(record))
			__atomic_store_n(&record->state, 0, __ATOMIC_RELEASE);
		else if (slot < bindings->limit)
			link_slot(bindings, slot);
		else
			move_down(bindings, slot);
	}
}

int names_bindings_open(struct names_bindings *bindings, struct names_area *area, uint32_t limit)
{
	uint32_t places = 16;

	while (places < limit)
		places *= 2;
	*bindings = (struct names_bindings){
		.area = area,
		.slots = calloc(limit, sizeof(*bindings->slots)),
		.places = malloc(places * sizeof(*bindings->places)),
		.place_mask = places - 1,
		.limit = limit,
	};
	if (!bindings->slots || !bindings->places) {
		names_bindings_close(bindings);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < places; i++)
		bindings->places[i] = NAMES_NO_SLOT;
	take_records(bindings);
	return 0;
}

void names_bindings_close(struct names_bindings *bindings)
{
	free(bindings->slots);
	free(bindings->places);
	*bindings = (struct names_bindings){.limit = 0};
}
