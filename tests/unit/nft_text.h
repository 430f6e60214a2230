/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch of nftables changes as text, for tests. The syntax is nft's, with names for what nft has
 * as numbers: flows of queue numbers, bits of labels, marks of answers. Rules stand with their
 * chain, wherever the batch has them.
 */
#ifndef NSGATE_TESTS_NFT_TEXT_H
#define NSGATE_TESTS_NFT_TEXT_H

#include <arpa/inet.h>
#include <inttypes.h>
#include <libmnl/libmnl.h>
#include <stdio.h> /* libnftnl/expr.h needs FILE */
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/xt_NFQUEUE.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "nsgate/flow.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* Of the namespace, and of the queues that packets are spread over. */
#define COOKIE 1
#define QUEUE_FIRST 40000
#define QUEUE_COUNT 2

struct name {
	uint32_t value;
	const char *text;
};

static const char *find_name(const struct name *names, size_t count, uint32_t value)
{
	for (size_t i = 0; i < count; i++)
		if (names[i].value == value)
			return names[i].text;
	return NULL;
}

#define NAME(names, value) find_name(names, COUNT(names), value)

/* ---- what a register holds ---- */

enum kind { KIND_HEX, KIND_NUMBER, KIND_NETWORK_NUMBER, KIND_NAME, KIND_LABEL, KIND_MARK };

struct subject {
	char text[64];
	enum kind kind;
	const struct name *names;
	size_t name_count;
	unsigned char mask[16];
	uint32_t mask_bytes; /* 0: none */
};

static const struct name families[] = {{NFPROTO_IPV4, "ipv4"}, {NFPROTO_IPV6, "ipv6"}};
static const struct name protocols[] = {{IPPROTO_ICMP, "icmp"},
					{IPPROTO_TCP, "tcp"},
					{IPPROTO_UDP, "udp"},
					{IPPROTO_ICMPV6, "ipv6-icmp"}};
static const struct name links[] = {{NSGATE_LOOPBACK_INDEX, "lo"}};
static const struct name address_types[] = {{RTN_UNICAST, "unicast"},
					    {RTN_LOCAL, "local"},
					    {RTN_BROADCAST, "broadcast"},
					    {RTN_MULTICAST, "multicast"}};
static const struct name states[] = {{NF_CT_STATE_INVALID_BIT, "invalid"},
				     {NF_CT_STATE_BIT(IP_CT_ESTABLISHED), "established"},
				     {NF_CT_STATE_BIT(IP_CT_RELATED), "related"},
				     {NF_CT_STATE_BIT(IP_CT_NEW), "new"},
				     {NF_CT_STATE_UNTRACKED_BIT, "untracked"}};
static const struct name statuses[] = {{IPS_EXPECTED, "expected"}, {IPS_CONFIRMED, "confirmed"}};
static const struct name directions[] = {{IP_CT_DIR_ORIGINAL, "original"},
					 {IP_CT_DIR_REPLY, "reply"}};
static const struct name operators[] = {{NFT_CMP_EQ, ""},   {NFT_CMP_NEQ, "!= "},
					{NFT_CMP_LT, "< "}, {NFT_CMP_LTE, "<= "},
					{NFT_CMP_GT, "> "}, {NFT_CMP_GTE, ">= "}};
static const char *const ways[NSGATE_PATH_MAX] = {"in-link", "in-loop", "out-link", "out-loop",
						  "forward"};
static const char *const flows[NSGATE_FLOW_MAX] = {
	"new",		"original", "known", "unsure",	    "reply",   "reply-known", "reply-stale",
	"reply-unsure", "expected", "error", "error-known", "invalid", "untracked"};

#define METAS(list) list, COUNT(list)

static const struct meta {
	uint32_t key;
	const char *text;
	enum kind kind;
	const struct name *names;
	size_t name_count;
} metas[] = {
	{NFT_META_LEN, "meta length", KIND_NUMBER, NULL, 0},
	{NFT_META_PROTOCOL, "meta protocol", KIND_HEX, NULL, 0},
	{NFT_META_MARK, "meta mark", KIND_MARK, NULL, 0},
	{NFT_META_IIF, "iif", KIND_NAME, METAS(links)},
	{NFT_META_OIF, "oif", KIND_NAME, METAS(links)},
	{NFT_META_SKUID, "meta skuid", KIND_NUMBER, NULL, 0},
	{NFT_META_RTCLASSID, "meta rtclassid", KIND_NUMBER, NULL, 0},
	{NFT_META_NFPROTO, "meta nfproto", KIND_NAME, METAS(families)},
	{NFT_META_L4PROTO, "meta l4proto", KIND_NAME, METAS(protocols)},
};
static const struct meta cts[] = {
	{NFT_CT_STATE, "ct state", KIND_HEX, METAS(states)},
	{NFT_CT_DIRECTION, "ct direction", KIND_NAME, METAS(directions)},
	{NFT_CT_STATUS, "ct status", KIND_HEX, METAS(statuses)},
	{NFT_CT_LABELS, "ct label", KIND_LABEL, NULL, 0},
	{NFT_CT_PROTO_DST, "ct original proto-dst", KIND_NETWORK_NUMBER, NULL, 0},
};

/* By base, offset and length, where the names are right for the rules that have them. */
static const struct field {
	uint32_t base, offset, bytes;
	const char *text;
} fields[] = {
	{NFT_PAYLOAD_NETWORK_HEADER, 6, 2, "ip frag-off"},
	{NFT_PAYLOAD_NETWORK_HEADER, 7, 1, "ip6 hoplimit"},
	{NFT_PAYLOAD_NETWORK_HEADER, 8, 2, "ip6 saddr /16"},
	{NFT_PAYLOAD_NETWORK_HEADER, 8, 16, "ip6 saddr"},
	{NFT_PAYLOAD_NETWORK_HEADER, 24, 16, "ip6 daddr"},
	{NFT_PAYLOAD_NETWORK_HEADER, 12, 4, "ip saddr"},
	{NFT_PAYLOAD_NETWORK_HEADER, 16, 4, "ip daddr"},
	{NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, "icmpv6 type"},
	{NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, "th sport"},
	{NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, "th dport"},
	{NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, "tcp flags"},
};

/* ---- a batch as text ---- */

#define CHAINS_MAX 64

struct text {
	char name[64];
	char *text;
	size_t length;
	FILE *out;
};

struct printer {
	FILE *all;
	FILE *out;	      /* of the chain in hand */
	struct subject reg;   /* NFT_REG_1 */
	char flow[256];	      /* several registers: the key of a set */
	uint32_t constant[4]; /* in NFT_REG_1, by an immediate */
	char counter[64];     /* of the rule in hand */
	struct text chains[CHAINS_MAX];
	size_t count;
};

static void set_subject(struct printer *printer, uint32_t reg, const struct subject *subject)
{
	if (reg != NFT_REG_1 && reg != NFT_REG32_00) {
		strncat(printer->flow, " . ", sizeof(printer->flow) - strlen(printer->flow) - 1);
		strncat(printer->flow, subject->text,
			sizeof(printer->flow) - strlen(printer->flow) - 1);
		return;
	}
	printer->reg = *subject;
	snprintf(printer->flow, sizeof(printer->flow), "%s", subject->text);
}

static void load(struct printer *printer, uint32_t reg, const struct meta *list, size_t count,
		 uint32_t key)
{
	struct subject subject = {.kind = KIND_HEX};

	for (size_t i = 0; i < count; i++) {
		if (list[i].key != key)
			continue;
		snprintf(subject.text, sizeof(subject.text), "%s", list[i].text);
		subject.kind = list[i].kind;
		subject.names = list[i].names;
		subject.name_count = list[i].name_count;
		set_subject(printer, reg, &subject);
		return;
	}
	fail_msg("key %" PRIu32 " has no name here", key);
}

static void load_payload(struct printer *printer, const struct nftnl_expr *expr)
{
	const uint32_t base = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_BASE);
	const uint32_t offset = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET);
	const uint32_t bytes = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_LEN);
	struct subject subject = {.kind = bytes == 1 ? KIND_NUMBER : KIND_HEX};

	snprintf(subject.text, sizeof(subject.text), "@%s,%" PRIu32 ",%" PRIu32,
		 base == NFT_PAYLOAD_NETWORK_HEADER ? "nh" : "th", 8 * offset, 8 * bytes);
	for (size_t i = 0; i < COUNT(fields); i++)
		if (fields[i].base == base && fields[i].offset == offset &&
		    fields[i].bytes == bytes)
			snprintf(subject.text, sizeof(subject.text), "%s", fields[i].text);
	set_subject(printer, nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_DREG), &subject);
}

static void load_fib(struct printer *printer, const struct nftnl_expr *expr)
{
	const uint32_t flags = nftnl_expr_get_u32(expr, NFTNL_EXPR_FIB_FLAGS);
	struct subject subject = {.kind = KIND_NUMBER};

	snprintf(subject.text, sizeof(subject.text), "fib %s%s oif",
		 flags & NFTA_FIB_F_SADDR ? "saddr" : "daddr",
		 flags & NFTA_FIB_F_IIF ? " . iif" : "");
	if (nftnl_expr_get_u32(expr, NFTNL_EXPR_FIB_RESULT) == NFT_FIB_RESULT_ADDRTYPE) {
		subject.kind = KIND_NAME;
		subject.names = address_types;
		subject.name_count = COUNT(address_types);
		memcpy(strrchr(subject.text, ' '), " type", sizeof(" type"));
	}
	set_subject(printer, NFT_REG_1, &subject);
}

static void load_exthdr(struct printer *printer)
{
	const struct subject subject = {.text = "exthdr frag exists", .kind = KIND_NUMBER};

	set_subject(printer, NFT_REG_1, &subject);
}

static uint32_t number_of(const void *bytes, uint32_t size)
{
	uint32_t number = 0;

	if (size == 1)
		return *(const unsigned char *)bytes;
	memcpy(&number, bytes, size < sizeof(number) ? size : sizeof(number));
	return number;
}

static void print_hex(FILE *out, const unsigned char *bytes, uint32_t size)
{
	fputs("0x", out);
	for (uint32_t i = 0; i < size; i++)
		fprintf(out, "%02x", bytes[i]);
}

#define PASSED_ANY (((1U << NSGATE_PATH_MAX) - 1) << (NSGATE_LABEL_PASSED(0) - 32))

static void print_label(FILE *out, const uint32_t words[4])
{
	const char *comma = "";

	if ((words[1] & PASSED_ANY) == PASSED_ANY) {
		fputs("passed", out);
		return;
	}
	for (unsigned int bit = 0; bit < NSGATE_LABEL_BITS; bit++) {
		const unsigned int way = (bit - NSGATE_LABEL_PASSED(0)) % NSGATE_PATH_MAX;

		if (!(words[bit / 32] & 1U << bit % 32))
			continue;
		if (bit == NSGATE_LABEL_UNSURE)
			fprintf(out, "%sunsure", comma);
		else
			fprintf(out, "%s%s-%s", comma,
				bit < NSGATE_LABEL_ACCEPTED(1, 0) ? "passed" : "accepted",
				ways[way]);
		comma = ",";
	}
}

static void print_flags(FILE *out, const struct subject *subject, uint32_t mask)
{
	const char *comma = "";

	for (size_t i = 0; i < subject->name_count; i++) {
		if (!(mask & subject->names[i].value))
			continue;
		fprintf(out, "%s%s", comma, subject->names[i].text);
		comma = ",";
	}
}

static void print_mark(FILE *out, uint32_t mark)
{
	static const char *const answers[NSGATE_ANSWER_MAX] = {"REJECT", "DENY", "REMEMBER",
							       "TURNED"};

	for (unsigned int i = 0; i < NSGATE_ANSWER_MAX; i++)
		if (mark == nsgate_answer_mark(COOKIE, (enum nsgate_answer)i)) {
			fputs(answers[i], out);
			return;
		}
	fprintf(out, mark ? "0x%08" PRIx32 : "%" PRIu32, mark);
}

/* A mask of flags, none or any of which is set. */
static bool print_masked(struct printer *printer, const struct subject *subject, uint32_t op)
{
	const char *none = op == NFT_CMP_EQ ? "! " : "";
	uint32_t words[4] = {0};

	if (!subject->mask_bytes || (subject->kind != KIND_LABEL && !subject->names))
		return false;
	fprintf(printer->out, " %s %s", subject->text, none);
	memcpy(words, subject->mask, sizeof(words));
	if (subject->kind == KIND_LABEL)
		print_label(printer->out, words);
	else
		print_flags(printer->out, subject, words[0]);
	return true;
}

static void print_value(FILE *out, const struct subject *subject, const void *value, uint32_t size)
{
	const uint32_t number = number_of(value, size);
	const char *name = find_name(subject->names, subject->name_count, number);

	if (subject->kind == KIND_MARK)
		print_mark(out, number);
	else if (name)
		fputs(name, out);
	else if (subject->kind == KIND_HEX)
		print_hex(out, value, size);
	else if (subject->kind == KIND_NETWORK_NUMBER)
		fprintf(out, "%" PRIu32, size == 2 ? ntohs((uint16_t)number) : ntohl(number));
	else
		fprintf(out, "%" PRIu32, number);
}

static void print_compare(struct printer *printer, const struct nftnl_expr *expr)
{
	const struct subject *subject = &printer->reg;
	const uint32_t op = nftnl_expr_get_u32(expr, NFTNL_EXPR_CMP_OP);
	uint32_t size;
	const void *value = nftnl_expr_get(expr, NFTNL_EXPR_CMP_DATA, &size);

	if (print_masked(printer, subject, op))
		return;
	fprintf(printer->out, " %s ", subject->text);
	if (subject->mask_bytes) {
		fputs("& ", printer->out);
		print_hex(printer->out, subject->mask, subject->mask_bytes);
		fputc(' ', printer->out);
	}
	fputs(NAME(operators, op), printer->out);
	print_value(printer->out, subject, value, size);
}

static void narrow(struct printer *printer, const struct nftnl_expr *expr)
{
	uint32_t size;
	const void *mask = nftnl_expr_get(expr, NFTNL_EXPR_BITWISE_MASK, &size);

	assert_in_range(size, 1, sizeof(printer->reg.mask));
	memcpy(printer->reg.mask, mask, size);
	printer->reg.mask_bytes = size;
}

static void print_verdict(struct printer *printer, const struct nftnl_expr *expr)
{
	static const struct name verdicts[] = {
		{NF_DROP, "drop"},
		{NF_ACCEPT, "accept"},
		{(uint32_t)NFT_RETURN, "return"},
		{(uint32_t)NFT_JUMP, "jump"},
		{(uint32_t)NFT_GOTO, "goto"},
	};
	const uint32_t verdict = nftnl_expr_get_u32(expr, NFTNL_EXPR_IMM_VERDICT);

	fprintf(printer->out, " %s", NAME(verdicts, verdict));
	if (nftnl_expr_is_set(expr, NFTNL_EXPR_IMM_CHAIN))
		fprintf(printer->out, " %s", nftnl_expr_get_str(expr, NFTNL_EXPR_IMM_CHAIN));
}

static void take_immediate(struct printer *printer, const struct nftnl_expr *expr)
{
	const void *data;
	uint32_t size;

	if (nftnl_expr_get_u32(expr, NFTNL_EXPR_IMM_DREG) == NFT_REG_VERDICT) {
		print_verdict(printer, expr);
		return;
	}
	data = nftnl_expr_get(expr, NFTNL_EXPR_IMM_DATA, &size);
	assert_in_range(size, 1, sizeof(printer->constant));
	memcpy(printer->constant, data, size);
}

static void take_meta(struct printer *printer, const struct nftnl_expr *expr)
{
	const uint32_t key = nftnl_expr_get_u32(expr, NFTNL_EXPR_META_KEY);

	if (!nftnl_expr_is_set(expr, NFTNL_EXPR_META_SREG)) {
		load(printer, nftnl_expr_get_u32(expr, NFTNL_EXPR_META_DREG), metas, COUNT(metas),
		     key);
		return;
	}
	assert_int_equal(key, NFT_META_MARK);
	fputs(" meta mark set ", printer->out);
	print_mark(printer->out, printer->constant[0]);
}

static void take_ct(struct printer *printer, const struct nftnl_expr *expr)
{
	const uint32_t key = nftnl_expr_get_u32(expr, NFTNL_EXPR_CT_KEY);

	if (!nftnl_expr_is_set(expr, NFTNL_EXPR_CT_SREG)) {
		load(printer, NFT_REG_1, cts, COUNT(cts), key);
		return;
	}
	assert_int_equal(key, NFT_CT_LABELS);
	fputs(" ct label set ", printer->out);
	print_label(printer->out, printer->constant);
}

static void print_queue_range(FILE *out, uint16_t first, uint16_t count, bool bypass, bool fanout)
{
	const unsigned int distance = first - QUEUE_FIRST;

	assert_int_equal(count, QUEUE_COUNT);
	assert_true(fanout);
	assert_int_equal(distance % QUEUE_COUNT, 0);
	assert_in_range(distance / QUEUE_COUNT, 0, NSGATE_FLOW_MAX - 1);
	fprintf(out, "%s to first+%u # %s", bypass ? " flags bypass,fanout" : " flags fanout",
		distance, flows[distance / QUEUE_COUNT]);
}

static void print_queue(struct printer *printer, const struct nftnl_expr *expr)
{
	const uint16_t flags = nftnl_expr_get_u16(expr, NFTNL_EXPR_QUEUE_FLAGS);

	fputs(" queue", printer->out);
	print_queue_range(printer->out, nftnl_expr_get_u16(expr, NFTNL_EXPR_QUEUE_NUM),
			  nftnl_expr_get_u16(expr, NFTNL_EXPR_QUEUE_TOTAL),
			  flags & NFT_QUEUE_FLAG_BYPASS, flags & NFT_QUEUE_FLAG_CPU_FANOUT);
}

static void print_target(struct printer *printer, const struct nftnl_expr *expr)
{
	uint32_t size;
	const struct xt_NFQ_info_v3 *info = nftnl_expr_get(expr, NFTNL_EXPR_TG_INFO, &size);

	assert_true(size >= sizeof(*info));
	fprintf(printer->out, " xt target %s", nftnl_expr_get_str(expr, NFTNL_EXPR_TG_NAME));
	print_queue_range(printer->out, info->queuenum, info->queues_total,
			  info->flags & NFQ_FLAG_BYPASS, info->flags & NFQ_FLAG_CPU_FANOUT);
}

static void print_reject(struct printer *printer, const struct nftnl_expr *expr)
{
	const bool reset = nftnl_expr_get_u32(expr, NFTNL_EXPR_REJECT_TYPE) == NFT_REJECT_TCP_RST;

	fputs(reset ? " reject with tcp reset" : " reject with icmpx port-unreachable",
	      printer->out);
}

static void print_limit(struct printer *printer, const struct nftnl_expr *expr)
{
	fprintf(printer->out, " limit rate %" PRIu64 "/second burst %" PRIu32 " packets",
		nftnl_expr_get_u64(expr, NFTNL_EXPR_LIMIT_RATE),
		nftnl_expr_get_u32(expr, NFTNL_EXPR_LIMIT_BURST));
}

static int print_expression(struct nftnl_expr *expr, void *data)
{
	const char *name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
	struct printer *printer = data;

	if (strcmp(name, "meta") == 0)
		take_meta(printer, expr);
	else if (strcmp(name, "ct") == 0)
		take_ct(printer, expr);
	else if (strcmp(name, "payload") == 0)
		load_payload(printer, expr);
	else if (strcmp(name, "fib") == 0)
		load_fib(printer, expr);
	else if (strcmp(name, "exthdr") == 0)
		load_exthdr(printer);
	else if (strcmp(name, "bitwise") == 0)
		narrow(printer, expr);
	else if (strcmp(name, "byteorder") == 0)
		printer->reg.kind = KIND_NETWORK_NUMBER;
	else if (strcmp(name, "cmp") == 0)
		print_compare(printer, expr);
	else if (strcmp(name, "immediate") == 0)
		take_immediate(printer, expr);
	else if (strcmp(name, "lookup") == 0)
		fprintf(printer->out, " %s @%s", printer->flow,
			nftnl_expr_get_str(expr, NFTNL_EXPR_LOOKUP_SET));
	else if (strcmp(name, "dynset") == 0)
		fprintf(printer->out, " add @%s { %s }",
			nftnl_expr_get_str(expr, NFTNL_EXPR_DYNSET_SET_NAME), printer->flow);
	else if (strcmp(name, "objref") == 0)
		fprintf(printer->out, " counter name %s", printer->counter);
	else if (strcmp(name, "limit") == 0)
		print_limit(printer, expr);
	else if (strcmp(name, "queue") == 0)
		print_queue(printer, expr);
	else if (strcmp(name, "target") == 0)
		print_target(printer, expr);
	else if (strcmp(name, "reject") == 0)
		print_reject(printer, expr);
	else
		fail_msg("expression %s has no text here", name);
	return 0;
}

/* libnftnl 1.2 reads this name beyond its end, as it is written without a NUL. */
static void take_counter(struct printer *printer, const struct nlattr *expr)
{
	const struct nlattr *attr, *inner;

	mnl_attr_for_each_nested (attr, expr) {
		if (mnl_attr_get_type(attr) != NFTA_EXPR_DATA)
			continue;
		mnl_attr_for_each_nested (inner, attr)
			if (mnl_attr_get_type(inner) == NFTA_OBJREF_IMM_NAME)
				snprintf(printer->counter, sizeof(printer->counter), "%.*s",
					 (int)mnl_attr_get_payload_len(inner),
					 (const char *)mnl_attr_get_payload(inner));
	}
}

static bool is_objref(const struct nlattr *expr)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, expr)
		if (mnl_attr_get_type(attr) == NFTA_EXPR_NAME)
			return strcmp(mnl_attr_get_str(attr), "objref") == 0;
	return false;
}

static void find_counter(struct printer *printer, const struct nlmsghdr *nlh)
{
	const struct nlattr *attr, *expr;

	printer->counter[0] = '\0';
	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) != NFTA_RULE_EXPRESSIONS)
			continue;
		mnl_attr_for_each_nested (expr, attr)
			if (is_objref(expr))
				take_counter(printer, expr);
	}
}

/* Rules stand with their chain, whenever the batch has them. */
static struct text *text_of_chain(struct printer *printer, const char *name)
{
	for (size_t i = 0; i < printer->count; i++)
		if (strcmp(printer->chains[i].name, name) == 0)
			return &printer->chains[i];
	fail_msg("no chain %s comes before its rules", name);
	return NULL;
}

static void print_rule(struct printer *printer, const struct nlmsghdr *nlh)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();

	assert_non_null(rule);
	assert_int_equal(nftnl_rule_nlmsg_parse(nlh, rule), 0);
	find_counter(printer, nlh);
	printer->out = text_of_chain(printer, nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN))->out;
	fputs("       ", printer->out);
	nftnl_expr_foreach(rule, print_expression, printer);
	fputc('\n', printer->out);
	nftnl_rule_free(rule);
}

static void begin_chain(struct printer *printer, const char *name)
{
	struct text *text = &printer->chains[printer->count];

	assert_in_range(printer->count++, 0, CHAINS_MAX - 1);
	snprintf(text->name, sizeof(text->name), "%s", name);
	text->out = printer->out = open_memstream(&text->text, &text->length);
	assert_non_null(text->out);
	fprintf(text->out, "    chain %s\n", name);
}

static void print_chain(struct printer *printer, const struct nlmsghdr *nlh)
{
	static const char *const hooks[] = {"prerouting", "input", "forward", "output",
					    "postrouting"};
	struct nftnl_chain *chain = nftnl_chain_alloc();

	assert_non_null(chain);
	assert_int_equal(nftnl_chain_nlmsg_parse(nlh, chain), 0);
	begin_chain(printer, nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME));
	if (nftnl_chain_is_set(chain, NFTNL_CHAIN_HOOKNUM)) {
		assert_int_equal(nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY), NF_ACCEPT);
		fprintf(printer->out, "        type %s hook ",
			nftnl_chain_get_str(chain, NFTNL_CHAIN_TYPE));
		if (nftnl_chain_is_set(chain, NFTNL_CHAIN_DEV))
			fprintf(printer->out, "egress device %s",
				nftnl_chain_get_str(chain, NFTNL_CHAIN_DEV));
		else
			fputs(hooks[nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM)], printer->out);
		fprintf(printer->out, " priority %" PRId32 "; policy accept\n",
			nftnl_chain_get_s32(chain, NFTNL_CHAIN_PRIO));
	}
	nftnl_chain_free(chain);
}

static void print_set(struct printer *printer, const struct nlmsghdr *nlh)
{
	struct nftnl_set *set = nftnl_set_alloc();

	assert_non_null(set);
	assert_int_equal(nftnl_set_nlmsg_parse(nlh, set), 0);
	fprintf(printer->all,
		"    set %s key %" PRIu32 " bytes; size %" PRIu32 "; flags dynamic,timeout; "
		"timeout %" PRIu64 " ms\n",
		nftnl_set_get_str(set, NFTNL_SET_NAME), nftnl_set_get_u32(set, NFTNL_SET_KEY_LEN),
		nftnl_set_get_u32(set, NFTNL_SET_DESC_SIZE),
		nftnl_set_get_u64(set, NFTNL_SET_TIMEOUT));
	nftnl_set_free(set);
}

static const char *string_in(const struct nlmsghdr *nlh, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each (attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == type)
			return mnl_attr_get_str(attr);
	return "";
}

static void end_table(struct printer *printer)
{
	for (size_t i = 0; i < printer->count; i++) {
		assert_int_equal(fclose(printer->chains[i].out), 0);
		fputs(printer->chains[i].text, printer->all);
		free(printer->chains[i].text);
	}
	printer->count = 0;
}

#define OWNED (NFT_TABLE_F_OWNER | 4 /* NFT_TABLE_F_PERSIST */)

static void begin_table(struct printer *printer, const struct nlmsghdr *nlh)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr;

	end_table(printer);
	fprintf(printer->all, "table %s %s", nfg->nfgen_family == NFPROTO_INET ? "inet" : "netdev",
		string_in(nlh, NFTA_TABLE_NAME));
	mnl_attr_for_each (attr, nlh, sizeof(*nfg))
		if (mnl_attr_get_type(attr) == NFTA_TABLE_FLAGS &&
		    ntohl(mnl_attr_get_u32(attr)) == OWNED)
			fputs(" flags owner,persist", printer->all);
	fputc('\n', printer->all);
}

static void print_change(struct printer *printer, const struct nlmsghdr *nlh)
{
	switch (nlh->nlmsg_type & 0xff) {
	case NFT_MSG_NEWTABLE:
		begin_table(printer, nlh);
		break;
	case NFT_MSG_NEWOBJ:
		fprintf(printer->all, "    counter %s\n", string_in(nlh, NFTA_OBJ_NAME));
		break;
	case NFT_MSG_NEWSET:
		print_set(printer, nlh);
		break;
	case NFT_MSG_NEWCHAIN:
		print_chain(printer, nlh);
		break;
	case NFT_MSG_NEWRULE:
		print_rule(printer, nlh);
		break;
	case NFT_MSG_DELRULE: /* all rules: before any */
		assert_int_equal(printer->count, 0);
		break;
	default:
		fail_msg("message %u has no text here", nlh->nlmsg_type & 0xffU);
	}
}

static void print_batch(FILE *out, const void *batch, size_t length)
{
	const struct nlmsghdr *nlh = batch;
	struct printer printer = {.all = out};
	int left = (int)length;

	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
		if (nlh->nlmsg_type != NFNL_MSG_BATCH_BEGIN &&
		    nlh->nlmsg_type != NFNL_MSG_BATCH_END)
			print_change(&printer, nlh);
	assert_int_equal(left, 0);
	end_table(&printer);
}

#endif
