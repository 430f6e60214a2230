// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/owed.h"

#include <stddef.h>
#include <stdlib.h>

#include "log.h"

struct owed {
	struct owed *next;
	uint64_t cookie;
	uint32_t id; /* 0: not said on this connection */
};

static struct owed *first;
static unsigned int count;

void owed_add(uint64_t cookie, uint32_t id)
{
	struct owed *owed = calloc(1, sizeof(*owed));

	if (!owed) {
		log_event(LOG_LEVEL_ERROR, "remove.lost", "cookie", log_number((int64_t)cookie),
			  "remedy", "restart nsgate-agent, or it goes on to show it", NULL);
		return;
	}
	*owed = (struct owed){.next = first, .cookie = cookie, .id = id};
	first = owed;
	count++;
}

unsigned int owed_count(void)
{
	return count;
}

bool owed_has(uint64_t cookie)
{
	const struct owed *owed = first;

	while (owed && owed->cookie != cookie)
		owed = owed->next;
	return owed != NULL;
}

bool owed_pump(bool (*say)(uint64_t cookie, uint32_t *ret_id))
{
	for (struct owed *owed = first; owed; owed = owed->next)
		if (!owed->id && !say(owed->cookie, &owed->id))
			return false;
	return true;
}

bool owed_answered(uint32_t id)
{
	for (struct owed **at = &first; *at; at = &(*at)->next) {
		struct owed *owed = *at;

		if (!id || owed->id != id)
			continue;
		*at = owed->next;
		free(owed);
		count--;
		return true;
	}
	return false;
}

void owed_link_lost(void)
{
	for (struct owed *owed = first; owed; owed = owed->next)
		owed->id = 0;
}
