// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * What a process sends by AF_PACKET passes no hook of IP, so no judging chain. It does pass the
 * egress hook of the link that it leaves by. There the guard stands: a table `netdev nsgate` with
 * one chain for each link, egress_<ifindex>, all of which go to the chain `guard`:
 *
 *   - A packet that has been routed comes from the kernel's IP, through the hooks out or forward,
 *     where nsgate judged whatever the policy names. It passes. An AF_PACKET frame has no route
 *     and no way to get one, whatever capabilities its sender has; a mark, which the sender could
 *     read and set, is not needed. So every mark is left alone.
 *   - ARP is not IP. The kernel's own belongs to no socket and passes.
 *   - The rest is dropped and counted: AF_PACKET, with or without PACKET_QDISC_BYPASS, and frames
 *     that are bridged or redirected past the hooks.
 *
 * Fragments need a chain of their own. What a raw socket sends in pieces is put together before
 * the judging chain sees it, unless the socket has IP_NODEFRAG. The kernel itself cuts packets up
 * behind the hooks. So in the hook out no honest packet is a fragment: the judging chain drops
 * them, and where a policy does not name the hook, guard_out.
 *
 * One chain for each link, since kernels before 6.4 cannot bind another link to a chain, and
 * those before 6.16 drop a chain with its last link. Later ones bind by name: a link that is
 * renamed is on its own until its chain has been told. Unbinding a link drops whatever waits in
 * any queue of the namespace, as deleting any base chain does. So chains stay when a policy is no
 * longer strict, without rules, and are deleted with their link at the earliest.
 */
#include "broker/nft/guard.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/nft/expr.h"
#include "nsgate/hook.h"
#include "broker/nft/rule.h"

#define GUARD "guard"
#define LINK_PREFIX "egress_"

static void link_chain(char name[RULES_CHAIN_NAME_MAX], uint32_t ifindex)
{
	snprintf(name, RULES_CHAIN_NAME_MAX, LINK_PREFIX "%" PRIu32, ifindex);
}

/* ---- what is there ---- */

struct search {
	struct guard_inventory *inventory;
	int error;
};

static void note_chain(struct search *search, const char *name)
{
	struct guard_inventory *inventory = search->inventory;
	uint32_t *links, ifindex;

	if (sscanf(name, LINK_PREFIX "%" SCNu32, &ifindex) != 1)
		return;
	links = reallocarray(inventory->links, inventory->link_count + 1, sizeof(*links));
	if (!links) {
		search->error = -ENOMEM;
		return;
	}
	links[inventory->link_count++] = ifindex;
	inventory->links = links;
}

static void note(const struct nlmsghdr *nlh, void *data)
{
	const uint16_t type = nlh->nlmsg_type & 0xff;
	struct search *search = data;
	const struct nlattr *attr;

	search->inventory->table |= type == NFT_MSG_NEWTABLE;
	if (type != NFT_MSG_NEWCHAIN)
		return;
	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_CHAIN_NAME &&
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0)
			note_chain(search, mnl_attr_get_str(attr));
	}
}

static int look(int r, bool *ret_exists)
{
	*ret_exists = r == 0;
	return r == -ENOENT ? 0 : r;
}

int guard_take_inventory(int fd, const struct rules_tables *tables, struct guard_inventory *ret)
{
	struct search search = {.inventory = ret};
	int r;

	*ret = (struct guard_inventory){.links = NULL};
	r = look(nft_find_counter(fd, NFPROTO_INET, tables->inet.name, GUARD_COUNTER),
		 &ret->fragment_counter);
	if (r == 0)
		r = nft_each(fd, NFPROTO_NETDEV, tables->netdev.name, note, &search);
	if (r == -EOPNOTSUPP || r == -EAFNOSUPPORT) /* a kernel without the family */
		return 0;
	if (r == 0 && ret->table)
		r = look(nft_find_counter(fd, NFPROTO_NETDEV, tables->netdev.name, GUARD_COUNTER),
			 &ret->counter);
	return r < 0 ? r : search.error;
}

void guard_inventory_free(struct guard_inventory *inventory)
{
	free(inventory->links);
	inventory->links = NULL;
	inventory->link_count = 0;
}

static bool has_chain(const struct guard_inventory *inventory, uint32_t ifindex)
{
	for (unsigned int i = 0; i < inventory->link_count; i++)
		if (inventory->links[i] == ifindex)
			return true;
	return false;
}

static bool is_link(const struct rules_links *links, uint32_t ifindex)
{
	for (unsigned int i = 0; i < links->count; i++)
		if (links->list[i].ifindex == ifindex)
			return true;
	return false;
}

/* ---- the chain against fragments ---- */

static const struct rule fragment_rules[] = {
	{0, {{on_fragment, NFPROTO_IPV4}, {do_count_guard}, {do_verdict, NF_DROP}}},
	{0, {{on_fragment, NFPROTO_IPV6}, {do_count_guard}, {do_verdict, NF_DROP}}},
};

static const struct rule_chain fragment_chain = {ROLE_FRAGMENTS, RULES_GUARD_PRIORITY, 0,
						 RULES(fragment_rules)};

void guard_counter(struct nft_batch *batch, bool strict, const struct guard_inventory *before)
{
	if (strict && !before->fragment_counter)
		nft_add_counter(batch, GUARD_COUNTER);
}

void guard_fragments(struct nft_batch *batch, bool strict)
{
	const struct rules_set set = {.batch = batch};

	if (strict)
		rule_chains_add(&set, NSGATE_HOOK_OUT, &fragment_chain, 1);
}

/* ---- the chains of the links ---- */

static const struct rule guard_rules[] = {
	{0, {{on_route}, {do_verdict, NF_ACCEPT}}},
	{0, {{on_ethertype, ETH_P_ARP}, {on_owner}, {do_count_guard}, {do_verdict, NF_DROP}}},
	{0, {{on_ethertype, ETH_P_ARP}, {do_verdict, NF_ACCEPT}}},
	{0, {{do_count_guard}, {do_verdict, NF_DROP}}},
};

static const struct rule_chain guard_chain = {ROLE_GUARD, 0, 0, RULES(guard_rules)};

static void goto_guard(struct nft_batch *batch, const char *chain)
{
	nft_rule_begin(batch, chain);
	nft_branch(batch, NFT_GOTO, GUARD);
	nft_rule_end(batch);
}

static void bind_links(struct nft_batch *batch, const struct rules_links *links,
		       const struct guard_inventory *before, bool flushed)
{
	char chain[RULES_CHAIN_NAME_MAX];

	for (unsigned int i = 0; i < links->count; i++) {
		link_chain(chain, links->list[i].ifindex);
		nft_add_egress_chain(batch, chain, links->list[i].name);
		if (flushed || !has_chain(before, links->list[i].ifindex))
			goto_guard(batch, chain);
	}
}

static void unbind_links(struct nft_batch *batch, const struct rules_links *links,
			 const struct guard_inventory *before)
{
	char chain[RULES_CHAIN_NAME_MAX];

	for (unsigned int i = 0; i < before->link_count; i++) {
		if (is_link(links, before->links[i]))
			continue;
		link_chain(chain, before->links[i]);
		nft_flush_chain(batch, chain);
		nft_delete_chain(batch, chain);
	}
}

void guard_links(struct nft_batch *batch, bool strict, bool owned, const struct rules_links *links,
		 const struct guard_inventory *before)
{
	const struct rules_set set = {.batch = batch};

	if (!strict && !before->table)
		return;
	nft_batch_turn(batch, NFPROTO_NETDEV);
	nft_add_table(batch, owned ? NFT_TABLE_F_OWNER | NFT_TABLE_PERSIST : 0);
	nft_flush_table(batch);
	if (strict) {
		if (!before->counter)
			nft_add_counter(batch, GUARD_COUNTER);
		rule_chains_add(&set, NSGATE_HOOK_OUT, &guard_chain, 1);
		unbind_links(batch, links, before);
		bind_links(batch, links, before, true);
	}
	nft_batch_turn(batch, NFPROTO_INET);
}

void guard_follow_links(struct nft_batch *batch, const struct rules_links *links,
			const struct guard_inventory *before)
{
	nft_batch_turn(batch, NFPROTO_NETDEV);
	unbind_links(batch, links, before);
	bind_links(batch, links, before, false);
}

void guard_try(struct nft_batch *batch)
{
	static struct nsgate_link loopback = {.ifindex = 1, .name = "lo"};
	const struct rules_links links = {.list = &loopback, .count = 1};
	const struct guard_inventory nothing = {.links = NULL};

	guard_counter(batch, true, &nothing);
	guard_fragments(batch, true);
	guard_links(batch, true, false, &links, &nothing);
}
