/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of Operation
 *
 * What is known of names in a namespace, in memory that outlives the agent: behind the blocks of
 * the counters' file, from the next page on. Two arrays of records, each used from the front, so
 * that the file, which is sparse, has only the pages that were needed. How they are found (by
 * address, by query) is in the agent's own memory, made anew from the records.
 *
 * A record counts while its `state` is 1. That is the last word written and the first one taken
 * back, so an agent that dies in between leaves no half record. All writing is under one lock of
 * the agent's; nobody else writes.
 *
 * The area begins with its layout, which says where the arrays are and how large a record is. Who
 * wrote more than we know is read as he laid it out; where it makes no sense, it begins anew.
 */
#ifndef NSGATE_NAMES_AREA_H
#define NSGATE_NAMES_AREA_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pkt.h"
#include "proto/domain.h"

#define NAMES_AREA_MAGIC 0x4e53474eU /* "NSGN" */
#define NAMES_BINDINGS_MAX 65536U
#define NAMES_ASKED_MAX 1024U

struct names_area {
	uint32_t magic;
	uint32_t size; /* of the area, bytes */
	uint32_t bindings_at, binding_size, bindings;
	uint32_t asked_at, asked_size, asked;
	uint32_t bindings_top, asked_top; /* records behind were never used */
	uint32_t spare[6];		  /* 0 */
};
static_assert(sizeof(struct names_area) == 64, "names layout");

/* That address has that name. */
struct names_binding {
	uint64_t state;
	uint64_t expires_ns; /* CLOCK_MONOTONIC; UINT64_MAX: never */
	uint64_t used_ns;    /* a packet asked for it then, or it was learnt */
	struct pkt_addr address;
	uint8_t family;
	uint8_t is_pinned;  /* by the API, not by an answer */
	uint8_t has_lapsed; /* that it has expired is counted */
	uint8_t spare[5];
	struct domain domain;
	uint8_t filler[17];
};
static_assert(sizeof(struct names_binding) == 320, "names layout");

/* A query that was accepted and is not answered yet. */
struct names_query {
	uint64_t state;
	uint64_t at_ns; /* CLOCK_MONOTONIC */
	struct pkt_addr client, resolver;
	uint32_t oif; /* the link that it left by */
	uint16_t client_port, resolver_port;
	uint16_t id, type; /* of the message */
	uint8_t family, protocol;
	uint8_t spare[2];
	struct domain domain;
	uint8_t filler[17];
};
static_assert(sizeof(struct names_query) == 336, "names layout");

/* Bytes of an area that this release makes. */
#define NAMES_AREA_SIZE                                                                            \
	(sizeof(struct names_area) + NAMES_ASKED_MAX * sizeof(struct names_query) +                \
	 NAMES_BINDINGS_MAX * sizeof(struct names_binding))

/*
 * Make the area usable: as it is where its layout makes sense within `size` bytes, else begun anew.
 * @area: `size` bytes, at least NAMES_AREA_SIZE, aligned to 8; unused ones are zero
 * Return: true where it was begun anew.
 */
bool names_area_open(struct names_area *area, uint64_t size);

static inline struct names_binding *names_area_binding(struct names_area *area, uint32_t index)
{
	return (struct names_binding *)(void *)((char *)area + area->bindings_at +
						(size_t)index * area->binding_size);
}

static inline struct names_query *names_area_query(struct names_area *area, uint32_t index)
{
	return (struct names_query *)(void *)((char *)area + area->asked_at +
					      (size_t)index * area->asked_size);
}

/* A number for a table in memory; the address's family matters. */
uint64_t names_hash_address(uint8_t family, const struct pkt_addr *address);

#endif
