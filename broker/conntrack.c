// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * Rules can add bits to a label but take none away, and the kernel deletes no entries by their
 * label. So all entries are asked for, and of those that bear some of the bits the label is set
 * anew, bit by bit (CTA_LABELS_MASK), so that the namespace's own bits stay. The entry itself goes
 * on, and with it the addresses that it translates.
 *
 * Entries that are made meanwhile bear none of the bits: no rule in force sets them.
 */
#include "broker/conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "netlink.h"
#include "nsgate/flow.h"

#define MESSAGE_BYTES 512
#define LABEL_BYTES (NSGATE_LABEL_BITS / 8)

struct label {
	uint8_t bytes[LABEL_BYTES];
};

/* As the kernel has it, an array of unsigned long: only little endian is in use here. */
static void add_bit(struct label *label, unsigned int bit)
{
	label->bytes[bit / 8] |= (uint8_t)(1U << bit % 8);
}

static struct nlmsghdr *conntrack_begin(void *buffer, uint16_t type, uint8_t family)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *nfg;

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

/* The messages that clear bits, one after the other. */
struct clearing {
	struct label bits;
	char *messages;
	size_t used, size;
	int error;
};

static void append_entry(struct clearing *clearing, const struct nlmsghdr *nlh)
{
	if (clearing->size - clearing->used < nlh->nlmsg_len) {
		const size_t size = 2 * clearing->size + MESSAGE_BYTES;
		char *larger = realloc(clearing->messages, size);

		if (!larger) {
			clearing->error = -ENOMEM;
			return;
		}
		clearing->messages = larger;
		clearing->size = size;
	}
	memcpy(clearing->messages + clearing->used, nlh, nlh->nlmsg_len);
	clearing->used += NLMSG_ALIGN(nlh->nlmsg_len);
}

static bool bears_labels(const struct nlattr *labels, const struct label *bits)
{
	const uint8_t *bytes = mnl_attr_get_payload(labels);
	bool any = false;

	if (mnl_attr_get_payload_len(labels) != LABEL_BYTES)
		return false;
	for (size_t i = 0; i < LABEL_BYTES; i++)
		any |= bytes[i] & bits->bytes[i];
	return any;
}

static void note_entry(const struct nlmsghdr *entry, void *data)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(entry);
	_Alignas(struct nlmsghdr) char buffer[MESSAGE_BYTES];
	const struct nlattr *attr, *labels = NULL, *tuple = NULL, *zone = NULL;
	static const struct label none;
	struct clearing *clearing = data;
	struct nlmsghdr *nlh;

	mnl_attr_for_each (attr, entry, sizeof(*nfg)) {
		if (mnl_attr_get_type(attr) == CTA_LABELS)
			labels = attr;
		else if (mnl_attr_get_type(attr) == CTA_TUPLE_ORIG)
			tuple = attr;
		else if (mnl_attr_get_type(attr) == CTA_ZONE)
			zone = attr;
	}
	if (!labels || !tuple || !bears_labels(labels, &clearing->bits) || tuple->nla_len > 256)
		return;
	nlh = conntrack_begin(buffer, IPCTNL_MSG_CT_NEW, nfg->nfgen_family);
	mnl_attr_put(nlh, CTA_TUPLE_ORIG | NLA_F_NESTED, mnl_attr_get_payload_len(tuple),
		     mnl_attr_get_payload(tuple));
	if (zone)
		mnl_attr_put(nlh, CTA_ZONE, mnl_attr_get_payload_len(zone),
			     mnl_attr_get_payload(zone));
	mnl_attr_put(nlh, CTA_LABELS, sizeof(none), &none);
	mnl_attr_put(nlh, CTA_LABELS_MASK, sizeof(clearing->bits), &clearing->bits);
	append_entry(clearing, nlh);
}

/* One by one: an entry that has ended meanwhile is refused, and is no matter. */
static int send_all(int fd, const struct clearing *clearing)
{
	for (size_t at = 0; at < clearing->used;) {
		struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)(clearing->messages + at);
		const int err = netlink_request(fd, nlh, NULL, NULL);

		if (err && err != -ENOENT)
			return err;
		at += NLMSG_ALIGN(nlh->nlmsg_len);
	}
	return 0;
}

static int clear_bits(int fd, const struct label *bits)
{
	_Alignas(struct nlmsghdr) char buffer[MESSAGE_BYTES];
	struct nlmsghdr *nlh = conntrack_begin(buffer, IPCTNL_MSG_CT_GET, AF_UNSPEC);
	struct clearing clearing = {.bits = *bits};
	struct netlink_exchange exchange = {
		.request = buffer, .handler = note_entry, .data = &clearing};
	int err;

	nlh->nlmsg_flags |= NLM_F_DUMP;
	nlh->nlmsg_seq = exchange.first = exchange.last = netlink_sequence();
	exchange.length = nlh->nlmsg_len;
	err = netlink_exchange(fd, &exchange);
	if (!err)
		err = clearing.error;
	if (!err)
		err = send_all(fd, &clearing);
	free(clearing.messages);
	return err;
}

int conntrack_forget(int fd, uint32_t generation)
{
	struct label bits = {.bytes = {0}};

	for (unsigned int path = 0; path < NSGATE_PATH_MAX; path++)
		add_bit(&bits, NSGATE_LABEL_ACCEPTED(generation, path));
	return clear_bits(fd, &bits);
}

int conntrack_forget_all(int fd)
{
	struct label bits = {.bytes = {0}};

	/* Which end opened a flow is as unknown as it was. */
	for (unsigned int bit = NSGATE_LABEL_PASSED(0); bit < NSGATE_LABEL_BITS; bit++)
		add_bit(&bits, bit);
	return clear_bits(fd, &bits);
}
