// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/nft/table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "broker/nft/batch.h"

struct search {
	struct rules_table *table;
	uint32_t port;	/* of the socket that asks */
	bool owned;	/* by it: the search is over */
	bool base_free; /* nobody has the name without a number */
};

static const struct nlattr *find_attribute(const struct nlmsghdr *nlh, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == type)
			return attr;
	return NULL;
}

static void choose(struct rules_table *table, uint32_t number)
{
	table->exists = true;
	table->number = number;
}

static void leave_over(struct rules_table *table, uint32_t number)
{
	if (table->leftover_count < RULES_LEFTOVERS_MAX)
		table->leftovers[table->leftover_count++] = number;
}

static void see_table(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *name = find_attribute(nlh, NFTA_TABLE_NAME);
	const struct nlattr *owner = find_attribute(nlh, NFTA_TABLE_OWNER);
	struct search *search = data;
	struct rules_table *table = search->table;
	uint32_t number;

	if (!name || mnl_attr_validate(name, MNL_TYPE_NUL_STRING) < 0 ||
	    !nsgate_table_number(mnl_attr_get_str(name), &number))
		return;
	search->base_free &= number != 0;
	if (owner && ntohl(mnl_attr_get_u32(owner)) == search->port) {
		if (table->exists)
			leave_over(table, table->number);
		choose(table, number);
		search->owned = true;
	} else if (!owner && table->exists) {
		leave_over(table, number);
	} else if (!owner) {
		choose(table, number);
	}
}

static int own_port(int fd, uint32_t *ret_port)
{
	struct sockaddr_nl address = {.nl_pid = 0};
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return -errno;
	*ret_port = address.nl_pid;
	return 0;
}

/* A number that nobody can have thought of. 0, which is taken, if there is none to be had. */
static uint32_t draw_number(void)
{
	uint32_t number;

	return getrandom(&number, sizeof(number), GRND_NONBLOCK) == sizeof(number) ? number : 0;
}

static int find(int fd, uint8_t family, struct rules_table *ret)
{
	struct search search = {.table = ret, .base_free = true};
	int r = own_port(fd, &search.port);

	*ret = (struct rules_table){.number = 0};
	/* Mostly it is the one. */
	if (r == 0)
		r = nft_get_table(fd, family, NSGATE_TABLE, see_table, &search);
	if (r == -EOPNOTSUPP || r == -EAFNOSUPPORT)
		r = 0;
	else if (r == 0 && !search.owned) {
		*ret = (struct rules_table){.number = 0};
		r = nft_each_table(fd, family, see_table, &search);
	}
	if (!ret->exists && !search.base_free)
		ret->number = draw_number();
	nsgate_table_name(ret->name, ret->number);
	return r;
}

int rules_tables_find(int fd, struct rules_tables *ret)
{
	int r = find(fd, NFPROTO_INET, &ret->inet);

	return r ? r : find(fd, NFPROTO_NETDEV, &ret->netdev);
}

static void keep_name(struct rules_table *table)
{
	if (table->exists)
		return;
	table->number = 0;
	nsgate_table_name(table->name, 0);
}

void rules_tables_keep_name(struct rules_tables *tables)
{
	keep_name(&tables->inet);
	keep_name(&tables->netdev);
}

static void tidy(int fd, uint8_t family, const struct rules_table *table)
{
	for (size_t i = 0; i < table->leftover_count; i++) {
		char name[NSGATE_TABLE_NAME_MAX];
		struct nft_batch batch;

		nsgate_table_name(name, table->leftovers[i]);
		nft_batch_begin(&batch, name);
		nft_batch_turn(&batch, family);
		nft_delete_table(&batch);
		(void)nft_batch_commit(&batch, fd); /* somebody may own it by now */
	}
}

void rules_tables_tidy(int fd, const struct rules_tables *tables)
{
	tidy(fd, NFPROTO_INET, &tables->inet);
	tidy(fd, NFPROTO_NETDEV, &tables->netdev);
}
