/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of names in one namespace: addresses, queries that wait for their answers,
 * connections of queries, refusals on their way. All queues of the namespace and the control thread
 * use it, each call under the lock inside.
 */
#ifndef NSGATE_NAMES_NAMES_H
#define NSGATE_NAMES_NAMES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "names/asked.h"
#include "names/bindings.h"
#include "names/stream.h"
#include "names/turned.h"

/* What is counted; the rows of nsgate/figure.h have the same names. */
struct names_counts {
	uint64_t learnt, expired, evicted;
	uint64_t unasked, wrong_link, not_public, garbled, cut_short; /* answers, or addresses */
	uint64_t queries, answers, refused;
};

struct names {
	pthread_mutex_t lock;
	struct names_area *area; /* the caller's */
	struct names_bindings bindings;
	struct names_asked asked;
	struct names_streams streams;
	struct names_turned turned;
	/* Of what the workers did; each is to be taken by gate_take_counts(). */
	struct names_counts counts;
};

/*
 * Open what is in an area (names/area.h), for `limit` addresses with a name at most.
 * Return: NULL: no memory. names_free() takes NULL.
 */
struct names *names_new(struct names_area *area, uint32_t limit);
void names_free(struct names *names);

/* Have another limit. Return: 0 or -ENOMEM: it is as before. */
int names_limit(struct names *names, uint32_t limit);

/* Take what was counted since this was called last. */
void names_take_counts(struct names *names, struct names_counts *ret);

#endif
