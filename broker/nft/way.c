// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/nft/way.h"

#include "nsgate/hook.h"

#define BIT(way) (1U << (way))

/* In postrouting what was forwarded is told from what was made here by the link that it came by. */
static const struct rules_way in_ways[] = {
	{RULES_LINK_IN, NSGATE_WAY_IN_LINK, BIT(NSGATE_WAY_OUT_LINK)},
	{RULES_LOOP_IN, NSGATE_WAY_IN_LOOP, BIT(NSGATE_WAY_OUT_LOOP)},
};
static const struct rules_way prerouting_ways[] = {
	{RULES_LINK_IN, NSGATE_WAY_IN_LINK, BIT(NSGATE_WAY_OUT_LINK) | BIT(NSGATE_WAY_FORWARD)},
	{RULES_LOOP_IN, NSGATE_WAY_IN_LOOP, BIT(NSGATE_WAY_OUT_LOOP)},
};
static const struct rules_way out_ways[] = {
	{RULES_LINK_OUT, NSGATE_WAY_OUT_LINK, BIT(NSGATE_WAY_IN_LINK)},
	{RULES_LOOP_OUT, NSGATE_WAY_OUT_LOOP, BIT(NSGATE_WAY_IN_LOOP)},
};
static const struct rules_way postrouting_ways[] = {
	{RULES_LINK_OUT_OURS, NSGATE_WAY_OUT_LINK, BIT(NSGATE_WAY_IN_LINK)},
	{RULES_LOOP_OUT, NSGATE_WAY_OUT_LOOP, BIT(NSGATE_WAY_IN_LOOP)},
	{RULES_FORWARDED, NSGATE_WAY_OUT_LINK, BIT(NSGATE_WAY_IN_LINK) | BIT(NSGATE_WAY_FORWARD)},
};
static const struct rules_way forward_ways[] = {
	{RULES_ANY_LINK, NSGATE_WAY_FORWARD, BIT(NSGATE_WAY_FORWARD)},
};

#define WAYS(list)                                                                                 \
	{                                                                                          \
		(list), sizeof(list) / sizeof((list)[0])                                           \
	}

struct rules_ways rules_ways(uint32_t hook)
{
	static const struct rules_ways ways[NSGATE_HOOK_MAX] = {
		[NSGATE_HOOK_PREROUTING] = WAYS(prerouting_ways),
		[NSGATE_HOOK_IN] = WAYS(in_ways),
		[NSGATE_HOOK_FORWARD] = WAYS(forward_ways),
		[NSGATE_HOOK_OUT] = WAYS(out_ways),
		[NSGATE_HOOK_POSTROUTING] = WAYS(postrouting_ways),
	};

	return ways[hook];
}

void rules_match_links(struct nft_batch *batch, enum rules_link_kind kind)
{
	switch (kind) {
	case RULES_LINK_IN: /* iif != lo */
		nft_match_meta(batch, NFT_META_IIF, UINT32_MAX, NFT_CMP_NEQ, NSGATE_LOOPBACK_INDEX);
		break;
	case RULES_LOOP_IN:
		nft_match_meta(batch, NFT_META_IIF, UINT32_MAX, NFT_CMP_EQ, NSGATE_LOOPBACK_INDEX);
		break;
	case RULES_LINK_OUT_OURS: /* iif == 0 oif != lo */
		nft_match_meta(batch, NFT_META_IIF, UINT32_MAX, NFT_CMP_EQ, 0);
		nft_match_meta(batch, NFT_META_OIF, UINT32_MAX, NFT_CMP_NEQ, NSGATE_LOOPBACK_INDEX);
		break;
	case RULES_LINK_OUT:
		nft_match_meta(batch, NFT_META_OIF, UINT32_MAX, NFT_CMP_NEQ, NSGATE_LOOPBACK_INDEX);
		break;
	case RULES_LOOP_OUT:
		nft_match_meta(batch, NFT_META_OIF, UINT32_MAX, NFT_CMP_EQ, NSGATE_LOOPBACK_INDEX);
		break;
	case RULES_FORWARDED: /* iif != 0 */
		nft_match_meta(batch, NFT_META_IIF, UINT32_MAX, NFT_CMP_NEQ, 0);
		break;
	case RULES_ANY_LINK:
	default:
		break;
	}
}

static struct nft_label bits_of(uint32_t generation, uint32_t ways)
{
	struct nft_label label = {.words = {0}};

	for (unsigned int way = 0; way < NSGATE_WAY_MAX; way++)
		if (ways & BIT(way))
			nft_label_add(&label, NSGATE_LABEL_ACCEPTED(generation, way));
	return label;
}

void rules_match_accepted(const struct rules_set *set, uint32_t ways)
{
	const struct nft_label label = bits_of(set->generation, ways);

	nft_match_label(set->batch, &label, NFT_CMP_NEQ);
}

/* The bits of generation 0 are those of any policy (nsgate/flow.h). */
void rules_match_passed(const struct rules_set *set, uint32_t ways, enum nft_cmp_ops op)
{
	const struct nft_label label = bits_of(0, ways);

	nft_match_label(set->batch, &label, op);
}

static struct nft_label unsure_label(void)
{
	struct nft_label label = {.words = {0}};

	nft_label_add(&label, NSGATE_LABEL_UNSURE);
	return label;
}

void rules_match_unsure(const struct rules_set *set)
{
	const struct nft_label label = unsure_label();

	nft_match_label(set->batch, &label, NFT_CMP_NEQ);
}

void rules_note_unsure(const struct rules_set *set)
{
	const struct nft_label label = unsure_label();

	nft_set_label(set->batch, &label);
}

void rules_note(const struct rules_set *set, enum nsgate_way way, bool accepted)
{
	struct nft_label label = {.words = {0}};

	nft_label_add(&label, NSGATE_LABEL_PASSED(way));
	if (accepted)
		nft_label_add(&label, NSGATE_LABEL_ACCEPTED(set->generation, way));
	nft_set_label(set->batch, &label);
}
