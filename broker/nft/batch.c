/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/nft/batch.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "netlink.h"

/*
 * Five hooks of up to 60 rules of about 500 bytes, and the links of a guard: 200 bytes each, 100
 * for those that are gone. A message must fit into the send buffer (netlink_sendmsg() in
 * net/netlink/af_netlink.c). The default is SEND_BUFFER, and anybody may ask for twice as much
 * (net.core.wmem_max, socket(7)).
 */
#define SEND_BUFFER 212992
#define SEND_OVERHEAD 32
#define BATCH_BYTES (2 * SEND_BUFFER - SEND_OVERHEAD)
#define NF_NETDEV_EGRESS 1 /* enum nf_dev_hooks of linux/netfilter.h, since Linux 5.16 */

/* More than any one message takes: libnftnl writes without looking at the space left. */
#define MESSAGE_ROOM 8192
/* Of a request that carries two names. */
#define FIND_BYTES 512

/* Append the header of a message. Return: NULL where the batch has failed already. */
static struct nlmsghdr *message_begin(struct nft_batch *batch, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh;
	struct nfgenmsg *nfg;
	bool envelope = type == NFNL_MSG_BATCH_BEGIN || type == NFNL_MSG_BATCH_END;

	if (!batch->error && batch->used + MESSAGE_ROOM > BATCH_BYTES)
		batch->error = -EMSGSIZE;
	if (batch->error)
		return NULL;
	nlh = mnl_nlmsg_put_header(batch->buffer + batch->used);
	nlh->nlmsg_type = envelope ? type : NFNL_SUBSYS_NFTABLES << 8 | type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nlh->nlmsg_seq = netlink_sequence();
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = envelope ? AF_UNSPEC : batch->family;
	nfg->version = NFNETLINK_V0;
	nfg->res_id = htons(envelope ? NFNL_SUBSYS_NFTABLES : 0);
	return nlh;
}

static void message_end(struct nft_batch *batch, const struct nlmsghdr *nlh)
{
	batch->last_message = batch->used;
	batch->used += MNL_ALIGN(nlh->nlmsg_len);
}

void nft_batch_begin_at(struct nft_batch *batch, const char *table, uint32_t generation)
{
	struct nlmsghdr *nlh;

	*batch = (struct nft_batch){
		.table = table,
		.inet = table,
		.netdev = table,
		.family = NFPROTO_INET,
		.buffer = malloc(BATCH_BYTES),
	};
	if (!batch->buffer)
		batch->error = -ENOMEM;
	nlh = message_begin(batch, NFNL_MSG_BATCH_BEGIN, 0);
	if (!nlh)
		return;
	batch->first = nlh->nlmsg_seq;
	if (generation)
		mnl_attr_put_u32(nlh, NFNL_BATCH_GENID, htonl(generation));
	message_end(batch, nlh);
}

void nft_batch_begin(struct nft_batch *batch, const char *table)
{
	nft_batch_begin_at(batch, table, 0);
}

void nft_batch_turn(struct nft_batch *batch, uint8_t family)
{
	batch->family = family;
	batch->table = family == NFPROTO_NETDEV ? batch->netdev : batch->inet;
}

void nft_batch_name_netdev(struct nft_batch *batch, const char *table)
{
	batch->netdev = table;
}

/* Where that is forbidden the message is refused, which is told. */
static void make_room(int fd, size_t bytes)
{
	const int size = SEND_BUFFER; /* the kernel doubles it */

	if (bytes > SEND_BUFFER - SEND_OVERHEAD)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int nft_batch_commit(struct nft_batch *batch, int fd)
{
	struct netlink_exchange exchange;
	struct nlmsghdr *last, *nlh;
	int r;

	/* Kernels before 6.10 acknowledge no end of batch, so ask for it in the last change. */
	last = (struct nlmsghdr *)(batch->buffer + batch->last_message);
	nlh = message_begin(batch, NFNL_MSG_BATCH_END, 0);
	r = batch->error;
	if (nlh) {
		last->nlmsg_flags |= NLM_F_ACK;
		message_end(batch, nlh);
		make_room(fd, batch->used);
		exchange = (struct netlink_exchange){.request = batch->buffer,
						     .length = batch->used,
						     .first = batch->first,
						     .last = last->nlmsg_seq};
		r = netlink_exchange(fd, &exchange);
	}
	nft_batch_free(batch);
	return r;
}

void nft_batch_free(struct nft_batch *batch)
{
	if (batch->rule)
		nftnl_rule_free(batch->rule);
	free(batch->buffer);
	*batch = (struct nft_batch){.error = -EINVAL};
}

static void change_table(struct nft_batch *batch, uint16_t type, uint16_t flags,
			 const uint32_t *table_flags)
{
	struct nlmsghdr *nlh = message_begin(batch, type, flags);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, batch->table);
	if (table_flags)
		mnl_attr_put_u32(nlh, NFTA_TABLE_FLAGS, htonl(*table_flags));
	message_end(batch, nlh);
}

void nft_add_table(struct nft_batch *batch, uint32_t flags)
{
	change_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, &flags);
}

void nft_delete_table(struct nft_batch *batch)
{
	change_table(batch, NFT_MSG_DELTABLE, 0, NULL);
}

static void add_chain(struct nft_batch *batch, struct nftnl_chain *chain, const char *name)
{
	struct nlmsghdr *nlh = message_begin(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE);

	if (!chain && !batch->error)
		batch->error = -ENOMEM;
	if (nlh && chain) {
		nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, batch->table);
		nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
		nftnl_chain_nlmsg_build_payload(nlh, chain);
		message_end(batch, nlh);
	}
	if (chain)
		nftnl_chain_free(chain);
}

void nft_add_base_chain(struct nft_batch *batch, const char *name, const char *type, uint32_t hook,
			int32_t priority)
{
	struct nftnl_chain *chain = nftnl_chain_alloc();

	if (chain) {
		nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, type);
		nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, hook);
		nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, priority);
		nftnl_chain_set_u32(chain, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	}
	add_chain(batch, chain, name);
}

void nft_add_chain(struct nft_batch *batch, const char *name)
{
	add_chain(batch, nftnl_chain_alloc(), name);
}

void nft_add_egress_chain(struct nft_batch *batch, const char *name, const char *device)
{
	struct nftnl_chain *chain = nftnl_chain_alloc();

	if (chain) {
		nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, "filter");
		nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, NF_NETDEV_EGRESS);
		nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, 0);
		nftnl_chain_set_str(chain, NFTNL_CHAIN_DEV, device);
		nftnl_chain_set_u32(chain, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	}
	add_chain(batch, chain, name);
}

void nft_delete_chain(struct nft_batch *batch, const char *name)
{
	struct nlmsghdr *nlh = message_begin(batch, NFT_MSG_DELCHAIN, 0);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, batch->table);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, name);
	message_end(batch, nlh);
}

static void put_counter(struct nlmsghdr *nlh, const char *table, const char *name)
{
	mnl_attr_put_strz(nlh, NFTA_OBJ_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_OBJ_NAME, name);
	mnl_attr_put_u32(nlh, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
}

void nft_add_counter(struct nft_batch *batch, const char *name)
{
	struct nlmsghdr *nlh = message_begin(batch, NFT_MSG_NEWOBJ, NLM_F_CREATE | NLM_F_EXCL);

	if (!nlh)
		return;
	put_counter(nlh, batch->table, name);
	mnl_attr_nest_end(nlh, mnl_attr_nest_start(nlh, NFTA_OBJ_DATA));
	message_end(batch, nlh);
}

static void build_set(struct nlmsghdr *nlh, struct nftnl_set *built, const struct nft_set *set)
{
	const uint64_t timeout_ms = set->timeout_ms;

	nftnl_set_set_str(built, NFTNL_SET_NAME, set->name);
	nftnl_set_set_u32(built, NFTNL_SET_FLAGS, NFT_SET_EVAL | NFT_SET_TIMEOUT);
	nftnl_set_set_u32(built, NFTNL_SET_KEY_TYPE, set->key_type);
	nftnl_set_set_u32(built, NFTNL_SET_KEY_LEN, set->key_bytes);
	nftnl_set_set_u32(built, NFTNL_SET_DESC_SIZE, set->size);
	nftnl_set_set_u64(built, NFTNL_SET_TIMEOUT, timeout_ms);
	nftnl_set_set_u32(built, NFTNL_SET_GC_INTERVAL, set->sweep_ms);
	nftnl_set_nlmsg_build_payload(nlh, built);
}

void nft_add_set(struct nft_batch *batch, const struct nft_set *set)
{
	struct nlmsghdr *nlh = message_begin(batch, NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL);
	struct nftnl_set *built = nftnl_set_alloc();

	if (!built && !batch->error)
		batch->error = -ENOMEM;
	if (nlh && built) {
		nftnl_set_set_str(built, NFTNL_SET_TABLE, batch->table);
		nftnl_set_set_u32(built, NFTNL_SET_ID, ++batch->sets);
		build_set(nlh, built, set);
		message_end(batch, nlh);
	}
	if (built)
		nftnl_set_free(built);
}

void nft_delete_set(struct nft_batch *batch, const char *name)
{
	struct nlmsghdr *nlh = message_begin(batch, NFT_MSG_DELSET, 0);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, batch->table);
	mnl_attr_put_strz(nlh, NFTA_SET_NAME, name);
	message_end(batch, nlh);
}

static struct nlmsghdr *find_begin(void *buffer, uint16_t type, uint8_t family)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

int nft_get_table(int fd, uint8_t family, const char *table, netlink_handler handler, void *data)
{
	_Alignas(struct nlmsghdr) char buffer[FIND_BYTES];
	struct nlmsghdr *nlh = find_begin(buffer, NFT_MSG_GETTABLE, family);
	int r;

	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
	r = netlink_request(fd, nlh, handler, data);
	return r == -ENOENT ? 0 : r;
}

/* `table`: as far as the kernel looks at it; NULL: all. */
static int dump(int fd, uint8_t family, uint16_t type, const char *table, netlink_handler handler,
		void *data)
{
	_Alignas(struct nlmsghdr) char buffer[FIND_BYTES];
	struct netlink_exchange exchange = {.request = buffer, .handler = handler, .data = data};
	struct nlmsghdr *nlh = find_begin(buffer, type, family);

	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = exchange.first = exchange.last = netlink_sequence();
	if (table)
		mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, table);
	exchange.length = nlh->nlmsg_len;
	return netlink_exchange(fd, &exchange);
}

int nft_each_table(int fd, uint8_t family, netlink_handler handler, void *data)
{
	return dump(fd, family, NFT_MSG_GETTABLE, NULL, handler, data);
}

int nft_find_counter(int fd, uint8_t family, const char *table, const char *name)
{
	_Alignas(struct nlmsghdr) char buffer[FIND_BYTES];
	struct nlmsghdr *nlh = find_begin(buffer, NFT_MSG_GETOBJ, family);

	put_counter(nlh, table, name);
	return netlink_request(fd, nlh, NULL, NULL);
}

int nft_find_chain(int fd, uint8_t family, const char *table, const char *name)
{
	_Alignas(struct nlmsghdr) char buffer[FIND_BYTES];
	struct nlmsghdr *nlh = find_begin(buffer, NFT_MSG_GETCHAIN, family);

	mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, name);
	return netlink_request(fd, nlh, NULL, NULL);
}

int nft_find_set(int fd, uint8_t family, const char *table, const char *name)
{
	_Alignas(struct nlmsghdr) char buffer[FIND_BYTES];
	struct nlmsghdr *nlh = find_begin(buffer, NFT_MSG_GETSET, family);

	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_SET_NAME, name);
	return netlink_request(fd, nlh, NULL, NULL);
}

static void take_generation(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attr;
	uint32_t *ret = data;

	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_GEN_ID &&
		    mnl_attr_validate(attr, MNL_TYPE_U32) == 0)
			*ret = ntohl(mnl_attr_get_u32(attr));
	}
}

int nft_generation(int fd, uint32_t *ret_generation)
{
	_Alignas(struct nlmsghdr) char buffer[FIND_BYTES];
	uint32_t generation = 0;
	int r = netlink_request(fd, find_begin(buffer, NFT_MSG_GETGEN, NFPROTO_INET),
				take_generation, &generation);

	if (r == 0)
		*ret_generation = generation;
	return r;
}

uint32_t nft_generation_after(uint32_t generation)
{
	return generation == UINT32_MAX ? 1 : generation + 1;
}

struct each {
	const char *table;
	netlink_handler handler;
	void *data;
};

/* Chains of other tables come too, where the kernel leaves the choice to us. */
static void take_one(const struct nlmsghdr *nlh, void *data)
{
	const struct each *each = data;
	const struct nlattr *attr;

	static_assert((int)NFTA_TABLE_NAME == NFTA_CHAIN_TABLE &&
			      (int)NFTA_CHAIN_TABLE == NFTA_RULE_TABLE,
		      "the table's name is the same attribute in all three");
	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) != NFTA_CHAIN_TABLE)
			continue;
		if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0 &&
		    strcmp(mnl_attr_get_str(attr), each->table) == 0)
			each->handler(nlh, each->data);
		return;
	}
}

int nft_each(int fd, uint8_t family, const char *table, netlink_handler handler, void *data)
{
	static const uint16_t dumps[] = {NFT_MSG_GETCHAIN, NFT_MSG_GETRULE};
	struct each each = {.table = table, .handler = handler, .data = data};
	int r = nft_get_table(fd, family, table, take_one, &each);

	for (size_t i = 0; i < sizeof(dumps) / sizeof(dumps[0]) && r == 0; i++)
		r = dump(fd, family, dumps[i], table, take_one, &each);
	return r == -ENOENT ? 0 : r;
}

/* A DELRULE that names no handle means all rules of the chain; no chain either, of the table. */
static void flush(struct nft_batch *batch, const char *chain)
{
	struct nlmsghdr *nlh = message_begin(batch, NFT_MSG_DELRULE, 0);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, batch->table);
	if (chain)
		mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, chain);
	message_end(batch, nlh);
}

void nft_flush_table(struct nft_batch *batch)
{
	flush(batch, NULL);
}

void nft_flush_chain(struct nft_batch *batch, const char *chain)
{
	flush(batch, chain);
}

void nft_rule_begin(struct nft_batch *batch, const char *chain)
{
	batch->rule = nftnl_rule_alloc();
	if (!batch->rule) {
		batch->error = batch->error ? batch->error : -ENOMEM;
		return;
	}
	nftnl_rule_set_str(batch->rule, NFTNL_RULE_TABLE, batch->table);
	nftnl_rule_set_str(batch->rule, NFTNL_RULE_CHAIN, chain);
}

void nft_rule_end(struct nft_batch *batch)
{
	struct nlmsghdr *nlh = message_begin(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);

	if (nlh) {
		nftnl_rule_nlmsg_build_payload(nlh, batch->rule);
		message_end(batch, nlh);
	}
	if (batch->rule)
		nftnl_rule_free(batch->rule);
	batch->rule = NULL;
}
