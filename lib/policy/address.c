/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of a policy document: "192.0.2.1", "2001:db8::/32", "10.0.0.5-10.0.0.9". */
#include <arpa/inet.h>
#include <json-c/json.h>
#include <string.h>

#include "policy/value.h"

#define ADDRESS_TEXT_MAX (2 * INET6_ADDRSTRLEN + 1) /* a range of two */

static bool read_address(struct policy_reader *reader, const char *text, uint8_t *ret_family,
			 struct pkt_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	*ret_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(*ret_family, text, ret->bytes) == 1)
		return true;
	policy_complain(reader,
			"\"%.80s\" is not an IP address, a prefix like \"192.0.2.0/24\" or a range "
			"like \"192.0.2.1-192.0.2.9\"",
			text);
	return false;
}

static bool read_prefix_length(struct policy_reader *reader, const char *text, unsigned int max,
			       unsigned int *ret)
{
	unsigned int bits = 0;

	for (size_t i = 0; i < 4; i++) {
		if (text[i] == '\0' && i > 0 && bits <= max) {
			*ret = bits;
			return true;
		}
		if (text[i] < '0' || text[i] > '9' || (i == 1 && text[0] == '0'))
			break;
		bits = bits * 10 + (unsigned int)(text[i] - '0');
	}
	policy_complain(reader, "prefix length \"%.20s\" is not in 0..%u", text, max);
	return false;
}

static bool read_prefix(struct policy_reader *reader, const char *address, const char *length,
			union policy_value *ret)
{
	char right[INET6_ADDRSTRLEN];
	unsigned int bits, size;
	bool host_bits = false;

	if (!read_address(reader, address, &ret->address.family, &ret->address.low))
		return false;
	size = ret->address.family == AF_INET ? 4 : 16;
	if (!read_prefix_length(reader, length, size * 8, &bits))
		return false;

	ret->address.high = ret->address.low;
	for (unsigned int i = bits; i < size * 8; i++) {
		uint8_t bit = (uint8_t)(0x80 >> i % 8);

		host_bits |= ret->address.low.bytes[i / 8] & bit;
		ret->address.low.bytes[i / 8] &= (uint8_t)~bit;
		ret->address.high.bytes[i / 8] |= bit;
	}
	if (!host_bits)
		return true;
	inet_ntop(ret->address.family, ret->address.low.bytes, right, sizeof(right));
	policy_complain(reader,
			"%s/%u has bits set after the prefix; did you mean %s/%u, or %s alone?",
			address, bits, right, bits, address);
	return false;
}

static bool read_address_range(struct policy_reader *reader, const char *low, const char *high,
			       union policy_value *ret)
{
	uint8_t family;

	if (!read_address(reader, low, &ret->address.family, &ret->address.low) ||
	    !read_address(reader, high, &family, &ret->address.high))
		return false;
	if (family != ret->address.family) {
		policy_complain(reader, "a range must be of one family, IPv4 or IPv6");
		return false;
	}
	if (memcmp(ret->address.low.bytes, ret->address.high.bytes, 16) > 0) {
		policy_complain(reader, "the range is reversed; write \"%s-%s\"", high, low);
		return false;
	}
	return true;
}

bool policy_value_address(struct policy_reader *reader, struct json_object *value,
			  union policy_value *ret)
{
	char copy[ADDRESS_TEXT_MAX + 1], *rest = copy;
	const char *text;
	size_t length;

	if (!policy_value_text(reader, value, &text))
		return false;
	length = strlen(text);
	if (length > ADDRESS_TEXT_MAX)
		return read_address(reader, text, &ret->address.family, &ret->address.low);
	memcpy(copy, text, length + 1);
	memset(ret, 0, sizeof(*ret));
	if (strchr(copy, '/')) {
		strsep(&rest, "/");
		return read_prefix(reader, copy, rest, ret);
	}
	if (strchr(copy, '-')) {
		strsep(&rest, "-");
		return read_address_range(reader, copy, rest, ret);
	}
	if (!read_address(reader, copy, &ret->address.family, &ret->address.low))
		return false;
	ret->address.high = ret->address.low;
	return true;
}
