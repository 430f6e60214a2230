/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <string.h>

#include "policy/match.h"
#include "policy/domains.h"
#include "policy/value.h"

/* ---- readers of one value ---- */

static void add_number(struct policy_reader *reader, uint64_t number)
{
	union policy_value value = {.range = {.low = number, .high = number}};

	policy_doc_add_value(reader, &value);
}

static void parse_word(struct policy_reader *reader, struct json_object *json,
		       const char *const *words)
{
	int word;

	if (policy_value_word(reader, json, words, &word))
		add_number(reader, (uint64_t)word);
}

static void parse_range(struct policy_reader *reader, struct json_object *json, const char *what,
			uint64_t max)
{
	union policy_value value;

	if (policy_value_range(reader, json, what, max, &value))
		policy_doc_add_value(reader, &value);
}

static void parse_number(struct policy_reader *reader, struct json_object *json, const char *what,
			 uint64_t max)
{
	uint64_t number;

	if (policy_value_number(reader, json, what, 0, max, &number))
		add_number(reader, number);
}

static void parse_direction(struct policy_reader *reader, struct json_object *json)
{
	static const char *const words[PKT_DIRECTION_MAX + 1] = {
		[PKT_DIRECTION_IN] = "in",
		[PKT_DIRECTION_OUT] = "out",
		[PKT_DIRECTION_FORWARD] = "forward",
	};

	parse_word(reader, json, words);
}

static void parse_family(struct policy_reader *reader, struct json_object *json)
{
	static const char *const words[] = {"ipv4", "ipv6", NULL};

	parse_word(reader, json, words);
}

static void parse_protocol(struct policy_reader *reader, struct json_object *json)
{
	const char *name;
	int number;

	if (!json_object_is_type(json, json_type_string)) {
		parse_number(reader, json, "protocol", 255);
		return;
	}
	name = json_object_get_string(json);
	number = policy_name_lookup(policy_protocols, name);
	if (number < 0)
		policy_name_unknown(reader, policy_protocols, "protocol", name);
	else
		add_number(reader, (uint64_t)number);
}

static void parse_address(struct policy_reader *reader, struct json_object *json)
{
	union policy_value value;

	if (policy_value_address(reader, json, &value))
		policy_doc_add_value(reader, &value);
}

static void parse_port(struct policy_reader *reader, struct json_object *json)
{
	parse_range(reader, json, "port", 65535);
}

/* A number, and a name that both families have, stand for a type of each. */
static void parse_icmp_type(struct policy_reader *reader, struct json_object *json)
{
	const struct policy_name *type;
	bool found = false;
	const char *name;
	uint64_t number;

	if (!json_object_is_type(json, json_type_string)) {
		if (!policy_value_number(reader, json, "ICMP type", 0, 255, &number))
			return;
		add_number(reader, number);
		add_number(reader, POLICY_ICMPV6 | number);
		return;
	}
	name = json_object_get_string(json);
	for (type = policy_icmp_types; type->name; type++) {
		if (strcmp(type->name, name) != 0)
			continue;
		add_number(reader, type->number);
		found = true;
	}
	if (!found)
		policy_name_unknown(reader, policy_icmp_types, "ICMP type", name);
}

static void parse_icmp_code(struct policy_reader *reader, struct json_object *json)
{
	parse_range(reader, json, "ICMP code", 255);
}

static void parse_tcp_flags(struct policy_reader *reader, struct json_object *json)
{
	union policy_value value;

	if (policy_value_tcp_flags(reader, json, &value))
		policy_doc_add_value(reader, &value);
}

static void parse_link(struct policy_reader *reader, struct json_object *json)
{
	union policy_value value;
	unsigned int index;

	if (policy_value_link(reader, json, &index)) {
		value.bits = UINT64_C(1) << index;
		policy_doc_add_value(reader, &value);
	}
}

static void parse_mac(struct policy_reader *reader, struct json_object *json)
{
	uint64_t mac;

	if (policy_value_mac(reader, json, &mac))
		add_number(reader, mac);
}

static void parse_mark(struct policy_reader *reader, struct json_object *json)
{
	union policy_value value;

	if (policy_value_mark_match(reader, json, &value))
		policy_doc_add_value(reader, &value);
}

/* The highest id is "no id" to the kernel. */
static void parse_uid(struct policy_reader *reader, struct json_object *json)
{
	parse_range(reader, json, "uid", UINT32_MAX - 1);
}

static void parse_gid(struct policy_reader *reader, struct json_object *json)
{
	parse_range(reader, json, "gid", UINT32_MAX - 1);
}

static void parse_length(struct policy_reader *reader, struct json_object *json)
{
	parse_range(reader, json, "length", 65535);
}

static void parse_dscp(struct policy_reader *reader, struct json_object *json)
{
	int number = -1;

	if (json_object_is_type(json, json_type_string))
		number = policy_name_lookup(policy_dscps, json_object_get_string(json));
	if (number >= 0)
		add_number(reader, (uint64_t)number);
	else
		parse_range(reader, json, "dscp", 63);
}

static void parse_ttl(struct policy_reader *reader, struct json_object *json)
{
	parse_range(reader, json, "ttl", 255);
}

static void parse_fragment(struct policy_reader *reader, struct json_object *json)
{
	bool fragment;

	if (policy_value_bool(reader, json, &fragment))
		add_number(reader, fragment);
}

static void parse_ct(struct policy_reader *reader, struct json_object *json)
{
	static const char *const words[] = {"new",     "reply",	    "established", "related",
					    "invalid", "untracked", NULL};
	static const uint8_t bits[] = {PKT_CT_NEW,     PKT_CT_REPLY,   PKT_CT_ESTABLISHED,
				       PKT_CT_RELATED, PKT_CT_INVALID, PKT_CT_UNTRACKED};
	union policy_value value;
	int word;

	static_assert(sizeof(words) / sizeof(words[0]) == sizeof(bits) + 1, "a bit for every word");
	if (policy_value_word(reader, json, words, &word)) {
		value.masked.value = bits[word];
		value.masked.mask = bits[word];
		policy_doc_add_value(reader, &value);
	}
}

/* ---- fields of a packet ---- */

static bool fetch_direction(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->direction;
	return true;
}

static bool fetch_family(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->family == AF_INET6;
	return true;
}

static bool fetch_protocol(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->protocol;
	return true;
}

static const struct pkt_addr *src_address(const struct pkt *pkt)
{
	return &pkt->src;
}

static const struct pkt_addr *dst_address(const struct pkt *pkt)
{
	return &pkt->dst;
}

static bool fetch_sport(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->sport;
	return pkt->have & PKT_HAVE_PORTS;
}

static bool fetch_dport(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->dport;
	return pkt->have & PKT_HAVE_PORTS;
}

static bool fetch_icmp_type(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->icmp_type | (pkt->family == AF_INET6 ? POLICY_ICMPV6 : 0);
	return pkt->have & PKT_HAVE_ICMP;
}

static bool fetch_icmp_code(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->icmp_code;
	return pkt->have & PKT_HAVE_ICMP;
}

static bool fetch_tcp_flags(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->tcp_flags;
	return pkt->have & PKT_HAVE_TCP_FLAGS;
}

static bool fetch_iif(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->iif_bits;
	return true;
}

static bool fetch_oif(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->oif_bits;
	return true;
}

static bool fetch_src_mac(const struct pkt *pkt, uint64_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i < sizeof(pkt->src_mac); i++)
		*ret = *ret << 8 | pkt->src_mac[i];
	return pkt->have & PKT_HAVE_MAC;
}

static bool fetch_mark(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->mark;
	return true;
}

static bool fetch_uid(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->uid;
	return pkt->have & PKT_HAVE_UID;
}

static bool fetch_gid(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->gid;
	return pkt->have & PKT_HAVE_GID;
}

/* 65535 stands for anything longer too. */
static bool fetch_length(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->length < 65535 ? pkt->length : 65535;
	return true;
}

static bool fetch_dscp(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->dscp & 63;
	return true;
}

static bool fetch_ttl(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->ttl;
	return true;
}

static bool fetch_fragment(const struct pkt *pkt, uint64_t *ret)
{
	*ret = (pkt->have & PKT_HAVE_FRAGMENT) != 0;
	return true;
}

static bool fetch_ct(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->ct & PKT_CT_ALL;
	return true;
}

static bool fetch_domain(const struct pkt *pkt, uint64_t *ret)
{
	*ret = pkt->domains;
	return pkt->have & PKT_HAVE_DOMAIN;
}

/* ---- the table ---- */

#define REVERSIBLE true
#define ONE_WAY false
#define OF_FLOW true
#define OF_PACKET false
#define NO_NEEDS 0
#define NUMBERS(name, reversible, of_flow, needs, compare, max, parse, fetch)                      \
	{                                                                                          \
		name, POLICY_COMPARE_##compare, reversible, of_flow, needs, max, parse, fetch,     \
			NULL, false                                                                \
	}
#define ADDRESSES(name, reversible, of_flow, needs, parse, address)                                \
	{                                                                                          \
		name, POLICY_COMPARE_ADDRESS, reversible, of_flow, needs, 0, parse, NULL, address, \
			false                                                                      \
	}
/* One list is one value. */
#define LISTS(name, reversible, compare, needs, max, parse, fetch)                                 \
	{                                                                                          \
		name, POLICY_COMPARE_##compare, reversible, OF_PACKET, needs, max, parse, fetch,   \
			NULL, true                                                                 \
	}

/* A row is one match. */
/* clang-format off */
const struct policy_match policy_matches[POLICY_FIELD_MAX] = {
	[POLICY_FIELD_DIRECTION] = NUMBERS("direction", REVERSIBLE, OF_FLOW, NO_NEEDS, RANGE,
		PKT_DIRECTION_MAX - 1, parse_direction, fetch_direction),
	[POLICY_FIELD_FAMILY] = NUMBERS("family", REVERSIBLE, OF_FLOW, NO_NEEDS, RANGE, 1,
		parse_family, fetch_family),
	[POLICY_FIELD_PROTOCOL] = NUMBERS("protocol", REVERSIBLE, OF_FLOW, NO_NEEDS, RANGE, 255,
		parse_protocol, fetch_protocol),
	[POLICY_FIELD_SRC] = ADDRESSES("src", REVERSIBLE, OF_FLOW, NO_NEEDS, parse_address,
		src_address),
	[POLICY_FIELD_DST] = ADDRESSES("dst", REVERSIBLE, OF_FLOW, NO_NEEDS, parse_address,
		dst_address),
	[POLICY_FIELD_SPORT] = NUMBERS("sport", REVERSIBLE, OF_FLOW, NO_NEEDS, RANGE, 65535,
		parse_port, fetch_sport),
	[POLICY_FIELD_DPORT] = NUMBERS("dport", REVERSIBLE, OF_FLOW, NO_NEEDS, RANGE, 65535,
		parse_port, fetch_dport),
	[POLICY_FIELD_ICMP_TYPE] = NUMBERS("icmp_type", REVERSIBLE, OF_FLOW, NO_NEEDS, RANGE,
		POLICY_ICMPV6 + 255, parse_icmp_type, fetch_icmp_type),
	[POLICY_FIELD_ICMP_CODE] = NUMBERS("icmp_code", REVERSIBLE, OF_FLOW, NO_NEEDS, RANGE, 255,
		parse_icmp_code, fetch_icmp_code),
	[POLICY_FIELD_TCP_FLAGS] = NUMBERS("tcp_flags", ONE_WAY, OF_PACKET, NO_NEEDS, MASKED, 255,
		parse_tcp_flags, fetch_tcp_flags),
	[POLICY_FIELD_IIF] = NUMBERS("iif", REVERSIBLE, OF_PACKET, NO_NEEDS, BITS, UINT64_MAX,
		parse_link, fetch_iif),
	[POLICY_FIELD_OIF] = NUMBERS("oif", REVERSIBLE, OF_PACKET, NO_NEEDS, BITS, UINT64_MAX,
		parse_link, fetch_oif),
	[POLICY_FIELD_SRC_MAC] = NUMBERS("src_mac", ONE_WAY, OF_PACKET, NO_NEEDS, RANGE,
		(UINT64_C(1) << 48) - 1, parse_mac, fetch_src_mac),
	[POLICY_FIELD_MARK] = NUMBERS("mark", ONE_WAY, OF_PACKET, NO_NEEDS, MASKED,
		POLICY_MARK_MASK, parse_mark, fetch_mark),
	[POLICY_FIELD_UID] = NUMBERS("uid", ONE_WAY, OF_PACKET, POLICY_NEED_OWNER, RANGE,
		UINT32_MAX, parse_uid, fetch_uid),
	[POLICY_FIELD_GID] = NUMBERS("gid", ONE_WAY, OF_PACKET, POLICY_NEED_OWNER, RANGE,
		UINT32_MAX, parse_gid, fetch_gid),
	[POLICY_FIELD_LENGTH] = NUMBERS("length", ONE_WAY, OF_PACKET, POLICY_NEED_SEGMENTS, RANGE,
		65535, parse_length, fetch_length),
	[POLICY_FIELD_DSCP] = NUMBERS("dscp", ONE_WAY, OF_PACKET, NO_NEEDS, RANGE, 63, parse_dscp,
		fetch_dscp),
	[POLICY_FIELD_TTL] = NUMBERS("ttl", ONE_WAY, OF_PACKET, NO_NEEDS, RANGE, 255, parse_ttl,
		fetch_ttl),
	[POLICY_FIELD_FRAGMENT] = NUMBERS("fragment", REVERSIBLE, OF_PACKET, NO_NEEDS, RANGE, 1,
		parse_fragment, fetch_fragment),
	[POLICY_FIELD_CT] = NUMBERS("ct", ONE_WAY, OF_PACKET, NO_NEEDS, MASKED, PKT_CT_ALL,
		parse_ct, fetch_ct),
	[POLICY_FIELD_DOMAIN] = LISTS("domain", REVERSIBLE, BITS, NO_NEEDS, UINT64_MAX,
		policy_names_read_domain, fetch_domain),
	[POLICY_FIELD_DNS] = LISTS("dns", ONE_WAY, QUERY, NO_NEEDS, 0,
		policy_names_read_dns, NULL),
};
/* clang-format on */
static_assert(sizeof(policy_matches) / sizeof(policy_matches[0]) == POLICY_FIELD_MAX &&
		      POLICY_FIELD_MAX <= 64,
	      "a row and a bit for every field");

/* ---- reading a rule's key, and holding a packet against it ---- */

static void read_values(struct policy_reader *reader, const struct policy_match *match,
			struct json_object *value)
{
	size_t count, before;

	if (match->is_whole || !json_object_is_type(value, json_type_array)) {
		match->parse(reader, value);
		return;
	}
	count = json_object_array_length(value);
	if (count == 0)
		policy_complain(reader, "an empty list matches nothing; leave the key out to match "
					"everything");
	for (size_t i = 0; i < count; i++) {
		before = policy_path_index(&reader->path, i);
		match->parse(reader, json_object_array_get_idx(value, i));
		policy_path_pop(&reader->path, before);
	}
}

bool policy_match_read(struct policy_reader *reader, const char *key, struct json_object *value)
{
	bool negated = strncmp(key, "not_", 4) == 0;
	const char *name = negated ? key + 4 : key;

	for (int field = 0; field < POLICY_FIELD_MAX; field++) {
		if (strcmp(policy_matches[field].name, name) != 0)
			continue;
		policy_doc_begin_match(reader, (enum policy_field)field, negated);
		read_values(reader, &policy_matches[field], value);
		return true;
	}
	return false;
}

static bool within(const struct pkt_addr *address, const struct pkt_addr *low,
		   const struct pkt_addr *high)
{
	return memcmp(address->bytes, low->bytes, sizeof(low->bytes)) >= 0 &&
	       memcmp(address->bytes, high->bytes, sizeof(high->bytes)) <= 0;
}

static bool any_address_holds(const union policy_value *values, size_t count,
			      const struct pkt_addr *address, uint8_t family)
{
	for (size_t i = 0; i < count; i++) {
		if (family == values[i].address.family &&
		    within(address, &values[i].address.low, &values[i].address.high))
			return true;
	}
	return false;
}

static bool number_holds(enum policy_compare compare, const union policy_value *value,
			 uint64_t number)
{
	switch (compare) {
	case POLICY_COMPARE_RANGE:
		return number >= value->range.low && number <= value->range.high;
	case POLICY_COMPARE_MASKED:
		return (number & value->masked.mask) == value->masked.value;
	case POLICY_COMPARE_BITS:
		return number & value->bits;
	case POLICY_COMPARE_ADDRESS: /* not numbers */
	case POLICY_COMPARE_QUERY:
	case POLICY_COMPARE_MAX:
		break;
	}
	return false;
}

static bool type_holds(const union policy_value *types, size_t count, uint16_t type)
{
	for (size_t i = 0; i < count; i++)
		if (number_holds(POLICY_COMPARE_RANGE, &types[i], type))
			return true;
	return count == 0;
}

/*
 * What is no well-formed query is nothing that a rule accepts, and anything that one forbids. A
 * connection is accepted where a query over it may be, and forbidden where every one is.
 */
static bool query_holds(const union policy_value *values, size_t count, const struct pkt *pkt,
			bool negated)
{
	const bool asks = values->query.names || values->query.not_names || count > 1;
	bool holds;

	switch (pkt->query) {
	case PKT_QUERY_GOOD:
		holds = (!values->query.names || pkt->query_lists & values->query.names) &&
			!(pkt->query_lists & values->query.not_names) &&
			type_holds(values + 1, count - 1, pkt->query_type);
		return holds != negated;
	case PKT_QUERY_MALFORMED:
		return values->query.forbids;
	case PKT_QUERY_NOT_YET:
		return asks || negated ? !values->query.forbids : true;
	case PKT_QUERY_NONE:
	default:
		return false;
	}
}

bool policy_match_holds(enum policy_field field, bool negated, const union policy_value *values,
			size_t count, const struct pkt *pkt)
{
	const struct policy_match *match = &policy_matches[field];
	uint64_t number;

	if (!match->fetch)
		return match->address ? any_address_holds(values, count, match->address(pkt),
							  pkt->family) != negated
				      : query_holds(values, count, pkt, negated);
	if (!match->fetch(pkt, &number))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (number_holds(match->compare, &values[i], number))
			return !negated;
	}
	return negated;
}
