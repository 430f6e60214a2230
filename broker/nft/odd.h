/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets that conntrack calls related, invalid or untracked. Private to broker/rules*.c.
 */
#ifndef NSGATE_RULES_ODD_H
#define NSGATE_RULES_ODD_H

#include <stdint.h>

#include "broker/nft/set.h"
#include "broker/nft/way.h"

/*
 * A rule of `chain` that sends them to odd_<hook>, and that chain. What comes back is the first
 * packet of a connection that was expected. Where the kernel has no conntrack expressions, all go
 * there and none comes back.
 */
void rules_odd(const struct rules_set *set, const char *chain, uint32_t hook);

/* ---- broker/nft/judge.c: ends of the rule that is being made ---- */

/* ... counter name "asked" queue to the number of `flow` */
void rules_queue(const struct rules_set *set, enum nsgate_flow flow);

/* ... counter name "offloaded_in" accept */
void rules_accept_offloaded(const struct rules_set *set, uint32_t hook);

/*
 * Two rules for packets of flows that are accepted: of the original direction by that way, and of
 * the replies that come by it. `end` finishes each.
 */
typedef void rules_end(const struct rules_set *set, uint32_t hook);
void rules_end_known(const struct rules_set *set, const char *chain, uint32_t hook,
		     const struct rules_way *way, rules_end *end);

/* That way, and of that direction. */
void rules_match_original(const struct rules_set *set, const struct rules_way *way);
void rules_match_reply(const struct rules_set *set, const struct rules_way *way);

#endif
