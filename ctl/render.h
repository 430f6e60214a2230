/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The API's documents, laid out for people. */
#ifndef NSGATE_CTL_RENDER_H
#define NSGATE_CTL_RENDER_H

#include <stdbool.h>
#include <stdio.h>

struct json_object;

/* All return false where memory ran out. */
bool render_list(struct json_object *all_stats, FILE *to, bool colour);	  /* nsgatectl ls */
bool render_totals(struct json_object *all_stats, FILE *to, bool colour); /* nsgatectl stats */
bool render_stats(struct json_object *stats, FILE *to, bool colour);	  /* ... stats NAME */
bool render_policies(struct json_object *policies, FILE *to, bool colour);

/* Any object as "key  value" lines, what is nested as "key.key". */
bool render_pairs(struct json_object *object, FILE *to);

#endif
