/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names/area.h"

#include <string.h>

static bool fits(uint64_t at, uint64_t size, uint64_t count, uint64_t least, uint64_t whole)
{
	return at >= sizeof(struct names_area) && at % 8 == 0 && size % 8 == 0 && size >= least &&
	       at + size * count <= whole;
}

static bool is_valid(const struct names_area *area, uint64_t size)
{
	return area->magic == NAMES_AREA_MAGIC && area->size <= size &&
	       area->bindings >= NAMES_BINDINGS_MAX && area->asked >= NAMES_ASKED_MAX &&
	       fits(area->bindings_at, area->binding_size, area->bindings,
		    sizeof(struct names_binding), area->size) &&
	       fits(area->asked_at, area->asked_size, area->asked, sizeof(struct names_query),
		    area->size) &&
	       area->bindings_top <= area->bindings && area->asked_top <= area->asked;
}

bool names_area_open(struct names_area *area, uint64_t size)
{
	if (is_valid(area, size))
		return false;
	*area = (struct names_area){
		.magic = NAMES_AREA_MAGIC,
		.size = NAMES_AREA_SIZE,
		.asked_at = sizeof(*area),
		.asked_size = sizeof(struct names_query),
		.asked = NAMES_ASKED_MAX,
		.bindings_at = sizeof(*area) + NAMES_ASKED_MAX * sizeof(struct names_query),
		.binding_size = sizeof(struct names_binding),
		.bindings = NAMES_BINDINGS_MAX,
	};
	return true;
}

uint64_t names_hash_address(uint8_t family, const struct pkt_addr *address)
{
	uint64_t hash = address->quads[0] * UINT64_C(0x9e3779b97f4a7c15);

	hash = (hash ^ hash >> 29 ^ address->quads[1] ^ family) * UINT64_C(0xbf58476d1ce4e5b9);
	return hash ^ hash >> 32;
}
