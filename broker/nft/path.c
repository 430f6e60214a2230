// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/nft/path.h"

#include "nsgate/hook.h"

#define BIT(path) (1U << NSGATE_PATH_##path)

/* In postrouting what was forwarded is told from what was made here by the link that it came by. */
static const struct rules_path in_paths[] = {
	{RULES_LINK_IN, NSGATE_PATH_IN_LINK, BIT(OUT_LINK)},
	{RULES_LOOP_IN, NSGATE_PATH_IN_LOOP, BIT(OUT_LOOP)},
};
static const struct rules_path prerouting_paths[] = {
	{RULES_LINK_IN, NSGATE_PATH_IN_LINK, BIT(OUT_LINK) | BIT(FORWARD)},
	{RULES_LOOP_IN, NSGATE_PATH_IN_LOOP, BIT(OUT_LOOP)},
};
static const struct rules_path out_paths[] = {
	{RULES_LINK_OUT, NSGATE_PATH_OUT_LINK, BIT(IN_LINK)},
	{RULES_LOOP_OUT, NSGATE_PATH_OUT_LOOP, BIT(IN_LOOP)},
};
static const struct rules_path postrouting_paths[] = {
	{RULES_LINK_OUT_OURS, NSGATE_PATH_OUT_LINK, BIT(IN_LINK)},
	{RULES_LOOP_OUT, NSGATE_PATH_OUT_LOOP, BIT(IN_LOOP)},
	{RULES_FORWARDED, NSGATE_PATH_OUT_LINK, BIT(IN_LINK) | BIT(FORWARD)},
};
static const struct rules_path forward_paths[] = {
	{RULES_ANY_LINK, NSGATE_PATH_FORWARD, BIT(FORWARD)},
};

#define PATHS(list)                                                                                \
	{                                                                                          \
		(list), sizeof(list) / sizeof((list)[0])                                           \
	}

struct rules_paths rules_paths(uint32_t hook)
{
	static const struct rules_paths paths[NSGATE_HOOK_MAX] = {
		[NSGATE_HOOK_PREROUTING] = PATHS(prerouting_paths),
		[NSGATE_HOOK_IN] = PATHS(in_paths),
		[NSGATE_HOOK_FORWARD] = PATHS(forward_paths),
		[NSGATE_HOOK_OUT] = PATHS(out_paths),
		[NSGATE_HOOK_POSTROUTING] = PATHS(postrouting_paths),
	};

	return paths[hook];
}

#define LO NSGATE_LOOPBACK_INDEX
#define IF_IS(key, index)                                                                          \
	{                                                                                          \
		NFT_META_##key, NFT_CMP_EQ, index                                                  \
	}
#define IF_IS_NOT(key, index)                                                                      \
	{                                                                                          \
		NFT_META_##key, NFT_CMP_NEQ, index                                                 \
	}

void rules_match_links(struct nft_batch *batch, enum rules_link_kind kind)
{
	static const struct {
		enum nft_meta_keys key; /* 0: no more */
		enum nft_cmp_ops op;
		uint32_t ifindex;
	} kinds[RULES_LINK_KINDS][2] = {
		[RULES_NO_LINK_IN] = {IF_IS(IIF, 0)},
		[RULES_LINK_IN] = {IF_IS_NOT(IIF, LO)},
		[RULES_LOOP_IN] = {IF_IS(IIF, LO)},
		[RULES_LINK_OUT] = {IF_IS_NOT(OIF, LO)},
		[RULES_LINK_OUT_OURS] = {IF_IS(IIF, 0), IF_IS_NOT(OIF, LO)},
		[RULES_LOOP_OUT] = {IF_IS(OIF, LO)},
		[RULES_FORWARDED] = {IF_IS_NOT(IIF, 0)},
	};

	for (size_t i = 0; i < 2 && kinds[kind][i].key; i++)
		nft_match_meta(batch, kinds[kind][i].key, UINT32_MAX, kinds[kind][i].op,
			       kinds[kind][i].ifindex);
}

static struct nft_label label_of(uint32_t generation, uint32_t paths)
{
	struct nft_label label = {.words = {0}};

	for (unsigned int path = 0; path < NSGATE_PATH_MAX; path++)
		if (paths & 1U << path)
			nft_label_add(&label, NSGATE_LABEL_ACCEPTED(generation, path));
	return label;
}

void rules_match_accepted(const struct rules_set *set, uint32_t paths)
{
	const struct nft_label label = label_of(set->generation, paths);

	nft_match_label(set->batch, &label, NFT_CMP_NEQ);
}

/* The bits of generation 0 are those of any policy (nsgate/flow.h). */
void rules_match_passed(const struct rules_set *set, uint32_t paths, enum nft_cmp_ops op)
{
	const struct nft_label label = label_of(0, paths);

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

void rules_label_unsure(const struct rules_set *set)
{
	const struct nft_label label = unsure_label();

	nft_set_label(set->batch, &label);
}

void rules_label_path(const struct rules_set *set, enum nsgate_path path, bool accepted)
{
	struct nft_label label = {.words = {0}};

	nft_label_add(&label, NSGATE_LABEL_PASSED(path));
	if (accepted)
		nft_label_add(&label, NSGATE_LABEL_ACCEPTED(set->generation, path));
	nft_set_label(set->batch, &label);
}
