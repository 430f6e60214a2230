/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an IPv6 link needs to live and passes unjudged. Private to broker/nft. */
#ifndef NSGATE_NFT_NDISC_H
#define NSGATE_NFT_NDISC_H

#include <stdint.h>

#include "broker/nft/set.h"

/* The chain upkeep_<hook>, which accepts it and returns for all else. None in the hook forward. */
void ndisc_chain_add(const struct rules_set *set, uint32_t hook);

#endif
