/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events about packets, from a worker to the control thread: a ring with one writer and one
 * reader that never blocks the writer. When it is full events are lost and counted.
 */
#ifndef NSGATE_EVENT_H
#define NSGATE_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "pkt.h"

struct event {
	uint64_t cookie;  /* namespace */
	uint64_t time_ns; /* CLOCK_REALTIME */
	int32_t rule;	  /* index in the policy of `generation`, or POLICY_RULE_DEFAULT */
	uint32_t generation;
	uint32_t length;
	uint8_t verdict; /* enum policy_verdict */
	bool would_drop;
	uint8_t family, protocol, direction;
	uint8_t icmp_type, icmp_code;
	bool has_ports;
	uint16_t sport, dport;
	struct pkt_addr src, dst;
};

struct event_ring;
struct event_ring *event_ring_new(void);
void event_ring_free(struct event_ring *ring);

/* Writer's side. False: full, counted as lost. Wakes the reader through the eventfd. */
bool event_ring_put(struct event_ring *ring, const struct event *event);

/* So many more were not even put. */
void event_ring_lose(struct event_ring *ring, uint64_t count);

void event_ring_poke(struct event_ring *ring); /* wakes the reader without an event */

/* Reader's side. */
int event_ring_fd(const struct event_ring *ring); /* readable when there may be events */
bool event_ring_get(struct event_ring *ring, struct event *ret);
void event_ring_later(struct event_ring *ring);	   /* stops before all are read: wake me again */
uint64_t event_ring_lost(struct event_ring *ring); /* since the last call */
bool event_ring_poked(struct event_ring *ring);	   /* the same; ask when all events are read */

#endif
