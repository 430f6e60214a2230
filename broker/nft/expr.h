/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What nftables rules are made of, in units of nft's own syntax: a match, a statement, a verdict.
 * Each function adds to the rule that nft_rule_begin() opened; a rule ends at its first match
 * that does not hold, or that the packet has no value for.
 */
#ifndef NSGATE_NFT_EXPR_H
#define NSGATE_NFT_EXPR_H

#include <linux/netfilter/nf_tables.h>
#include <stdbool.h>
#include <stdint.h>

#include "broker/nft/batch.h"
#include "nsgate/proto.h"

/* meta KEY & mask OP value; a mask of UINT32_MAX is left out. For keys of 32 bits. */
void nft_match_meta(struct nft_batch *batch, enum nft_meta_keys key, uint32_t mask,
		    enum nft_cmp_ops op, uint32_t value);

/* meta KEY == value. For the keys of one byte: NFPROTO and L4PROTO. */
void nft_match_protocol(struct nft_batch *batch, enum nft_meta_keys key, uint8_t value);

/* meta protocol ETHERTYPE, as the link will have it. */
void nft_match_ethertype(struct nft_batch *batch, uint16_t ethertype);

/* The packet has been routed (meta rtclassid, any): it comes from the kernel's IP. */
void nft_match_routed(struct nft_batch *batch);

/* A fragment of IPv4, or an IPv6 packet with a fragment header. `family`: NFPROTO_IPV4, _IPV6. */
void nft_match_fragment(struct nft_batch *batch, uint8_t family);

/* meta length <= bytes. Of the packet from its network header on. */
void nft_match_length_max(struct nft_batch *batch, uint32_t bytes);

/*
 * ct KEY & mask OP value. For STATE, which every packet has, and STATUS, which breaks the rule
 * where conntrack has no entry.
 */
void nft_match_ct(struct nft_batch *batch, enum nft_ct_keys key, uint32_t mask, enum nft_cmp_ops op,
		  uint32_t value);

/* ct direction DIRECTION (enum ip_conntrack_dir). */
void nft_match_ct_direction(struct nft_batch *batch, uint8_t direction);

/* ct original proto-dst OP port: before any translation, and the same for both directions. */
void nft_match_ct_original_port(struct nft_batch *batch, enum nft_cmp_ops op, uint16_t port);

/* Bits of a conntrack entry's label, NSGATE_LABEL_BITS of them. */
struct nft_label {
	uint32_t words[4];
};
void nft_label_add(struct nft_label *label, unsigned int bit);

/* ct label & label OP 0 (NEQ: any of the bits is set); breaks the rule where there is no entry. */
void nft_match_label(struct nft_batch *batch, const struct nft_label *label, enum nft_cmp_ops op);

/* ct label set ct label | label. Without a place for labels in the entry, the rule ends. */
void nft_set_label(struct nft_batch *batch, const struct nft_label *label);

/* fib saddr type local, or != local. */
void nft_match_local_source(struct nft_batch *batch, enum nft_cmp_ops op);

/* fib saddr . iif oif missing: its source is not reached by the link that the packet came by. */
void nft_match_source_elsewhere(struct nft_batch *batch);

/* fib daddr type TYPE (RTN_LOCAL, RTN_MULTICAST, ...: linux/rtnetlink.h), or != TYPE. */
void nft_match_destination(struct nft_batch *batch, enum nft_cmp_ops op, uint32_t type);

/* The first `bits` of @BASE,offset are those of `prefix`; a multiple of 8. */
void nft_match_prefix(struct nft_batch *batch, enum nft_payload_bases base, uint32_t offset,
		      const void *prefix, uint32_t bits);

/* limit rate PACKETS/second burst BURST packets: the rule goes on below it. */
void nft_limit(struct nft_batch *batch, uint32_t packets, uint32_t burst);

/* @BASE,offset,8 & mask == value. */
void nft_match_byte(struct nft_batch *batch, enum nft_payload_bases base, uint32_t offset,
		    uint8_t mask, uint8_t value);

/* @BASE,offset,8 from-to. */
void nft_match_byte_range(struct nft_batch *batch, enum nft_payload_bases base, uint32_t offset,
			  uint8_t from, uint8_t to);

/*
 * ip saddr . ip daddr . meta l4proto . th sport . th dport, or the same of ip6 (`family`:
 * NFPROTO_IPV4, _IPV6): key of the one of the next two that follows. Breaks the rule for the other
 * family, and where there is no transport header.
 */
void nft_load_flow(struct nft_batch *batch, uint8_t family);

/* The bytes of such a key, and nft's numbers of its types. */
uint32_t nft_flow_bytes(uint8_t family);
uint32_t nft_flow_type(uint8_t family);

/* ... @SET: it is in there. */
void nft_lookup(struct nft_batch *batch, const char *set);

/* add @SET { ... }; breaks the rule where the set is full. */
void nft_add_element(struct nft_batch *batch, const char *set);

/* meta mark set 0. */
void nft_clear_meta_mark(struct nft_batch *batch);

/* counter name NAME. */
void nft_count(struct nft_batch *batch, const char *name);

/* accept, drop, return; jump CHAIN, goto CHAIN. `verdict`: NF_ACCEPT, NF_DROP, NFT_*. */
void nft_verdict(struct nft_batch *batch, int verdict);
void nft_branch(struct nft_batch *batch, int verdict, const char *chain);

/* reject with tcp reset / reject with icmpx type port-unreachable. */
void nft_reject_tcp_reset(struct nft_batch *batch);
void nft_reject_port_unreachable(struct nft_batch *batch);

struct nft_queue_range {
	enum nsgate_backend backend;
	uint16_t first;
	uint16_t count; /* more than one: spread by CPU */
	bool bypass;
};

/* queue flags bypass,fanout to first-last, by whichever expression the kernel has. */
void nft_queue(struct nft_batch *batch, const struct nft_queue_range *range);

#endif
