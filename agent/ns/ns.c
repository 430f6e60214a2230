// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/ns/ns.h"

#include <string.h>

/* In the order in which they came. */
struct ns_list {
	struct ns *first, **end;
};

static struct ns_list served = {NULL, &served.first}, offered = {NULL, &offered.first};
static size_t count; /* of those that are served */
static ns_note_fn *note;

const char *const ns_state_names[NS_STATE_MAX] = {
	[NS_STATE_ATTACHED] = "attached",
	[NS_STATE_ORPHANED] = "orphaned",
	[NS_STATE_DEGRADED] = "degraded",
};

/* ---- looking them up ---- */

struct ns *ns_first(void)
{
	return served.first;
}

struct ns *ns_find(const char *name)
{
	struct ns *ns = served.first;

	while (ns && strcmp(ns->record.name, name) != 0)
		ns = ns->next;
	return ns;
}

static struct ns *find_in(struct ns *ns, uint64_t cookie)
{
	while (ns && ns->record.cookie != cookie)
		ns = ns->next;
	return ns;
}

struct ns *ns_find_cookie(uint64_t cookie)
{
	struct ns *ns = find_in(served.first, cookie);

	return ns ? ns : find_in(offered.first, cookie);
}

size_t ns_count(void)
{
	return count;
}

size_t ns_count_policy(const char *policy)
{
	size_t n = 0;

	for (const struct ns *ns = served.first; ns; ns = ns->next)
		n += strcmp(ns->record.policy, policy) == 0;
	return n;
}

struct ns *ns_first_offered(void)
{
	return offered.first;
}

bool ns_is_offered(const struct ns *wanted)
{
	const struct ns *ns = offered.first;

	while (ns && ns != wanted)
		ns = ns->next;
	return ns != NULL;
}

/* ---- coming and going ---- */

static void append(struct ns_list *list, struct ns *ns)
{
	ns->next = NULL;
	*list->end = ns;
	list->end = &ns->next;
}

static void take_out(struct ns_list *list, const struct ns *ns)
{
	struct ns **at = &list->first;

	while (*at != ns)
		at = &(*at)->next;
	*at = ns->next;
	if (!*at)
		list->end = at;
}

void ns_list_offered(struct ns *ns)
{
	append(&offered, ns);
}

void ns_unlist_offered(const struct ns *ns)
{
	take_out(&offered, ns);
}

void ns_list(struct ns *ns)
{
	append(&served, ns);
	count++;
}

void ns_unlist(const struct ns *ns)
{
	take_out(&served, ns);
	count--;
}

/* ---- about one of them ---- */

bool ns_rules_in_force(const struct ns *ns)
{
	const struct nsgate_rules_spec *wanted = &ns->wanted, *in_force = &ns->record.rules;

	return wanted->hooks == in_force->hooks && wanted->flags == in_force->flags &&
	       wanted->generation == in_force->generation &&
	       wanted->bypass_count == in_force->bypass_count &&
	       memcmp(wanted->bypass, in_force->bypass, sizeof(wanted->bypass)) == 0 &&
	       memcmp(wanted->spare, in_force->spare, sizeof(wanted->spare)) == 0;
}

void ns_tell(ns_note_fn *note_fn)
{
	note = note_fn;
}

void ns_log(enum log_level level, const char *event, const struct ns *ns, const char *detail)
{
	log_event(level, event, "netns", ns->record.name, "policy", ns->record.policy, "why",
		  detail && *detail ? detail : NULL, NULL);
	if (note)
		note(event, ns->record.name, detail ? detail : "");
}
