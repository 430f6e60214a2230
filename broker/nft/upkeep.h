/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a link needs to live and passes unjudged. Private to broker/rules*.c. */
#ifndef NSGATE_RULES_UPKEEP_H
#define NSGATE_RULES_UPKEEP_H

#include <stdint.h>

#include "broker/nft/set.h"

/* The chain upkeep_<hook>, which accepts it. It returns for all else. */
void rules_upkeep(const struct rules_set *set, uint32_t hook);

/* A rule of `chain` that jumps there. */
void rules_jump_upkeep(const struct rules_set *set, const char *chain, uint32_t hook);

#endif
