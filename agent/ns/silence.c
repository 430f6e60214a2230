// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Every batch that a worker judges moves the `turn` of its queue. While it has not moved since this
 * agent began, the kernel is asked how many packets wait there. If some did at two looks in a row,
 * they do not come: a worker needs microseconds, and one that is stuck is ended by the watchdog. A
 * queue that was heard costs nothing from then on.
 */
#include "agent/ns/silence.h"

#include "loop.h"
#include "queue_kernel.h"

#define LOOK_MS 5000

static int64_t look_at_ms; /* 0: all were heard */

int silence_queue(const struct ns *ns)
{
	for (unsigned int i = 0; i < ns->record.queue_count; i++)
		if (ns->silence[i].looks > 1)
			return ns->record.queue_first + (int)i;
	return -1;
}

static bool packets_wait(const struct ns *ns, unsigned int i)
{
	struct queue_kernel line;

	return queue_kernel_read(ns->proc_fd, (uint16_t)(ns->record.queue_first + i),
				 ns->record.queue_count, &line) == 0 &&
	       line.pending > 0;
}

static void look(const struct ns *ns, unsigned int i, struct ns_silence *silence)
{
	const uint64_t turn = __atomic_load_n(&ns->shm[i]->turn, __ATOMIC_RELAXED);

	if (!silence->begun) {
		silence->turn = turn;
		silence->begun = true;
	}
	silence->heard = turn != silence->turn;
	if (silence->heard || !packets_wait(ns, i))
		silence->looks = 0;
	else if (silence->looks < 2)
		silence->looks++;
}

/* Return: is there one that was not heard? */
static bool look_at(struct ns *ns, bool *ret_changed)
{
	const int before = silence_queue(ns);
	bool left = false;

	if (ns->refused || ns->orphaned)
		return false;
	for (unsigned int i = 0; i < ns->record.queue_count; i++) {
		if (!ns->silence[i].heard)
			look(ns, i, &ns->silence[i]);
		left = left || !ns->silence[i].heard;
	}
	*ret_changed |= silence_queue(ns) != before;
	return left;
}

void silence_begin(void)
{
	if (!look_at_ms)
		look_at_ms = loop_now_ms() + LOOK_MS;
}

int silence_timeout_ms(void)
{
	return look_at_ms ? loop_left_ms(look_at_ms) : -1;
}

bool silence_tick(void)
{
	bool left = false, changed = false;

	if (!look_at_ms || look_at_ms > loop_now_ms())
		return false;
	for (struct ns *ns = ns_first(); ns; ns = ns->next)
		left = look_at(ns, &changed) || left;
	look_at_ms = left ? loop_now_ms() + LOOK_MS : 0;
	return changed;
}
