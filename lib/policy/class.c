/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking a packet up in the classifier. lib/policy/class_build.c makes it. */
#include <endian.h>
#include <sys/socket.h>

#include "policy/class.h"
#include "policy/match.h"

/* The searches take the same steps whatever they find: there is no branch to mispredict. */
static uint32_t search32(const struct policy_map *map, uint32_t number)
{
	const uint32_t *at = map->starts32;

	for (size_t rest = map->count, half; rest > 1; rest -= half) {
		half = rest / 2;
		at = at[half] <= number ? at + half : at;
	}
	return map->sets[at - map->starts32];
}

static uint32_t search128(const struct policy_map *map, unsigned __int128 number)
{
	const unsigned __int128 *at = map->starts128;

	for (size_t rest = map->count, half; rest > 1; rest -= half) {
		half = rest / 2;
		at = at[half] <= number ? at + half : at;
	}
	return map->sets[at - map->starts128];
}

static uint32_t search(const struct policy_map *map, uint64_t number)
{
	const uint32_t *pages;

	if (map->page_of) {
		pages = (const uint32_t *)(const void *)map->pages.records;
		return pages[(size_t)map->page_of[number >> 8] << 8 | (number & 0xff)];
	}
	return map->starts32 ? search32(map, (uint32_t)number) : search128(map, number);
}

static uint32_t search_address(const struct policy_dimension *dimension,
			       const struct pkt_addr *address, uint8_t family)
{
	if (family == AF_INET)
		return search32(&dimension->maps[0], be32toh(address->words[0]));
	return search128(&dimension->maps[1], (unsigned __int128)be64toh(address->quads[0]) << 64 |
						      be64toh(address->quads[1]));
}

const uint32_t *policy_class_lookup(const struct policy_class *class,
				    const struct policy_dimension *dimension, const struct pkt *pkt)
{
	const struct policy_match *match = &policy_matches[dimension->field];
	uint64_t number;
	uint32_t set;

	if (pkt->unknown & POLICY_FIELD_BIT(dimension->field))
		set = dimension->unknown;
	else if (match->address)
		set = search_address(dimension, match->address(pkt), pkt->family);
	else if (match->fetch(pkt, &number))
		set = search(&dimension->maps[0], number <= match->max ? number : match->max);
	else
		set = dimension->absent;
	return policy_sets_get(&class->sets, set);
}
