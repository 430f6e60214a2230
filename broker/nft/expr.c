/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers: a match loads into NFT_REG_1, narrows it there and compares; nothing is kept from
 * one match to the next. Meta and ct values are 32-bit numbers in host order, payload is bytes.
 * A label takes sixteen bytes, all of NFT_REG_1. Only a flow takes several registers, from
 * NFT_REG_1 on, four bytes each: what is shorter is padded.
 */
#include "broker/nft/expr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h> /* libnftnl/expr.h needs FILE */
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/xt_NFQUEUE.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>

#define IPV4_FRAGMENT_OFFSET 6
#define REGISTER_BYTES 4
#define PORT_BYTES 2
#define DPORT_OFFSET 2

/* Append an empty expression. Return: it, owned by the rule, or NULL with the error noted. */
static struct nftnl_expr *add(struct nft_batch *batch, const char *name)
{
	struct nftnl_expr *expr;

	if (batch->error)
		return NULL;
	expr = nftnl_expr_alloc(name);
	if (!expr)
		batch->error = -ENOMEM;
	else
		nftnl_rule_add_expr(batch->rule, expr);
	return expr;
}

static void load_meta_into(struct nft_batch *batch, uint32_t reg, enum nft_meta_keys key)
{
	struct nftnl_expr *expr = add(batch, "meta");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_META_DREG, reg);
}

static void load_meta(struct nft_batch *batch, enum nft_meta_keys key)
{
	load_meta_into(batch, NFT_REG_1, key);
}

static void load_ct(struct nft_batch *batch, enum nft_ct_keys key)
{
	struct nftnl_expr *expr = add(batch, "ct");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_KEY, key);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_DREG, NFT_REG_1);
}

static void load_bytes_into(struct nft_batch *batch, uint32_t reg, enum nft_payload_bases base,
			    uint32_t offset, uint32_t bytes)
{
	struct nftnl_expr *expr = add(batch, "payload");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_LEN, bytes);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_DREG, reg);
}

static void load_bytes(struct nft_batch *batch, enum nft_payload_bases base, uint32_t offset,
		       uint32_t bytes)
{
	load_bytes_into(batch, NFT_REG_1, base, offset, bytes);
}

/* register = register & mask ^ flip, over the first `size` bytes. */
static void narrow(struct nft_batch *batch, const void *mask, const void *flip, uint32_t size)
{
	struct nftnl_expr *expr = add(batch, "bitwise");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_LEN, size);
	nftnl_expr_set(expr, NFTNL_EXPR_BITWISE_MASK, mask, size);
	nftnl_expr_set(expr, NFTNL_EXPR_BITWISE_XOR, flip, size);
}

static void compare(struct nft_batch *batch, enum nft_cmp_ops op, const void *value, uint32_t size)
{
	struct nftnl_expr *expr = add(batch, "cmp");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_CMP_OP, op);
	nftnl_expr_set(expr, NFTNL_EXPR_CMP_DATA, value, size);
}

void nft_match_ct_original_port(struct nft_batch *batch, enum nft_cmp_ops op, uint16_t port)
{
	struct nftnl_expr *expr = add(batch, "ct");
	const uint16_t value = htons(port);

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_KEY, NFT_CT_PROTO_DST);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_DREG, NFT_REG_1);
	nftnl_expr_set_u8(expr, NFTNL_EXPR_CT_DIR, IP_CT_DIR_ORIGINAL);
	compare(batch, op, &value, sizeof(value));
}

static void compare_number(struct nft_batch *batch, uint32_t mask, enum nft_cmp_ops op,
			   uint32_t value)
{
	const uint32_t zero = 0;

	if (mask != UINT32_MAX)
		narrow(batch, &mask, &zero, sizeof(mask));
	compare(batch, op, &value, sizeof(value));
}

void nft_match_meta(struct nft_batch *batch, enum nft_meta_keys key, uint32_t mask,
		    enum nft_cmp_ops op, uint32_t value)
{
	load_meta(batch, key);
	compare_number(batch, mask, op, value);
}

void nft_match_protocol(struct nft_batch *batch, enum nft_meta_keys key, uint8_t value)
{
	load_meta(batch, key);
	compare(batch, NFT_CMP_EQ, &value, sizeof(value));
}

void nft_match_ethertype(struct nft_batch *batch, uint16_t ethertype)
{
	const uint8_t value[2] = {(uint8_t)(ethertype >> 8), (uint8_t)ethertype};

	load_meta(batch, NFT_META_PROTOCOL);
	compare(batch, NFT_CMP_EQ, value, sizeof(value));
}

/* Without a route nothing is loaded, and the rule ends; else any number will do. */
void nft_match_routed(struct nft_batch *batch)
{
	const uint32_t least = 0;

	load_meta(batch, NFT_META_RTCLASSID);
	compare(batch, NFT_CMP_GTE, &least, sizeof(least));
}

/* exthdr frag exists */
static void match_fragment_header(struct nft_batch *batch)
{
	struct nftnl_expr *expr = add(batch, "exthdr");
	const uint8_t exists = 1;

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_DREG, NFT_REG_1);
	nftnl_expr_set_u8(expr, NFTNL_EXPR_EXTHDR_TYPE, IPPROTO_FRAGMENT);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_OFFSET, 0);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_LEN, sizeof(exists));
	nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_FLAGS, NFT_EXTHDR_F_PRESENT);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_IPV6);
	compare(batch, NFT_CMP_EQ, &exists, sizeof(exists));
}

/* ip frag-off & 0x3fff != 0: the bit "more fragments", or an offset (RFC 791 3.1) */
void nft_match_fragment(struct nft_batch *batch, uint8_t family)
{
	const uint8_t mask[2] = {0x3f, 0xff}, none[2] = {0, 0};

	nft_match_protocol(batch, NFT_META_NFPROTO, family);
	if (family == NFPROTO_IPV6) {
		match_fragment_header(batch);
		return;
	}
	load_bytes(batch, NFT_PAYLOAD_NETWORK_HEADER, IPV4_FRAGMENT_OFFSET, sizeof(mask));
	narrow(batch, mask, none, sizeof(mask));
	compare(batch, NFT_CMP_NEQ, none, sizeof(none));
}

/* Order is compared byte by byte, so the number has to be in network order. */
void nft_match_length_max(struct nft_batch *batch, uint32_t bytes)
{
	struct nftnl_expr *expr;
	const uint8_t limit[4] = {(uint8_t)(bytes >> 24), (uint8_t)(bytes >> 16),
				  (uint8_t)(bytes >> 8), (uint8_t)bytes};

	load_meta(batch, NFT_META_LEN);
	expr = add(batch, "byteorder");
	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_BYTEORDER_SREG, NFT_REG_1);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_BYTEORDER_DREG, NFT_REG_1);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_HTON);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_BYTEORDER_LEN, sizeof(limit));
	nftnl_expr_set_u32(expr, NFTNL_EXPR_BYTEORDER_SIZE, sizeof(limit));
	compare(batch, NFT_CMP_LTE, limit, sizeof(limit));
}

void nft_match_ct(struct nft_batch *batch, enum nft_ct_keys key, uint32_t mask, enum nft_cmp_ops op,
		  uint32_t value)
{
	load_ct(batch, key);
	compare_number(batch, mask, op, value);
}

void nft_match_ct_direction(struct nft_batch *batch, uint8_t direction)
{
	load_ct(batch, NFT_CT_DIRECTION);
	compare(batch, NFT_CMP_EQ, &direction, sizeof(direction));
}

void nft_label_add(struct nft_label *label, unsigned int bit)
{
	label->words[bit / 32] |= 1U << bit % 32;
}

void nft_match_label(struct nft_batch *batch, const struct nft_label *label, enum nft_cmp_ops op)
{
	const struct nft_label none = {.words = {0}};

	load_ct(batch, NFT_CT_LABELS);
	narrow(batch, label, &none, sizeof(*label));
	compare(batch, op, &none, sizeof(none));
}

static void load_constant(struct nft_batch *batch, const void *value, uint32_t size)
{
	struct nftnl_expr *expr = add(batch, "immediate");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
	nftnl_expr_set(expr, NFTNL_EXPR_IMM_DATA, value, size);
}

void nft_set_label(struct nft_batch *batch, const struct nft_label *label)
{
	struct nftnl_expr *expr;

	load_constant(batch, label, sizeof(*label));
	expr = add(batch, "ct");
	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_KEY, NFT_CT_LABELS);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_CT_SREG, NFT_REG_1);
}

static void load_fib(struct nft_batch *batch, uint32_t result, uint32_t flags)
{
	struct nftnl_expr *expr = add(batch, "fib");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_FIB_RESULT, result);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_FIB_FLAGS, flags);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
}

void nft_match_local_source(struct nft_batch *batch, enum nft_cmp_ops op)
{
	load_fib(batch, NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_SADDR);
	compare_number(batch, UINT32_MAX, op, RTN_LOCAL);
}

void nft_match_destination(struct nft_batch *batch, enum nft_cmp_ops op, uint32_t type)
{
	load_fib(batch, NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR);
	compare_number(batch, UINT32_MAX, op, type);
}

void nft_match_source_elsewhere(struct nft_batch *batch)
{
	load_fib(batch, NFT_FIB_RESULT_OIF, NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF);
	compare_number(batch, UINT32_MAX, NFT_CMP_EQ, 0);
}

void nft_match_prefix(struct nft_batch *batch, enum nft_payload_bases base, uint32_t offset,
		      const void *prefix, uint32_t bits)
{
	load_bytes(batch, base, offset, bits / 8);
	compare(batch, NFT_CMP_EQ, prefix, bits / 8);
}

void nft_limit(struct nft_batch *batch, uint32_t packets, uint32_t burst)
{
	struct nftnl_expr *expr = add(batch, "limit");

	if (!expr)
		return;
	nftnl_expr_set_u64(expr, NFTNL_EXPR_LIMIT_RATE, packets);
	nftnl_expr_set_u64(expr, NFTNL_EXPR_LIMIT_UNIT, 1);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_LIMIT_BURST, burst);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
}

void nft_match_byte(struct nft_batch *batch, enum nft_payload_bases base, uint32_t offset,
		    uint8_t mask, uint8_t value)
{
	const uint8_t zero = 0;

	load_bytes(batch, base, offset, 1);
	if (mask != UINT8_MAX)
		narrow(batch, &mask, &zero, sizeof(mask));
	compare(batch, NFT_CMP_EQ, &value, sizeof(value));
}

void nft_match_byte_range(struct nft_batch *batch, enum nft_payload_bases base, uint32_t offset,
			  uint8_t from, uint8_t to)
{
	load_bytes(batch, base, offset, 1);
	compare(batch, NFT_CMP_GTE, &from, sizeof(from));
	compare(batch, NFT_CMP_LTE, &to, sizeof(to));
}

/* Where the two addresses stand in a header: RFC 791 3.1, RFC 8200 3. nft's types: datatype.h. */
static const struct address_place {
	uint32_t offset, bytes, type;
} ipv4_addresses = {12, 4, 7}, ipv6_addresses = {8, 16, 8};

#define TYPE_BITS 6
#define TYPE_PROTOCOL 12
#define TYPE_PORT 13

static const struct address_place *addresses_of(uint8_t family)
{
	return family == NFPROTO_IPV6 ? &ipv6_addresses : &ipv4_addresses;
}

uint32_t nft_flow_bytes(uint8_t family)
{
	return 2 * addresses_of(family)->bytes + 3 * REGISTER_BYTES;
}

uint32_t nft_flow_type(uint8_t family)
{
	const uint32_t types[] = {addresses_of(family)->type, addresses_of(family)->type,
				  TYPE_PROTOCOL, TYPE_PORT, TYPE_PORT};
	uint32_t all = 0;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		all = all << TYPE_BITS | types[i];
	return all;
}

void nft_load_flow(struct nft_batch *batch, uint8_t family)
{
	const struct address_place *place = addresses_of(family);
	const uint32_t step = place->bytes / REGISTER_BYTES;
	uint32_t reg = NFT_REG32_00;

	nft_match_protocol(batch, NFT_META_NFPROTO, family);
	load_bytes_into(batch, reg, NFT_PAYLOAD_NETWORK_HEADER, place->offset, place->bytes);
	reg += step;
	load_bytes_into(batch, reg, NFT_PAYLOAD_NETWORK_HEADER, place->offset + place->bytes,
			place->bytes);
	reg += step;
	load_meta_into(batch, reg++, NFT_META_L4PROTO);
	load_bytes_into(batch, reg++, NFT_PAYLOAD_TRANSPORT_HEADER, 0, PORT_BYTES);
	load_bytes_into(batch, reg, NFT_PAYLOAD_TRANSPORT_HEADER, DPORT_OFFSET, PORT_BYTES);
}

void nft_lookup(struct nft_batch *batch, const char *set)
{
	struct nftnl_expr *expr = add(batch, "lookup");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, set);
}

void nft_add_element(struct nft_batch *batch, const char *set)
{
	struct nftnl_expr *expr = add(batch, "dynset");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_DYNSET_SREG_KEY, NFT_REG_1);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_ADD);
	nftnl_expr_set_str(expr, NFTNL_EXPR_DYNSET_SET_NAME, set);
}

void nft_clear_meta_mark(struct nft_batch *batch)
{
	const uint32_t zero = 0;
	struct nftnl_expr *expr;

	load_constant(batch, &zero, sizeof(zero));
	expr = add(batch, "meta");
	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_META_KEY, NFT_META_MARK);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_META_SREG, NFT_REG_1);
}

void nft_count(struct nft_batch *batch, const char *name)
{
	struct nftnl_expr *expr = add(batch, "objref");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
	nftnl_expr_set_str(expr, NFTNL_EXPR_OBJREF_IMM_NAME, name);
}

void nft_branch(struct nft_batch *batch, int verdict, const char *chain)
{
	struct nftnl_expr *expr = add(batch, "immediate");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_VERDICT, (uint32_t)verdict);
	if (chain)
		nftnl_expr_set_str(expr, NFTNL_EXPR_IMM_CHAIN, chain);
}

void nft_verdict(struct nft_batch *batch, int verdict)
{
	nft_branch(batch, verdict, NULL);
}

static void add_reject(struct nft_batch *batch, enum nft_reject_types type, uint8_t code)
{
	struct nftnl_expr *expr = add(batch, "reject");

	if (!expr)
		return;
	nftnl_expr_set_u32(expr, NFTNL_EXPR_REJECT_TYPE, type);
	nftnl_expr_set_u8(expr, NFTNL_EXPR_REJECT_CODE, code);
}

void nft_reject_tcp_reset(struct nft_batch *batch)
{
	add_reject(batch, NFT_REJECT_TCP_RST, 0);
}

void nft_reject_port_unreachable(struct nft_batch *batch)
{
	add_reject(batch, NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH);
}

static void queue_native(struct nft_batch *batch, const struct nft_queue_range *range)
{
	struct nftnl_expr *expr = add(batch, "queue");
	uint16_t flags = range->bypass ? NFT_QUEUE_FLAG_BYPASS : 0;

	if (!expr)
		return;
	if (range->count > 1)
		flags |= NFT_QUEUE_FLAG_CPU_FANOUT;
	nftnl_expr_set_u16(expr, NFTNL_EXPR_QUEUE_NUM, range->first);
	nftnl_expr_set_u16(expr, NFTNL_EXPR_QUEUE_TOTAL, range->count);
	nftnl_expr_set_u16(expr, NFTNL_EXPR_QUEUE_FLAGS, flags);
}

/* The iptables target NFQUEUE as nft_compat takes it; its flags have the same values. */
static void queue_xt(struct nft_batch *batch, const struct nft_queue_range *range)
{
	struct nftnl_expr *expr = add(batch, "target");
	struct xt_NFQ_info_v3 *info;

	if (!expr)
		return;
	info = calloc(1, sizeof(*info));
	if (!info) {
		batch->error = -ENOMEM;
		return;
	}
	info->queuenum = range->first;
	info->queues_total = range->count;
	info->flags = range->bypass ? NFQ_FLAG_BYPASS : 0;
	if (range->count > 1)
		info->flags |= NFQ_FLAG_CPU_FANOUT;
	nftnl_expr_set_str(expr, NFTNL_EXPR_TG_NAME, "NFQUEUE");
	nftnl_expr_set_u32(expr, NFTNL_EXPR_TG_REV, 3);
	nftnl_expr_set(expr, NFTNL_EXPR_TG_INFO, info, sizeof(*info));
} /* NOLINT(clang-analyzer-unix.Malloc): libnftnl keeps `info` and frees it */

void nft_queue(struct nft_batch *batch, const struct nft_queue_range *range)
{
	if (range->backend == NSGATE_BACKEND_NFT_QUEUE)
		queue_native(batch, range);
	else
		queue_xt(batch, range);
}
