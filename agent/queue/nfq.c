/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Netlink messages of NFQUEUE, read and written by hand: this runs for every packet, and a table
 * of attribute pointers or a callback per attribute would cost more than the attributes do.
 */
#include "agent/queue/nfq.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#define ERRNO_MAX 4095 /* the kernel's MAX_ERRNO, linux/err.h */
#define ATTR_PAYLOAD_MAX (UINT16_MAX - NLA_HDRLEN)
#define QUEUE_MESSAGE(type) ((NFNL_SUBSYS_QUEUE << 8) | (type))

/* ---- reading ---- */

/* An attribute's content: what the sender claims, and what of it arrived. */
struct attr {
	const uint8_t *body;
	size_t claimed, arrived;
};

static bool attr_u32(const struct attr *attr, uint32_t *ret)
{
	uint32_t value;

	if (attr->arrived < sizeof(value))
		return false;
	memcpy(&value, attr->body, sizeof(value));
	*ret = ntohl(value);
	return true;
}

static bool read_header(const struct attr *attr, struct nfq_packet *ret)
{
	struct nfqnl_msg_packet_hdr header;

	if (attr->arrived < sizeof(header))
		return false;
	memcpy(&header, attr->body, sizeof(header));
	ret->id = ntohl(header.packet_id);
	ret->hook = header.hook;
	return true;
}

static void read_mac(const struct attr *attr, struct nfq_packet *ret)
{
	struct nfqnl_msg_packet_hw hw;

	if (attr->arrived < sizeof(hw))
		return;
	memcpy(&hw, attr->body, sizeof(hw));
	if (ntohs(hw.hw_addrlen) != sizeof(ret->mac))
		return;
	memcpy(ret->mac, hw.hw_addr, sizeof(ret->mac));
	ret->has_mac = true;
}

/* Return: false where the attribute is the packet header and that is too short. */
static bool read_attr(unsigned int type, const struct attr *attr, struct nfq_packet *ret,
		      bool *ret_has_id, uint32_t *ret_cap_length)
{
	switch (type) {
	case NFQA_PACKET_HDR:
		*ret_has_id = read_header(attr, ret);
		return *ret_has_id;
	case NFQA_MARK:
		attr_u32(attr, &ret->mark);
		break;
	case NFQA_IFINDEX_INDEV:
		attr_u32(attr, &ret->iif);
		break;
	case NFQA_IFINDEX_OUTDEV:
		attr_u32(attr, &ret->oif);
		break;
	case NFQA_HWADDR:
		read_mac(attr, ret);
		break;
	case NFQA_CAP_LEN:
		attr_u32(attr, ret_cap_length);
		break;
	case NFQA_SKB_INFO:
		attr_u32(attr, &ret->skbinfo);
		break;
	case NFQA_UID:
		ret->has_uid = attr_u32(attr, &ret->uid);
		break;
	case NFQA_GID:
		ret->has_gid = attr_u32(attr, &ret->gid);
		break;
	case NFQA_PAYLOAD:
		ret->data = attr->body;
		ret->caplen = (uint32_t)attr->arrived;
		ret->length = (uint32_t)attr->claimed;
		break;
	default:
		break;
	}
	return true;
}

/*
 * The payload is the last attribute and may be cut off by a receive buffer that was sized for a
 * smaller copy range than the one in force when the packet was queued: what arrived counts.
 */
static enum nfq_kind read_packet(const uint8_t *cursor, size_t left, struct nfq_packet *ret)
{
	bool has_id = false;
	uint32_t cap_length = 0;

	memset(ret, 0, sizeof(*ret));
	while (left >= NLA_HDRLEN) {
		struct nlattr header;
		struct attr attr;
		size_t step;

		memcpy(&header, cursor, sizeof(header));
		if (header.nla_len < NLA_HDRLEN)
			break;
		attr.body = cursor + NLA_HDRLEN;
		attr.claimed = header.nla_len - NLA_HDRLEN;
		attr.arrived = header.nla_len <= left ? attr.claimed : left - NLA_HDRLEN;
		if (!read_attr(header.nla_type & NLA_TYPE_MASK, &attr, ret, &has_id, &cap_length))
			break;
		step = NLA_ALIGN(header.nla_len);
		if (step >= left)
			break;
		cursor += step;
		left -= step;
	}
	if (cap_length > ret->length)
		ret->length = cap_length;
	return has_id ? NFQ_KIND_PACKET : NFQ_KIND_NO_ID;
}

static uint16_t read_number(const uint8_t *generic)
{
	struct nfgenmsg header;

	memcpy(&header, generic, sizeof(header));
	return ntohs(header.res_id);
}

/* An entry that was to be deleted may be none, or the kernel may have no such requests. */
static bool is_about_conntrack(const uint8_t *body, size_t length)
{
	struct nlmsgerr error;

	if (length < sizeof(error))
		return false;
	memcpy(&error, body, sizeof(error));
	return NFNL_SUBSYS_ID(error.msg.nlmsg_type) == NFNL_SUBSYS_CTNETLINK;
}

static enum nfq_kind read_error(const uint8_t *body, size_t length, int *ret_errno)
{
	int error;

	if (length < sizeof(error))
		return NFQ_KIND_OTHER;
	memcpy(&error, body, sizeof(error));
	if (error > 0 || error < -ERRNO_MAX || is_about_conntrack(body, length))
		return NFQ_KIND_OTHER;
	*ret_errno = -error;
	return NFQ_KIND_ERROR;
}

enum nfq_kind nfq_parse(const void *message, size_t length, struct nfq_packet *ret, int *ret_errno)
{
	const size_t fixed = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
	const uint8_t *bytes = message;
	struct nlmsghdr header;

	if (length < NLMSG_HDRLEN)
		return NFQ_KIND_OTHER;
	memcpy(&header, bytes, sizeof(header));
	if (length > header.nlmsg_len)
		length = header.nlmsg_len;

	if (header.nlmsg_type == QUEUE_MESSAGE(NFQNL_MSG_PACKET)) {
		enum nfq_kind kind;

		if (length < fixed)
			return NFQ_KIND_NO_ID;
		kind = read_packet(bytes + fixed, length - fixed, ret);
		ret->number = read_number(bytes + NLMSG_HDRLEN);
		return kind;
	}
	if (header.nlmsg_type == NLMSG_ERROR && length >= NLMSG_HDRLEN)
		return read_error(bytes + NLMSG_HDRLEN, length - NLMSG_HDRLEN, ret_errno);
	return NFQ_KIND_OTHER;
}

/* ---- writing ---- */

static uint8_t *put_header(uint8_t *cursor, uint16_t type, const struct nfgenmsg *generic,
			   size_t length)
{
	const struct nlmsghdr header = {
		.nlmsg_len = (uint32_t)length, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST};

	memcpy(cursor, &header, sizeof(header));
	memcpy(cursor + NLMSG_HDRLEN, generic, sizeof(*generic));
	return cursor + NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(*generic));
}

static uint8_t *put_message(uint8_t *cursor, uint16_t type, uint16_t number, size_t length)
{
	const struct nfgenmsg generic = {.version = NFNETLINK_V0, .res_id = htons(number)};

	return put_header(cursor, QUEUE_MESSAGE(type), &generic, length);
}

static uint8_t *put_attr(uint8_t *cursor, uint16_t type, const void *body, size_t length)
{
	const struct nlattr header = {.nla_len = (uint16_t)(NLA_HDRLEN + length), .nla_type = type};
	const size_t padding = NLA_ALIGN(length) - length;

	memcpy(cursor, &header, sizeof(header));
	memcpy(cursor + NLA_HDRLEN, body, length);
	memset(cursor + NLA_HDRLEN + length, 0, padding);
	return cursor + NLA_HDRLEN + length + padding;
}

static uint8_t *put_u32(uint8_t *cursor, uint16_t type, uint32_t value)
{
	const uint32_t wire = htonl(value);

	return put_attr(cursor, type, &wire, sizeof(wire));
}

/* What a message takes before its attributes, and an attribute of `length` bytes. */
#define MESSAGE_SIZE (NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)))
#define ATTR_SIZE(length) (NLA_HDRLEN + NLA_ALIGN(length))

bool nfq_append(struct nfq_batch *batch, uint16_t number, uint32_t id, bool up_to, uint32_t verdict,
		bool set_mark, uint32_t mark, const uint8_t *payload, size_t payload_length)
{
	const struct nfqnl_msg_verdict_hdr decided = {.verdict = htonl(verdict), .id = htonl(id)};
	size_t length = MESSAGE_SIZE + ATTR_SIZE(sizeof(decided));
	uint8_t *cursor = batch->buffer + batch->used;

	if (set_mark)
		length += ATTR_SIZE(sizeof(mark));
	if (payload)
		length += ATTR_SIZE(payload_length);
	if (length > batch->size - batch->used || payload_length > ATTR_PAYLOAD_MAX)
		return false;

	cursor = put_message(cursor, up_to ? NFQNL_MSG_VERDICT_BATCH : NFQNL_MSG_VERDICT, number,
			     length);
	cursor = put_attr(cursor, NFQA_VERDICT_HDR, &decided, sizeof(decided));
	if (set_mark)
		cursor = put_u32(cursor, NFQA_MARK, mark);
	if (payload)
		put_attr(cursor, NFQA_PAYLOAD, payload, payload_length);
	batch->used += length;
	return true;
}

bool nfq_append_config(struct nfq_batch *batch, uint16_t number, uint32_t copy_range,
		       uint32_t flags, uint32_t flags_mask)
{
	const struct nfqnl_msg_config_params params = {.copy_range = htonl(copy_range),
						       .copy_mode = NFQNL_COPY_PACKET};
	const size_t length =
		MESSAGE_SIZE + ATTR_SIZE(sizeof(params)) + 2 * ATTR_SIZE(sizeof(uint32_t));
	uint8_t *cursor = batch->buffer + batch->used;

	if (length > batch->size - batch->used)
		return false;
	cursor = put_message(cursor, NFQNL_MSG_CONFIG, number, length);
	cursor = put_attr(cursor, NFQA_CFG_PARAMS, &params, sizeof(params));
	cursor = put_u32(cursor, NFQA_CFG_FLAGS, flags);
	put_u32(cursor, NFQA_CFG_MASK, flags_mask);
	batch->used += length;
	return true;
}

bool nfq_append_barrier(struct nfq_batch *batch, uint16_t number)
{
	const size_t length = MESSAGE_SIZE + 2 * ATTR_SIZE(sizeof(uint32_t));
	uint8_t *cursor = batch->buffer + batch->used;

	if (length > batch->size - batch->used)
		return false;
	cursor = put_message(cursor, NFQNL_MSG_CONFIG, number, length);
	cursor = put_u32(cursor, NFQA_CFG_FLAGS, 0);
	put_u32(cursor, NFQA_CFG_MASK, 0);
	batch->used += length;
	return true;
}

/* ---- conntrack ---- */

/* Which attributes say what, in each family: linux/netfilter/nfnetlink_conntrack.h. */
static const struct tuple_attrs {
	uint16_t src, dst, icmp_id, icmp_type, icmp_code;
	uint16_t address_bytes;
} ipv4_attrs = {CTA_IP_V4_SRC,	     CTA_IP_V4_DST,	  CTA_PROTO_ICMP_ID,
		CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE, 4},
  ipv6_attrs = {CTA_IP_V6_SRC,	       CTA_IP_V6_DST,	      CTA_PROTO_ICMPV6_ID,
		CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE, 16};

#define ADDRESSES_SIZE(bytes) (2 * ATTR_SIZE(bytes))
/* Number, id, type and code. */
#define PROTOCOL_SIZE (4 * ATTR_SIZE(sizeof(uint16_t)))

static void put_addresses(uint8_t *cursor, const struct tuple_attrs *attrs,
			  const struct nfq_tuple *tuple)
{
	cursor = put_attr(cursor, attrs->src, &tuple->src, attrs->address_bytes);
	put_attr(cursor, attrs->dst, &tuple->dst, attrs->address_bytes);
}

static void put_protocol(uint8_t *cursor, const struct tuple_attrs *attrs,
			 const struct nfq_tuple *tuple)
{
	cursor = put_attr(cursor, CTA_PROTO_NUM, &tuple->protocol, sizeof(tuple->protocol));
	cursor = put_attr(cursor, attrs->icmp_id, &tuple->icmp_id, sizeof(tuple->icmp_id));
	cursor = put_attr(cursor, attrs->icmp_type, &tuple->icmp_type, sizeof(tuple->icmp_type));
	put_attr(cursor, attrs->icmp_code, &tuple->icmp_code, sizeof(tuple->icmp_code));
}

/* A message without a tuple would delete all entries there are, so it is made in one piece. */
bool nfq_append_forget(struct nfq_batch *batch, const struct nfq_tuple *tuple)
{
	const struct tuple_attrs *attrs = tuple->family == AF_INET6 ? &ipv6_attrs : &ipv4_attrs;
	const size_t addresses = ADDRESSES_SIZE(attrs->address_bytes);
	const size_t both = ATTR_SIZE(addresses) + ATTR_SIZE(PROTOCOL_SIZE);
	const size_t length = MESSAGE_SIZE + ATTR_SIZE(both);
	const struct nfgenmsg generic = {.nfgen_family = tuple->family, .version = NFNETLINK_V0};
	uint8_t ip[ADDRESSES_SIZE(16)], protocol[PROTOCOL_SIZE];
	uint8_t parts[ATTR_SIZE(ADDRESSES_SIZE(16)) + ATTR_SIZE(PROTOCOL_SIZE)];
	uint8_t *cursor = batch->buffer + batch->used;

	if (length > batch->size - batch->used)
		return false;
	put_addresses(ip, attrs, tuple);
	put_protocol(protocol, attrs, tuple);
	put_attr(put_attr(parts, CTA_TUPLE_IP | NLA_F_NESTED, ip, addresses),
		 CTA_TUPLE_PROTO | NLA_F_NESTED, protocol, PROTOCOL_SIZE);
	cursor = put_header(cursor, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, &generic,
			    length);
	put_attr(cursor, CTA_TUPLE_ORIG | NLA_F_NESTED, parts, both);
	batch->used += length;
	return true;
}
