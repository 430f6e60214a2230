/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making the dimensions of the classifier. For each one: turn what every rule asks of the field
 * into intervals, sort where they begin and end, and sweep over the numbers from low to high with
 * the set of rules that are open; each time it changes, another interval of the map begins.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "policy/class.h"
#include "policy/match.h"

/* A field with fewer values than this over all rules is checked with the rule. */
#define DIMENSION_VALUES_MIN 3

/* A masked field up to this size is tried out number by number. */
#define MASKED_MAX 255

#define TABLE_MAX 65535
#define PAGE 256

typedef unsigned __int128 number; /* wide enough for an IPv6 address */

struct interval {
	number low, high; /* inclusive */
};

struct intervals {
	struct interval *list;
	size_t count, room;
};

/* At `at`, a rule begins or ceases to match. */
struct event {
	number at;
	uint32_t rule;
};

struct builder {
	const struct policy_doc *doc;
	struct policy_class *class;
	struct policy_set_draft draft;
	struct intervals wanted, refused; /* by the rule at hand */
	struct event *events;
	size_t event_count, event_room;
};

static int add_interval(struct intervals *intervals, number low, number high)
{
	struct interval *list = intervals->list;

	if (intervals->count == intervals->room) {
		size_t room = intervals->room ? intervals->room * 2 : 64;

		list = reallocarray(list, room, sizeof(*list));
		if (!list)
			return -ENOMEM;
		intervals->list = list;
		intervals->room = room;
	}
	list[intervals->count++] = (struct interval){.low = low, .high = high};
	return 0;
}

static int add_event(struct builder *builder, number at, uint32_t rule)
{
	struct event *events = builder->events;

	if (builder->event_count == builder->event_room) {
		size_t room = builder->event_room ? builder->event_room * 2 : 256;

		events = reallocarray(events, room, sizeof(*events));
		if (!events)
			return -ENOMEM;
		builder->events = events;
		builder->event_room = room;
	}
	events[builder->event_count++] = (struct event){.at = at, .rule = rule};
	return 0;
}

static int compare_intervals(const void *a, const void *b)
{
	const struct interval *left = a, *right = b;

	return left->low < right->low ? -1 : left->low > right->low;
}

/* Sort, and join what overlaps. */
static void normalize(struct intervals *intervals)
{
	struct interval *list = intervals->list;
	size_t kept = 0;

	if (intervals->count < 2)
		return;
	qsort(list, intervals->count, sizeof(*list), compare_intervals);
	for (size_t i = 1; i < intervals->count; i++) {
		if (list[i].low > list[kept].high)
			list[++kept] = list[i];
		else if (list[i].high > list[kept].high)
			list[kept].high = list[i].high;
	}
	intervals->count = kept + 1;
}

/* ---- from a rule's values to intervals ---- */

static number address_number(const struct pkt_addr *address, uint8_t family)
{
	size_t size = family == AF_INET ? 4 : 16;
	number result = 0;

	for (size_t i = 0; i < size; i++)
		result = result << 8 | address->bytes[i];
	return result;
}

static int add_masked(struct intervals *intervals, const union policy_value *value, uint64_t max)
{
	int err = 0;

	if (max > MASKED_MAX) /* settles() made sure that the mask covers everything */
		return add_interval(intervals, value->masked.value, value->masked.value);
	for (uint64_t i = 0; i <= max && err == 0; i++) {
		if ((i & value->masked.mask) == value->masked.value)
			err = add_interval(intervals, i, i);
	}
	return err;
}

static int add_values(const struct policy_doc *doc, const struct policy_doc_match *match,
		      uint8_t family, struct intervals *intervals)
{
	const struct policy_match *kind = &policy_matches[match->field];
	const union policy_value *value = &doc->values[match->first];
	int err = 0;

	for (uint32_t i = 0; i < match->count && err == 0; i++, value++) {
		if (kind->compare == POLICY_COMPARE_MASKED)
			err = add_masked(intervals, value, kind->max);
		else if (kind->compare == POLICY_COMPARE_RANGE)
			err = add_interval(intervals, value->range.low, value->range.high);
		else if (value->address.family == family)
			err = add_interval(intervals, address_number(&value->address.low, family),
					   address_number(&value->address.high, family));
	}
	return err;
}

static int add_opened(struct builder *builder, uint32_t rule, number low, number high, number max)
{
	int err = add_event(builder, low, rule);

	if (err == 0 && high < max)
		err = add_event(builder, high + 1, rule);
	return err;
}

/* Events for the numbers that are wanted and not refused; both lists are normalized. */
static int add_events(struct builder *builder, uint32_t rule, number max)
{
	const struct intervals *wanted = &builder->wanted, *refused = &builder->refused;
	size_t next = 0;
	int err = 0;

	for (size_t i = 0; i < wanted->count && err == 0; i++) {
		number low = wanted->list[i].low, high = wanted->list[i].high;
		bool open = true;

		while (next < refused->count && refused->list[next].high < low)
			next++;
		for (size_t j = next; open && err == 0 && j < refused->count; j++) {
			const struct interval *hole = &refused->list[j];

			if (hole->low > high)
				break;
			if (hole->low > low)
				err = add_opened(builder, rule, low, hole->low - 1, max);
			open = hole->high < high;
			low = hole->high + 1;
		}
		if (open && err == 0)
			err = add_opened(builder, rule, low, high, max);
	}
	return err;
}

/*
 * What one rule asks of a field. Return: 1 where its events were added, 0 where it asks for
 * nothing that the classifier settles, -ENOMEM.
 */
static int add_rule(struct builder *builder, uint32_t index, enum policy_field field,
		    uint8_t family, number max)
{
	const struct policy_doc_rule *rule = &builder->doc->rules[index];
	const struct policy_doc_match *match = &builder->doc->matches[rule->first_match];
	bool asked = false, listed = false;
	int err = 0;

	builder->wanted.count = 0;
	builder->refused.count = 0;
	for (uint32_t i = 0; i < rule->match_count && err == 0; i++, match++) {
		if (match->field != field ||
		    !policy_class_settles(builder->class, builder->doc, match))
			continue;
		asked = true;
		listed |= !match->negated;
		err = add_values(builder->doc, match, family,
				 match->negated ? &builder->refused : &builder->wanted);
	}
	if (err == 0 && asked && !listed)
		err = add_interval(&builder->wanted, 0, max);
	if (err < 0 || !asked)
		return err;
	normalize(&builder->wanted);
	normalize(&builder->refused);
	err = add_events(builder, index, max);
	return err < 0 ? err : 1;
}

/* ---- from events to a map ---- */

static int make_table(struct policy_map *map, const struct event *events,
		      const uint32_t *event_sets, size_t count, uint32_t first, number max)
{
	uint32_t page[PAGE], set = first, at = 0, number_of_page;
	size_t page_count = (size_t)(max / PAGE) + 1, next = 0;
	int err;

	map->page_of = calloc(page_count, sizeof(*map->page_of));
	if (!map->page_of)
		return -ENOMEM;
	policy_interner_init(&map->pages, sizeof(page));
	for (size_t i = 0; i < page_count; i++) {
		for (size_t j = 0; j < PAGE; j++, at++) {
			while (next < count && events[next].at <= at)
				set = event_sets[next++];
			page[j] = set;
		}
		err = policy_interner_add(&map->pages, page, &number_of_page);
		if (err < 0)
			return err;
		map->page_of[i] = (uint16_t)number_of_page;
	}
	policy_interner_seal(&map->pages);
	return 0;
}

static int make_starts(struct policy_map *map, const struct event *events,
		       const uint32_t *event_sets, size_t count, uint32_t first, number max)
{
	bool narrow = max <= UINT32_MAX;

	map->sets = malloc((count + 1) * sizeof(*map->sets));
	if (narrow)
		map->starts32 = malloc((count + 1) * sizeof(*map->starts32));
	else
		map->starts128 = malloc((count + 1) * sizeof(*map->starts128));
	if (!map->sets || !(narrow ? (void *)map->starts32 : (void *)map->starts128))
		return -ENOMEM;
	for (size_t i = 0; i <= count; i++) {
		number at = i == 0 ? 0 : events[i - 1].at;
		uint32_t set = i == 0 ? first : event_sets[i - 1];

		/* The same number again: the later event's set has both. */
		if (map->count > 0 && i > 0 &&
		    at == (narrow ? map->starts32[map->count - 1] : map->starts128[map->count - 1]))
			map->count--;
		else if (map->count > 0 && set == map->sets[map->count - 1])
			continue;
		if (narrow)
			map->starts32[map->count] = (uint32_t)at;
		else
			map->starts128[map->count] = at;
		map->sets[map->count++] = set;
	}
	return 0;
}

/*
 * Sort the events by their numbers, digit by digit from the lowest: there are tens of thousands
 * of them, and no comparing sort gets near this. A digit that is the same in all costs one look.
 */
static int sort_events(struct builder *builder, number max)
{
	struct event *from = builder->events, *to, *swap;
	size_t count = builder->event_count;

	to = malloc((count + 1) * sizeof(*to));
	if (!to)
		return -ENOMEM;
	for (unsigned int shift = 0; shift < 128 && max >> shift != 0; shift += 8) {
		size_t starts[256] = {0}, sum = 0;

		for (size_t i = 0; i < count; i++)
			starts[(uint8_t)(from[i].at >> shift)]++;
		if (count == 0 || starts[(uint8_t)(from[0].at >> shift)] == count)
			continue;
		for (size_t i = 0; i < 256; i++) {
			size_t here = starts[i];

			starts[i] = sum;
			sum += here;
		}
		for (size_t i = 0; i < count; i++)
			to[starts[(uint8_t)(from[i].at >> shift)]++] = from[i];
		swap = from;
		from = to;
		to = swap;
	}
	/* Either of the two buffers may be the one with the result. */
	if (from != builder->events) {
		builder->events = from;
		builder->event_room = count + 1;
	}
	free(to);
	return 0;
}

/* Sweep over the events with the draft, which begins as the rules that do not ask. */
static int make_map(struct builder *builder, struct policy_map *map, number max)
{
	size_t count = 0, next = 0;
	struct event *events;
	uint32_t *event_sets, first;
	int err;

	event_sets = malloc((builder->event_count + 1) * sizeof(*event_sets));
	if (!event_sets)
		return -ENOMEM;
	err = sort_events(builder, max);
	if (err < 0)
		goto out;
	events = builder->events;
	err = policy_set_draft_store(&builder->draft, &builder->class->sets, &first);
	while (err == 0 && next < builder->event_count) {
		number at = events[next].at;

		for (; next < builder->event_count && events[next].at == at; next++)
			policy_set_draft_toggle(&builder->draft, events[next].rule);
		events[count].at = at;
		err = policy_set_draft_store(&builder->draft, &builder->class->sets,
					     &event_sets[count++]);
	}
	if (err == 0)
		err = max <= TABLE_MAX ? make_table(map, events, event_sets, count, first, max)
				       : make_starts(map, events, event_sets, count, first, max);
out:
	free(event_sets);
	return err;
}

/* ---- dimensions ---- */

static int build_dimension(struct builder *builder, struct policy_dimension *dimension)
{
	const struct policy_match *kind = &policy_matches[dimension->field];
	size_t map_count = kind->compare == POLICY_COMPARE_ADDRESS ? 2 : 1;
	struct policy_sets *sets = &builder->class->sets;
	int err = 0, asked;

	for (size_t i = 0; i < map_count && err == 0; i++) {
		uint8_t family = i == 0 ? AF_INET : AF_INET6;
		number max = map_count == 1 ? kind->max : i == 0 ? UINT32_MAX : ~(number)0;

		builder->event_count = 0;
		policy_set_draft_clear(&builder->draft);
		for (uint32_t rule = 0; rule < builder->doc->rule_count; rule++) {
			asked = add_rule(builder, rule, dimension->field, family, max);
			if (asked < 0)
				return asked;
			if (!asked)
				policy_set_draft_toggle(&builder->draft, rule);
		}
		err = policy_set_draft_store(&builder->draft, sets, &dimension->absent);
		if (err == 0)
			err = make_map(builder, &dimension->maps[i], max);
	}
	if (err < 0)
		return err;

	/* Of an unknown field: those that do not ask, and those that ask and forbid. */
	policy_set_draft_clear(&builder->draft);
	for (uint32_t i = 0; i < builder->doc->rule_count; i++) {
		const struct policy_doc_rule *rule = &builder->doc->rules[i];
		const struct policy_doc_match *match = &builder->doc->matches[rule->first_match];
		bool may = true;

		for (uint32_t j = 0; j < rule->match_count; j++)
			may &= match[j].field != dimension->field;
		if (may || policy_action_forbids(rule->action))
			policy_set_draft_toggle(&builder->draft, i);
	}
	return policy_set_draft_store(&builder->draft, sets, &dimension->unknown);
}

bool policy_class_settles(const struct policy_class *class, const struct policy_doc *doc,
			  const struct policy_doc_match *match)
{
	const struct policy_match *kind = &policy_matches[match->field];

	if (!(class->fields & POLICY_FIELD_BIT(match->field)))
		return false;
	if (kind->compare != POLICY_COMPARE_MASKED || kind->max <= MASKED_MAX)
		return true;
	for (uint32_t i = 0; i < match->count; i++) {
		if (doc->values[match->first + i].masked.mask != kind->max)
			return false;
	}
	return true;
}

static void choose_fields_of(struct policy_class *class, const size_t *values, bool of_flow)
{
	for (int field = 0; field < POLICY_FIELD_MAX; field++) {
		if (policy_matches[field].of_flow != of_flow ||
		    values[field] < DIMENSION_VALUES_MIN ||
		    policy_matches[field].compare == POLICY_COMPARE_BITS ||
		    policy_matches[field].compare == POLICY_COMPARE_QUERY)
			continue;
		class->fields |= POLICY_FIELD_BIT(field);
		class->dimensions[class->dimension_count++].field = (enum policy_field)field;
	}
}

static void choose_fields(struct policy_class *class, const struct policy_doc *doc)
{
	size_t values[POLICY_FIELD_MAX] = {0};

	for (size_t i = 0; i < doc->match_count; i++)
		values[doc->matches[i].field] += doc->matches[i].count;
	choose_fields_of(class, values, true);
	class->flow_dimension_count = class->dimension_count;
	choose_fields_of(class, values, false);
}

int policy_class_build(struct policy_class *class, const struct policy_doc *doc)
{
	struct builder builder = {.doc = doc, .class = class};
	int err;

	memset(class, 0, sizeof(*class));
	if (doc->rule_count == 0)
		return 0;
	choose_fields(class, doc);
	err = policy_sets_init(&class->sets, doc->rule_count);
	class->all_chunks = UINT32_MAX >> (32 - class->sets.chunks_per_set);
	if (err == 0)
		err = policy_set_draft_init(&builder.draft, &class->sets);
	for (size_t i = 0; i < class->dimension_count && err == 0; i++)
		err = build_dimension(&builder, &class->dimensions[i]);
	policy_sets_seal(&class->sets);
	policy_set_draft_free(&builder.draft);
	free(builder.wanted.list);
	free(builder.refused.list);
	free(builder.events);
	return err;
}

void policy_class_free(struct policy_class *class)
{
	for (size_t i = 0; i < class->dimension_count; i++) {
		for (size_t j = 0; j < 2; j++) {
			struct policy_map *map = &class->dimensions[i].maps[j];

			free(map->page_of);
			policy_interner_free(&map->pages);
			free(map->starts32);
			free(map->starts128);
			free(map->sets);
		}
	}
	policy_sets_free(&class->sets);
}
