/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names/names.h"

#include <errno.h>
#include <stdlib.h>

struct names *names_new(struct names_area *area, uint32_t limit)
{
	struct names *names = calloc(1, sizeof(*names));

	if (!names)
		return NULL;
	names->area = area;
	pthread_mutex_init(&names->lock, NULL);
	if (names_bindings_open(&names->bindings, area, limit) < 0) {
		names_free(names);
		return NULL;
	}
	names_asked_open(&names->asked, area);
	return names;
}

void names_free(struct names *names)
{
	if (!names)
		return;
	names_bindings_close(&names->bindings);
	pthread_mutex_destroy(&names->lock);
	free(names);
}

int names_limit(struct names *names, uint32_t limit)
{
	struct names_bindings *bindings = &names->bindings;
	struct names_bindings before, after;
	int err;

	if (limit == bindings->limit)
		return 0;
	pthread_mutex_lock(&names->lock);
	before = *bindings;
	err = names_bindings_open(&after, names->area, limit);
	if (!err) {
		after.expired += before.expired;
		after.evicted += before.evicted;
		*bindings = after;
	}
	pthread_mutex_unlock(&names->lock);
	if (!err)
		names_bindings_close(&before);
	return err;
}

void names_take_counts(struct names *names, struct names_counts *ret)
{
	pthread_mutex_lock(&names->lock);
	*ret = names->counts;
	ret->expired = names->bindings.expired;
	ret->evicted = names->bindings.evicted;
	names->counts = (struct names_counts){.learnt = 0};
	names->bindings.expired = names->bindings.evicted = 0;
	pthread_mutex_unlock(&names->lock);
}
