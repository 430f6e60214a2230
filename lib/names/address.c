/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names/address.h"

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

struct prefix {
	uint8_t bytes[16];
	uint8_t bits;
};

static const struct prefix ipv4[] = {
	{{0}, 8},	  {{10}, 8},	    {{100, 64}, 10},
	{{127}, 8},	  {{169, 254}, 16}, {{172, 16}, 12},
	{{192, 168}, 16}, {{224}, 3},	    {{168, 63, 129, 16}, 32}, /* Azure's metadata service */
};

static const struct prefix ipv6[] = {
	{{0}, 96}, /* ::, ::1, and IPv4 as it was once written */
	{{0xfc}, 7}, {{0xfe, 0x80}, 10}, {{0xfe, 0xc0}, 10}, {{0xff}, 8},
};

/* Where an IPv4 address is in one of IPv6. */
static const struct {
	struct prefix prefix;
	uint8_t at;
} embedded[] = {
	{{{[10] = 0xff, [11] = 0xff}, 96}, 12},
	{{{0, 0x64, 0xff, 0x9b}, 96}, 12},
	{{{0x20, 0x02}, 16}, 2},
};

static bool is_within(const uint8_t *bytes, const struct prefix *prefix)
{
	const size_t whole = prefix->bits / 8;
	const uint8_t mask = (uint8_t)(0xff00U >> prefix->bits % 8);

	return memcmp(bytes, prefix->bytes, whole) == 0 &&
	       (prefix->bits % 8 == 0 || (bytes[whole] & mask) == (prefix->bytes[whole] & mask));
}

static bool is_any_of(const uint8_t *bytes, const struct prefix *prefixes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_within(bytes, &prefixes[i]))
			return true;
	return false;
}

static bool is_private4(const uint8_t *bytes)
{
	return is_any_of(bytes, ipv4, sizeof(ipv4) / sizeof(ipv4[0]));
}

bool names_address_is_private(uint8_t family, const struct pkt_addr *address)
{
	if (family == AF_INET)
		return is_private4(address->bytes);
	for (size_t i = 0; i < sizeof(embedded) / sizeof(embedded[0]); i++)
		if (is_within(address->bytes, &embedded[i].prefix))
			return is_private4(address->bytes + embedded[i].at);
	return is_any_of(address->bytes, ipv6, sizeof(ipv6) / sizeof(ipv6[0]));
}
