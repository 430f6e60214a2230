/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Serving the namespaces that the broker hands over. Control thread only. */
#ifndef NSGATE_NS_SERVE_H
#define NSGATE_NS_SERVE_H

#include "agent/ns/ns.h"

/* ---- for the broker's link ---- */

/*
 * A namespace is offered: it is served once ns_set_links() has told its links, by whose names the
 * policy may go. `fds` (in the order of NS_ADD) are taken over. One that is held already stays as
 * it is.
 * Return: 0; or an enum nsgate_status with the reason in ret_text.
 */
enum nsgate_status ns_add(uint32_t offer_id, const struct nsgate_ns_record *record, int *fds,
			  unsigned int fd_count, char ret_text[NSGATE_TEXT_MAX]);

/*
 * Wait until the workers serve what was told its links. Nothing but further offers and links may
 * be handled before. Whatever cannot be served is given back: `refuse` is told why.
 */
typedef void ns_refuse_fn(uint32_t offer_id, enum nsgate_status status, const char *text);
void ns_admit(ns_refuse_fn *refuse);

/* Verdict what waits, close everything. Also of one that was offered and has no links yet. */
void ns_remove(struct ns *ns);

void ns_set_links(struct ns *ns, const struct nsgate_link *links, uint32_t count);
void ns_set_state(struct ns *ns, bool orphaned, bool degraded, const char *text);

/* Somebody was at its rules or its queue (enum nsgate_tamper); `repairs` of that since attach. */
void ns_tampered(struct ns *ns, const struct nsgate_msg_ns_tamper *tamper);

/* The descriptors of NS_HELD in their order, all still the namespace's. Return: how many. */
unsigned int ns_fds(const struct ns *ns, int *ret_fds);

/* Do what could not be done at once, or is to be told later. Milliseconds until then; -1: never. */
int ns_timeout_ms(void);
void ns_tick(void);

/* The broker came or went. */
void ns_broker_connected(void);
void ns_broker_lost(void);

/* ---- for the control thread's start and stop ---- */

/*
 * The workers to share the queues among, `count` for all and as many for flooded ones (NULL: none);
 * they stay the caller's. `note` may be NULL.
 */
void ns_open(struct worker *const *workers, struct worker *const *for_floods, unsigned int count,
	     ns_note_fn *note);

/* Move queues that are flooded, or no longer, to the workers for such. After event_ring_poke(). */
void ns_rebalance(void);
void ns_close(void); /* stop serving, close everything; rules and queues live on with the broker */

#endif
