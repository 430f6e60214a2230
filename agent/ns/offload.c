// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Messages: linux/netfilter/nf_tables.h. A dump of all counters of the table costs one request,
 * however many directions there are.
 */
#include "agent/ns/offload.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "netlink.h"

#define REQUEST_BYTES 128

static void note_counter(const struct nlattr *data, struct shm_count *ret)
{
	struct nlattr *attr;

	mnl_attr_for_each_nested (attr, data) {
		if (mnl_attr_get_payload_len(attr) < sizeof(uint64_t))
			continue;
		if (mnl_attr_get_type(attr) == NFTA_COUNTER_PACKETS)
			ret->packets = be64toh(mnl_attr_get_u64(attr));
		else if (mnl_attr_get_type(attr) == NFTA_COUNTER_BYTES)
			ret->bytes = be64toh(mnl_attr_get_u64(attr));
	}
}

/* Find what a message says of which counter. Return: its name, or NULL. */
static const char *read_object(const struct nlmsghdr *nlh, const struct nlattr **ret_data)
{
	const struct nlattr *data = NULL;
	struct nlattr *attr;
	const char *name = NULL;

	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_OBJ_NAME &&
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
			name = mnl_attr_get_str(attr);
		else if (mnl_attr_get_type(attr) == NFTA_OBJ_DATA)
			data = attr;
	}
	*ret_data = data;
	return data ? name : NULL;
}

static void note_object(const struct nlmsghdr *nlh, void *context)
{
	struct offload_counts *counts = context;
	const struct nlattr *data;
	const char *name = read_object(nlh, &data);

	if (!name)
		return;
	for (int i = 0; i < NSGATE_COUNTER_MAX; i++) {
		if (strcmp(name, nsgate_counter_names[i]) == 0) {
			note_counter(data, &counts->of[i]);
			counts->found[i] = true;
		}
	}
}

static int dump_counters(int fd, uint8_t family, uint32_t table, netlink_handler handler,
			 void *context)
{
	char name[NSGATE_TABLE_NAME_MAX];
	_Alignas(struct nlmsghdr) char request[REQUEST_BYTES];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(request);
	struct nfgenmsg *genmsg;
	struct netlink_exchange exchange = {
		.request = request, .handler = handler, .data = context};

	nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETOBJ;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = exchange.first = exchange.last = netlink_sequence();
	genmsg = mnl_nlmsg_put_extra_header(nlh, sizeof(*genmsg));
	genmsg->nfgen_family = family;
	genmsg->version = NFNETLINK_V0;
	nsgate_table_name(name, table);
	mnl_attr_put_strz(nlh, NFTA_OBJ_TABLE, name);
	mnl_attr_put_u32(nlh, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
	exchange.length = nlh->nlmsg_len;
	return netlink_exchange(fd, &exchange);
}

int offload_read(int fd, uint32_t table, struct offload_counts *ret)
{
	struct offload_counts counts = {0};
	int err = dump_counters(fd, NFPROTO_INET, table, note_object, &counts);

	if (!err)
		*ret = counts;
	return err;
}

struct guard_search {
	struct shm_count count;
	bool found;
};

static void note_guard(const struct nlmsghdr *nlh, void *context)
{
	struct guard_search *search = context;
	const struct nlattr *data;
	const char *name = read_object(nlh, &data);

	if (!name || strcmp(name, "guard") != 0)
		return;
	note_counter(data, &search->count);
	search->found = true;
}

int offload_read_guard(int fd, uint32_t table_inet, uint32_t table_netdev,
		       struct offload_guard *ret)
{
	const uint32_t tables[OFFLOAD_GUARDS] = {table_inet, table_netdev};
	static const uint8_t families[OFFLOAD_GUARDS] = {NFPROTO_INET, NFPROTO_NETDEV};
	struct offload_guard guard = {.found = {false}};

	for (int i = 0; i < OFFLOAD_GUARDS; i++) {
		struct guard_search search = {.found = false};
		int err = dump_counters(fd, families[i], tables[i], note_guard, &search);

		if (err && err != -EOPNOTSUPP && err != -ENOENT)
			return err;
		guard.of[i] = search.count;
		guard.found[i] = search.found;
	}
	*ret = guard;
	return 0;
}
