/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the documents about namespaces have in common. */
#ifndef NSGATE_API_JSON_H
#define NSGATE_API_JSON_H

#include <stdint.h>

struct jw;
struct ns;

#define API_TIME_MAX 40 /* an RFC 3339 time with its NUL */

extern const char *const api_direction_names[]; /* by enum shm_direction */

const char *api_backend_name(uint16_t backend); /* enum nsgate_backend */

/* RFC 3339 in UTC, seconds, or with `nanoseconds` >= 0 the fraction to microseconds. */
void api_time(int64_t seconds, long nanoseconds, char ret[API_TIME_MAX]);

/* "schema" to "generation", and "netns" to "attached_at". */
void api_write_ns_head(struct jw *w, const struct ns *ns);
void api_write_ns_identity(struct jw *w, const struct ns *ns);

/* "table" */
void api_write_ns_table(struct jw *w, const struct ns *ns);

/* NS, the whole object. */
void api_write_ns(struct jw *w, const struct ns *ns);

void api_write_hooks(struct jw *w, const char *key, uint32_t hooks);

#endif
