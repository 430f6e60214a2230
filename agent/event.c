/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * `head` counts the events put, `tail` the events taken; each is written by one side only and
 * lies in a cache line of its own. The eventfd is written once per burst: the writer writes it
 * when it finds `signalled` clear, and the reader clears `signalled` when it has found the ring
 * empty, then looks once more, so that an event put in between is either seen by that second
 * look or wakes the reader again.
 */
#include "agent/event.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A power of two; about 90 KiB, touched only where something is logged. */
#define RING_EVENTS 1024
#define CACHE_LINE 64

struct event_ring {
	_Alignas(CACHE_LINE) atomic_uint head;
	_Alignas(CACHE_LINE) atomic_uint tail;
	_Alignas(CACHE_LINE) atomic_bool signalled;
	atomic_bool poked;
	atomic_uint_fast64_t lost;
	int fd;
	struct event events[RING_EVENTS];
};

struct event_ring *event_ring_new(void)
{
	struct event_ring *ring = aligned_alloc(CACHE_LINE, sizeof(*ring));

	if (!ring)
		return NULL;
	ring->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ring->fd < 0) {
		free(ring);
		return NULL;
	}
	atomic_init(&ring->head, 0);
	atomic_init(&ring->tail, 0);
	atomic_init(&ring->signalled, false);
	atomic_init(&ring->poked, false);
	atomic_init(&ring->lost, 0);
	return ring;
}

void event_ring_free(struct event_ring *ring)
{
	if (!ring)
		return;
	close(ring->fd);
	free(ring);
}

int event_ring_fd(const struct event_ring *ring)
{
	return ring->fd;
}

/* A failing write leaves `signalled` clear: the next event tries again. */
static void wake(struct event_ring *ring)
{
	if (atomic_exchange(&ring->signalled, true))
		return;
	if (eventfd_write(ring->fd, 1) < 0)
		atomic_store(&ring->signalled, false);
}

void event_ring_poke(struct event_ring *ring)
{
	atomic_store(&ring->poked, true);
	wake(ring);
}

bool event_ring_poked(struct event_ring *ring)
{
	return atomic_exchange(&ring->poked, false);
}

void event_ring_lose(struct event_ring *ring, uint64_t count)
{
	atomic_fetch_add_explicit(&ring->lost, count, memory_order_relaxed);
}

bool event_ring_put(struct event_ring *ring, const struct event *event)
{
	const unsigned int head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	const unsigned int tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	if (head - tail == RING_EVENTS) {
		atomic_fetch_add_explicit(&ring->lost, 1, memory_order_relaxed);
		return false;
	}
	ring->events[head % RING_EVENTS] = *event;
	atomic_store(&ring->head, head + 1);
	wake(ring);
	return true;
}

static bool take(struct event_ring *ring, struct event *ret)
{
	const unsigned int tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	if (tail == atomic_load(&ring->head))
		return false;
	*ret = ring->events[tail % RING_EVENTS];
	atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
	return true;
}

bool event_ring_get(struct event_ring *ring, struct event *ret)
{
	eventfd_t ignored;

	if (take(ring, ret))
		return true;
	/* The descriptor first: a write that follows the flag's clearing must not be eaten. */
	(void)eventfd_read(ring->fd, &ignored);
	atomic_store(&ring->signalled, false);
	return take(ring, ret);
}

void event_ring_later(struct event_ring *ring)
{
	(void)eventfd_write(ring->fd, 1);
}

uint64_t event_ring_lost(struct event_ring *ring)
{
	return atomic_exchange_explicit(&ring->lost, 0, memory_order_relaxed);
}
