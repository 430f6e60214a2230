/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets that conntrack calls related, invalid or untracked. Private to broker/nft. */
#ifndef NSGATE_NFT_RELATED_H
#define NSGATE_NFT_RELATED_H

#include <stdint.h>

#include "broker/nft/set.h"

/*
 * The chain odd_<hook> for them, and what it needs. What returns from it is the first packet of a
 * connection that was expected. Where the kernel has no conntrack expressions, nothing returns.
 */
void related_chains_add(const struct rules_set *set, uint32_t hook);

#endif
