/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "policy/doc.h"

#include <stdlib.h>
#include <string.h>

void policy_doc_free(struct policy_doc *doc)
{
	free(doc->rules);
	free(doc->matches);
	free(doc->values);
	domain_set_free(doc->names.set);
	for (uint32_t i = 0; i < doc->names.list_count; i++)
		free(doc->names.lists[i]);
	memset(doc, 0, sizeof(*doc));
}

/* ---- growing lists ---- */

/* Room for one more. Return: the list, which may have moved, or NULL. */
static void *grow(void *list, size_t count, size_t *room, size_t size)
{
	size_t wanted = *room ? *room * 2 : 64;

	if (count < *room)
		return list;
	list = reallocarray(list, wanted, size);
	if (list)
		*room = wanted;
	return list;
}

void policy_doc_begin_match(struct policy_reader *reader, enum policy_field field, bool negated)
{
	struct policy_doc *doc = reader->doc;
	struct policy_doc_match *matches =
		grow(doc->matches, doc->match_count, &doc->match_room, sizeof(*matches));

	if (!matches) {
		reader->no_memory = true;
		return;
	}
	doc->matches = matches;
	matches[doc->match_count++] = (struct policy_doc_match){
		.field = field,
		.negated = negated,
		.first = (uint32_t)doc->value_count,
	};
	doc->rules[doc->rule_count - 1].match_count++;
}

void policy_doc_add_value(struct policy_reader *reader, const union policy_value *value)
{
	struct policy_doc *doc = reader->doc;
	union policy_value *values;

	if (reader->no_memory) /* for its match, maybe */
		return;
	values = grow(doc->values, doc->value_count, &doc->value_room, sizeof(*values));
	if (!values) {
		reader->no_memory = true;
		return;
	}
	doc->values = values;
	values[doc->value_count++] = *value;
	doc->matches[doc->match_count - 1].count++;
}
