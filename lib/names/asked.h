/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queries that were accepted and are not answered yet. No allocation but for opening; the caller
 * holds the lock.
 */
#ifndef NSGATE_NAMES_ASKED_H
#define NSGATE_NAMES_ASKED_H

#include "names/area.h"

#define NAMES_ASKED_NS UINT64_C(5000000000) /* so long an answer is waited for */

struct names_asked {
	struct names_area *area;
	uint32_t places[NAMES_ASKED_MAX]; /* by names_asked_key() */
	uint32_t next[NAMES_ASKED_MAX];
	bool is_used[NAMES_ASKED_MAX];
	uint32_t free; /* the first unused one, or behind it */
};

/* Take what is in the area. */
void names_asked_open(struct names_asked *asked, struct names_area *area);

/* Note a query, whose `state` is 0. Where there are too many, the oldest goes. */
void names_asked_add(struct names_asked *asked, const struct names_query *query);

/*
 * Find the query that an answer is to: addresses, ports, protocol, id and question as in the query.
 * Return: a slot for names_asked_take(), or -1.
 */
int names_asked_find(const struct names_asked *asked, const struct names_query *query,
		     uint64_t now_ns);

const struct names_query *names_asked_at(const struct names_asked *asked, int slot);
void names_asked_remove(struct names_asked *asked, int slot);

#endif
