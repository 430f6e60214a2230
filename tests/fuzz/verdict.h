/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the agent sends to a queue, read as the kernel would (nfnetlink_rcv(), nfqnl_recv_verdict()
 * and nfqnl_recv_config() of linux/net/netfilter), with everything checked that the kernel would
 * refuse or overlook.
 */
#ifndef NSGATE_FUZZ_VERDICT_H
#define NSGATE_FUZZ_VERDICT_H

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>

#include "fuzz.h"

struct verdict {
	bool is_forget; /* of an entry of conntrack: nothing else is set */
	bool is_config; /* then only copy_range and flags are set */
	bool has_copy_range;
	uint32_t copy_range, flags, flags_mask;

	uint16_t number;
	uint32_t id, verdict, mark;
	bool up_to, set_mark;
	const uint8_t *payload;
	size_t payload_length;
};

static inline uint32_t verdict_u32(const uint8_t *body, size_t length)
{
	uint32_t value;

	MUST(length == sizeof(value));
	memcpy(&value, body, sizeof(value));
	return ntohl(value);
}

static inline void verdict_attr(struct verdict *ret, uint16_t type, const uint8_t *body,
				size_t length, bool *ret_has_header)
{
	struct nfqnl_msg_verdict_hdr decided;
	struct nfqnl_msg_config_params params;

	if (ret->is_config) {
		switch (type) {
		case NFQA_CFG_PARAMS:
			MUST(length == sizeof(params));
			memcpy(&params, body, sizeof(params));
			MUST(params.copy_mode == NFQNL_COPY_PACKET);
			ret->copy_range = ntohl(params.copy_range);
			ret->has_copy_range = true;
			break;
		case NFQA_CFG_FLAGS:
			ret->flags = verdict_u32(body, length);
			break;
		case NFQA_CFG_MASK:
			ret->flags_mask = verdict_u32(body, length);
			break;
		default:
			MUST(!"known");
		}
		return;
	}
	switch (type) {
	case NFQA_VERDICT_HDR:
		MUST(length == sizeof(decided) && !*ret_has_header);
		memcpy(&decided, body, sizeof(decided));
		ret->id = ntohl(decided.id);
		ret->verdict = ntohl(decided.verdict);
		*ret_has_header = true;
		break;
	case NFQA_MARK:
		MUST(!ret->set_mark);
		ret->mark = verdict_u32(body, length);
		ret->set_mark = true;
		break;
	case NFQA_PAYLOAD:
		MUST(!ret->payload);
		ret->payload = body;
		ret->payload_length = length;
		break;
	default:
		MUST(!"known");
	}
}

/* Without the flow the kernel would delete every entry (ctnetlink_del_conntrack()). */
static inline void forget_check(const struct nlmsghdr *header, const uint8_t *body, size_t length)
{
	struct nlattr attr;

	MUST(header->nlmsg_type == (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE));
	MUST(length >= sizeof(attr));
	memcpy(&attr, body, sizeof(attr));
	MUST(attr.nla_type == (CTA_TUPLE_ORIG | NLA_F_NESTED));
	MUST(attr.nla_len > NLA_HDRLEN && attr.nla_len == length);
}

/* Read the message at `bytes`. Return: the length up to the next one. */
static inline size_t verdict_read(const uint8_t *bytes, size_t left, struct verdict *ret)
{
	const size_t fixed = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));
	struct nlmsghdr header;
	struct nfgenmsg generic;
	bool has_header = false;

	MUST(left >= fixed);
	memcpy(&header, bytes, sizeof(header));
	memcpy(&generic, bytes + NLMSG_HDRLEN, sizeof(generic));
	MUST(header.nlmsg_len >= fixed && header.nlmsg_len <= left);
	MUST(header.nlmsg_flags == NLM_F_REQUEST);
	MUST(NLMSG_ALIGN(header.nlmsg_len) <= left);
	if (header.nlmsg_type >> 8 == NFNL_SUBSYS_CTNETLINK) {
		*ret = (struct verdict){.is_forget = true};
		forget_check(&header, bytes + fixed, header.nlmsg_len - fixed);
		return NLMSG_ALIGN(header.nlmsg_len);
	}
	MUST(header.nlmsg_type >> 8 == NFNL_SUBSYS_QUEUE);
	MUST(generic.version == NFNETLINK_V0);
	*ret = (struct verdict){
		.number = ntohs(generic.res_id),
		.is_config = (header.nlmsg_type & 0xff) == NFQNL_MSG_CONFIG,
		.up_to = (header.nlmsg_type & 0xff) == NFQNL_MSG_VERDICT_BATCH,
	};
	MUST(ret->is_config || ret->up_to || (header.nlmsg_type & 0xff) == NFQNL_MSG_VERDICT);

	for (size_t at = fixed; at < header.nlmsg_len;) {
		struct nlattr attr;

		MUST(header.nlmsg_len - at >= NLA_HDRLEN);
		memcpy(&attr, bytes + at, sizeof(attr));
		MUST(attr.nla_len >= NLA_HDRLEN && attr.nla_len <= header.nlmsg_len - at);
		verdict_attr(ret, attr.nla_type, bytes + at + NLA_HDRLEN, attr.nla_len - NLA_HDRLEN,
			     &has_header);
		at += NLA_ALIGN(attr.nla_len);
	}
	MUST(ret->is_config || has_header);
	return NLMSG_ALIGN(header.nlmsg_len);
}

/* A verdict that the kernel takes: verdicthdr_get() refuses the rest. */
static inline void verdict_check(const struct verdict *verdict)
{
	const uint32_t what = verdict->verdict & NF_VERDICT_MASK;

	MUST(what <= NF_MAX_VERDICT && what != NF_STOLEN);
	MUST(what == NF_QUEUE || verdict->verdict == what);
	MUST(!verdict->payload || !verdict->up_to);
}

#endif
