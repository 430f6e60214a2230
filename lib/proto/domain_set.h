/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All the patterns of a policy, in as many lists as its rules have, compiled: one look-up of a name
 * says in which of the lists a pattern matches it. Adding allocates; looking up does not, and costs
 * the labels of the name, however many patterns there are.
 */
#ifndef NSGATE_PROTO_DOMAIN_SET_H
#define NSGATE_PROTO_DOMAIN_SET_H

#include <stddef.h>
#include <stdint.h>

#include "proto/domain.h"

#define DOMAIN_SET_LISTS_MAX 64
#define DOMAIN_SET_PATTERNS_MAX 65536
#define DOMAIN_SET_STARS_MAX 64 /* patterns with a star inside a label, below one name */

struct domain_set;

/* Return: an empty set; NULL without memory. */
struct domain_set *domain_set_new(void);
void domain_set_free(struct domain_set *set);

/*
 * Put a pattern into a list. Twice the same is once.
 * @list: below DOMAIN_SET_LISTS_MAX
 * Return: 0; -ENOMEM; -E2BIG more than DOMAIN_SET_PATTERNS_MAX patterns; -ENOSPC more than
 * DOMAIN_SET_STARS_MAX patterns with a star in the label below the same name, as those are tried
 * one by one. The set is as it was then.
 */
int domain_set_add(struct domain_set *set, unsigned int list, const struct domain_pattern *pattern);

/* Return: bit i is set where a pattern of list i matches. The root matches nothing. */
uint64_t domain_set_match(const struct domain_set *set, const struct domain *domain);

#endif
