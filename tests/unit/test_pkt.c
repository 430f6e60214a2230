/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers: good packets of each kind, every truncation of them, and those that contradict
 * themselves. Packets are copied to the end of an allocation of their exact size, so that the
 * sanitizers see a read of one byte too many.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nsgate/hook.h"
#include "pkt.h"
#include "policy/policy.h"
#include "policy/match.h"

struct buffer {
	uint8_t bytes[512];
	size_t length;
};

static void put(struct buffer *buffer, const void *bytes, size_t length)
{
	assert_true(buffer->length + length <= sizeof(buffer->bytes));
	memcpy(buffer->bytes + buffer->length, bytes, length);
	buffer->length += length;
}

#define PUT(buffer, ...)                                                                           \
	put(buffer, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void put_zeros(struct buffer *buffer, size_t count)
{
	static const uint8_t zeros[256];

	put(buffer, zeros, count);
}

/* Write the length fields of the IP header to fit the buffer. */
static void seal(struct buffer *buffer)
{
	size_t length = buffer->length;
	uint8_t *field = buffer->bytes + 2;

	if (buffer->bytes[0] >> 4 == 6) {
		length -= 40;
		field = buffer->bytes + 4;
	}
	field[0] = (uint8_t)(length >> 8);
	field[1] = (uint8_t)length;
}

static struct buffer ipv4(uint8_t protocol, uint16_t fragment)
{
	struct buffer buffer = {.length = 0};

	PUT(&buffer, 0x45, 0xb8, 0, 0, 0, 1, fragment >> 8, fragment & 0xff, 63, protocol, 0, 0,
	    192, 0, 2, 1, 198, 51, 100, 2);
	return buffer;
}

static struct buffer ipv6(uint8_t next)
{
	struct buffer buffer = {.length = 0};

	PUT(&buffer, 0x6b, 0x80, 0, 0, 0, 0, next, 62);
	PUT(&buffer, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
	PUT(&buffer, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);
	return buffer;
}

static void put_tcp(struct buffer *buffer)
{
	PUT(buffer, 0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x12, 0, 0, 0, 0, 0, 0);
	PUT(buffer, 2, 4, 5, 0xb4);
}

static void put_udp(struct buffer *buffer)
{
	PUT(buffer, 0x9c, 0x40, 0, 53, 0, 12, 0, 0, 'd', 'a', 't', 'a');
}

static int parse(struct pkt *pkt, const struct buffer *buffer, size_t caplen, size_t length)
{
	uint8_t *exact = malloc(caplen ? caplen : 1);
	int err;

	assert_non_null(exact);
	memcpy(exact, buffer->bytes, caplen);
	err = pkt_parse(pkt, exact, caplen, length);
	free(exact);
	return err;
}

static int parse_whole(struct pkt *pkt, const struct buffer *buffer)
{
	memset(pkt, 0xff, sizeof(*pkt));
	pkt->have = 0;
	return parse(pkt, buffer, buffer->length, buffer->length);
}

static void assert_bad(const struct buffer *buffer)
{
	struct pkt pkt;

	assert_int_equal(parse_whole(&pkt, buffer), -EBADMSG);
}

/* Flip every bit and cut at every byte: an answer of 0 or -EBADMSG, and no stray read. */
static void torture(const struct buffer *good)
{
	struct buffer broken;
	struct pkt pkt = {.have = 0};
	int err;

	for (size_t caplen = 0; caplen <= good->length; caplen++) {
		for (size_t length = 0; length <= good->length + 2; length++) {
			err = parse(&pkt, good, caplen, length);
			assert_true(err == 0 || err == -EBADMSG);
			if (length < good->length)
				assert_int_equal(err, -EBADMSG);
		}
	}
	for (size_t bit = 0; bit < good->length * 8; bit++) {
		broken = *good;
		broken.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		for (size_t caplen = 0; caplen <= good->length; caplen += 3) {
			err = parse(&pkt, &broken, caplen, good->length);
			assert_true(err == 0 || err == -EBADMSG);
		}
		parse(&pkt, &broken, good->length, 100000);
	}
}

static void test_ipv4_tcp(void **test)
{
	struct buffer buffer = ipv4(IPPROTO_TCP, 0x4000);
	struct pkt pkt;

	(void)test;
	put_tcp(&buffer);
	seal(&buffer);
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.family, AF_INET);
	assert_int_equal(pkt.protocol, IPPROTO_TCP);
	assert_int_equal(pkt.ttl, 63);
	assert_int_equal(pkt.dscp, 46);
	assert_int_equal(pkt.sport, 40000);
	assert_int_equal(pkt.dport, 80);
	assert_int_equal(pkt.tcp_flags, 0x12);
	assert_int_equal(pkt.have, PKT_HAVE_PORTS | PKT_HAVE_TCP_FLAGS);
	assert_int_equal(pkt.l4_offset, 20);
	assert_int_equal(ntohl(pkt.src.words[0]), 0xc0000201);
	assert_int_equal(ntohl(pkt.dst.words[0]), 0xc6336402);
	assert_int_equal(pkt.src.words[1] | pkt.src.words[2] | pkt.src.words[3], 0);
	assert_int_equal(pkt.unknown, 0);
	torture(&buffer);

	/* Without its options the TCP header is shorter than it says. */
	buffer.length -= 4;
	seal(&buffer);
	assert_bad(&buffer);
	buffer.bytes[32] = 0x50;
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	buffer.bytes[32] = 0x40;
	assert_bad(&buffer);
}

static void test_ipv4_options_and_padding(void **test)
{
	struct buffer buffer = ipv4(IPPROTO_UDP, 0);
	struct pkt pkt;

	(void)test;
	PUT(&buffer, 0x94, 4, 0, 0);
	buffer.bytes[0] = 0x46;
	put_udp(&buffer);
	seal(&buffer);
	torture(&buffer);
	put_zeros(&buffer, 10); /* the link's */
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.l4_offset, 24);
	assert_int_equal(pkt.dport, 53);
	buffer.bytes[0] = 0x44;
	assert_bad(&buffer);
	buffer.bytes[0] = 0x4f; /* a header that reaches past the packet */
	assert_bad(&buffer);
	buffer.bytes[0] = 0x56;
	assert_bad(&buffer);
}

static void test_ipv4_lengths(void **test)
{
	struct buffer buffer = ipv4(IPPROTO_UDP, 0);
	struct pkt pkt = {.have = 0};

	(void)test;
	put_udp(&buffer);
	seal(&buffer);
	buffer.bytes[3]++; /* more than there is */
	assert_bad(&buffer);
	buffer.bytes[3] = 0; /* only a super-packet may leave it open */
	assert_bad(&buffer);
	assert_int_equal(parse(&pkt, &buffer, buffer.length, 65536), 0);
	assert_int_equal(parse(&pkt, &buffer, buffer.length, 65535), -EBADMSG);
}

static void test_udp_length(void **test)
{
	struct buffer buffer = ipv4(IPPROTO_UDP, 0);
	struct pkt pkt;

	(void)test;
	put_udp(&buffer);
	seal(&buffer);
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	buffer.bytes[25] = 7;
	assert_bad(&buffer);
	buffer.bytes[25] = 0;
	assert_bad(&buffer);
	buffer.bytes[25] = 8;
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	buffer.bytes[25] = 13;
	assert_bad(&buffer);
}

static void test_other_transports(void **test)
{
	static const struct {
		uint8_t protocol;
		size_t size;
		uint16_t have;
	} cases[] = {
		{IPPROTO_SCTP, 12, PKT_HAVE_PORTS},
		{IPPROTO_DCCP, 12, PKT_HAVE_PORTS},
		{IPPROTO_UDPLITE, 8, PKT_HAVE_PORTS},
		{IPPROTO_ICMP, 8, PKT_HAVE_ICMP},
		{IPPROTO_ESP, 0, 0},
		{IPPROTO_ICMPV6, 0, 0},
	};
	struct buffer buffer;
	struct pkt pkt;

	(void)test;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buffer = ipv4(cases[i].protocol, 0);
		put_zeros(&buffer, cases[i].size);
		seal(&buffer);
		assert_int_equal(parse_whole(&pkt, &buffer), 0);
		assert_int_equal(pkt.have, cases[i].have);
		torture(&buffer);
		if (cases[i].size == 0)
			continue;
		buffer.length--;
		seal(&buffer);
		assert_bad(&buffer);
	}
}

static void test_ipv4_fragments(void **test)
{
	struct buffer buffer = ipv4(IPPROTO_TCP, 0x2000);
	struct pkt pkt;

	(void)test;
	put_tcp(&buffer);
	seal(&buffer);
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.have, PKT_HAVE_PORTS | PKT_HAVE_TCP_FLAGS | PKT_HAVE_FRAGMENT);
	buffer.length = 20 + 16; /* the flags left for the next one to bring */
	seal(&buffer);
	assert_bad(&buffer);

	buffer = ipv4(IPPROTO_TCP, 0x2000 | 3);
	put_zeros(&buffer, 8);
	seal(&buffer);
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.have, PKT_HAVE_FRAGMENT | PKT_HAVE_LATER_FRAGMENT);
	torture(&buffer);
	buffer.bytes[7] = 1; /* back into the first one's header */
	assert_bad(&buffer);
	buffer.bytes[7] = 3;
	buffer.length--; /* all but the last are of whole eights */
	seal(&buffer);
	assert_bad(&buffer);
	buffer.bytes[6] = 0x1f;
	buffer.bytes[7] = 0xff; /* the last eight bytes of the largest packet, and no more */
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	put_zeros(&buffer, 1);
	seal(&buffer);
	assert_bad(&buffer);
}

static void test_udp_first_fragment_names_more(void **test)
{
	struct buffer buffer = ipv4(IPPROTO_UDP, 0x2000);
	struct pkt pkt;

	(void)test;
	PUT(&buffer, 0, 1, 0, 2, 0x10, 0, 0, 0);
	seal(&buffer);
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.dport, 2);
}

static void test_ipv6_extensions(void **test)
{
	struct buffer buffer = ipv6(IPPROTO_HOPOPTS);
	struct pkt pkt;

	(void)test;
	PUT(&buffer, IPPROTO_DSTOPTS, 0, 1, 4, 0, 0, 0, 0);
	PUT(&buffer, IPPROTO_ROUTING, 1, 1, 12);
	put_zeros(&buffer, 12);
	PUT(&buffer, IPPROTO_AH, 0, 4, 0, 0, 0, 0, 0);
	PUT(&buffer, IPPROTO_TCP, 4, 0, 0);
	put_zeros(&buffer, 20);
	put_tcp(&buffer);
	seal(&buffer);
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.family, AF_INET6);
	assert_int_equal(pkt.protocol, IPPROTO_TCP);
	assert_int_equal(pkt.l4_offset, 40 + 8 + 16 + 8 + 24);
	assert_int_equal(pkt.dport, 80);
	assert_int_equal(pkt.ttl, 62);
	assert_int_equal(pkt.dscp, 46);
	assert_int_equal(pkt.src.bytes[15], 1);
	assert_int_equal(pkt.dst.bytes[15], 2);
	torture(&buffer);
	buffer.bytes[48] = IPPROTO_HOPOPTS; /* only ever the first */
	assert_bad(&buffer);
}

static void test_ipv6_extension_limit(void **test)
{
	struct buffer buffer = ipv6(IPPROTO_DSTOPTS);
	struct pkt pkt;

	(void)test;
	for (int i = 0; i < 15; i++)
		PUT(&buffer, IPPROTO_DSTOPTS, 0, 1, 4, 0, 0, 0, 0);
	PUT(&buffer, IPPROTO_NONE, 0, 1, 4, 0, 0, 0, 0);
	seal(&buffer);
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.protocol, IPPROTO_NONE);
	buffer.bytes[buffer.length - 8] = IPPROTO_DSTOPTS;
	PUT(&buffer, IPPROTO_NONE, 0, 1, 4, 0, 0, 0, 0);
	seal(&buffer);
	assert_bad(&buffer);
}

static void test_ipv6_none_and_icmp(void **test)
{
	struct buffer buffer = ipv6(IPPROTO_NONE);
	struct pkt pkt;

	(void)test;
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	buffer.bytes[6] = IPPROTO_TCP; /* no payload, so no header either */
	assert_bad(&buffer);

	buffer = ipv6(IPPROTO_ICMPV6);
	PUT(&buffer, 128, 1, 0, 0, 0, 0, 0, 0);
	seal(&buffer);
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.have, PKT_HAVE_ICMP);
	assert_int_equal(pkt.icmp_type, 128);
	assert_int_equal(pkt.icmp_code, 1);
	torture(&buffer);
}

static void test_ipv6_fragments(void **test)
{
	struct buffer buffer = ipv6(IPPROTO_FRAGMENT);
	struct pkt pkt;

	(void)test;
	PUT(&buffer, IPPROTO_TCP, 0, 0, 1, 0, 0, 0, 9);
	put_tcp(&buffer);
	seal(&buffer);
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.have, PKT_HAVE_PORTS | PKT_HAVE_TCP_FLAGS | PKT_HAVE_FRAGMENT);
	torture(&buffer);
	buffer.bytes[43] = 0; /* "atomic": all of it in one */
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.have, PKT_HAVE_PORTS | PKT_HAVE_TCP_FLAGS);
	buffer.bytes[43] = 0x18 | 1;
	assert_int_equal(parse_whole(&pkt, &buffer), 0);
	assert_int_equal(pkt.have, PKT_HAVE_FRAGMENT | PKT_HAVE_LATER_FRAGMENT);
	buffer.bytes[43] = 0x08;
	assert_bad(&buffer);

	/* The chain of headers does not fit into the first fragment (RFC 7112). */
	buffer.bytes[40] = IPPROTO_DSTOPTS;
	buffer.bytes[43] = 1;
	buffer.length = 40 + 8 + 8;
	memcpy(buffer.bytes + 48, (const uint8_t[]){IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0}, 8);
	seal(&buffer);
	assert_bad(&buffer);
}

static void test_ipv6_jumbo(void **test)
{
	struct buffer buffer = ipv6(IPPROTO_HOPOPTS);
	struct pkt pkt = {.have = 0};

	(void)test;
	PUT(&buffer, IPPROTO_TCP, 0, 0xc2, 4, 0, 1, 0, 0);
	put_tcp(&buffer);
	assert_int_equal(parse(&pkt, &buffer, buffer.length, 40 + 0x10000), 0);
	assert_int_equal(pkt.dport, 80);
	assert_int_equal(parse(&pkt, &buffer, buffer.length, 40 + 0x10000 - 1), -EBADMSG);
	assert_bad(&buffer);
	seal(&buffer); /* a jumbo option beside an ordinary length */
	assert_bad(&buffer);

	buffer = ipv6(IPPROTO_TCP); /* the kernel's own, which say nothing at all */
	put_tcp(&buffer);
	assert_int_equal(parse(&pkt, &buffer, buffer.length, 100000), 0);
	assert_bad(&buffer);
}

static void test_queue_fields_stay(void **test)
{
	struct buffer buffer = ipv4(IPPROTO_UDP, 0);
	struct pkt pkt = {.have = PKT_HAVE_UID | PKT_HAVE_ICMP, .uid = 7, .mark = 9, .unknown = 1};

	(void)test;
	put_udp(&buffer);
	seal(&buffer);
	assert_int_equal(parse(&pkt, &buffer, buffer.length, buffer.length), 0);
	assert_int_equal(pkt.have, PKT_HAVE_UID | PKT_HAVE_PORTS);
	assert_int_equal(pkt.uid, 7);
	assert_int_equal(pkt.mark, 9);
	assert_int_equal(pkt.unknown, 0);
}

static void test_reverse(void **test)
{
	struct pkt reply = {
		.hook = NSGATE_HOOK_PREROUTING,
		.direction = PKT_DIRECTION_IN,
		.family = AF_INET,
		.protocol = IPPROTO_TCP,
		.have = PKT_HAVE_PORTS | PKT_HAVE_TCP_FLAGS | PKT_HAVE_MAC,
		.sport = 80,
		.dport = 40000,
		.iif_bits = 1,
		.oif_bits = 2,
		.ct = PKT_CT_REPLY,
		.length = 99,
	};
	struct pkt pkt;

	(void)test;
	reply.src.bytes[0] = 1;
	reply.dst.bytes[0] = 2;
	pkt_reverse(&pkt, &reply);
	assert_int_equal(pkt.hook, NSGATE_HOOK_POSTROUTING);
	assert_int_equal(pkt.direction, PKT_DIRECTION_OUT);
	assert_int_equal(pkt.src.bytes[0], 2);
	assert_int_equal(pkt.dst.bytes[0], 1);
	assert_int_equal(pkt.sport, 40000);
	assert_int_equal(pkt.dport, 80);
	assert_int_equal(pkt.iif_bits, 2);
	assert_int_equal(pkt.oif_bits, 1);
	assert_int_equal(pkt.length, 99);
	assert_false(pkt.have & PKT_HAVE_MAC);
	assert_true(pkt.unknown & POLICY_FIELD_BIT(POLICY_FIELD_UID));
	assert_false(pkt.unknown & POLICY_FIELD_BIT(POLICY_FIELD_SRC_MAC));

	reply.direction = PKT_DIRECTION_OUT;
	pkt_reverse(&pkt, &reply);
	assert_int_equal(pkt.direction, PKT_DIRECTION_IN);
	assert_true(pkt.unknown & POLICY_FIELD_BIT(POLICY_FIELD_SRC_MAC));
	assert_false(pkt.unknown & POLICY_FIELD_BIT(POLICY_FIELD_UID));
}

static void test_reverse_icmp(void **test)
{
	const uint64_t bits =
		POLICY_FIELD_BIT(POLICY_FIELD_ICMP_TYPE) | POLICY_FIELD_BIT(POLICY_FIELD_ICMP_CODE);
	struct pkt reply = {.family = AF_INET6, .have = PKT_HAVE_ICMP, .icmp_type = 129};
	struct pkt pkt;

	(void)test;
	pkt_reverse(&pkt, &reply);
	assert_int_equal(pkt.icmp_type, 128);
	assert_int_equal(pkt.unknown & bits, 0);
	reply.family = AF_INET;
	pkt_reverse(&pkt, &reply);
	assert_int_equal(pkt.unknown & bits, bits);
	reply.icmp_type = 0;
	pkt_reverse(&pkt, &reply);
	assert_int_equal(pkt.icmp_type, 8);
	assert_int_equal(pkt.unknown & bits, 0);
}

/* The table of matches says which fields a reversed packet can have: pkt_reverse() must agree. */
static void test_reverse_agrees_with_matches(void **test)
{
	static const uint8_t directions[] = {PKT_DIRECTION_IN, PKT_DIRECTION_OUT};
	uint64_t always = UINT64_MAX;

	(void)test;
	for (size_t i = 0; i < 2; i++) {
		struct pkt reply = {
			.direction = directions[i],
			.family = AF_INET,
			.have = PKT_HAVE_PORTS | PKT_HAVE_TCP_FLAGS,
		};
		struct pkt pkt;

		pkt_reverse(&pkt, &reply);
		always &= pkt.unknown;
	}
	for (int field = 0; field < POLICY_FIELD_MAX; field++) {
		if (always >> field & 1)
			assert_false(policy_matches[field].reversible);
		else
			assert_true(policy_matches[field].reversible ||
				    field == POLICY_FIELD_SRC_MAC || field == POLICY_FIELD_UID ||
				    field == POLICY_FIELD_GID);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4_tcp),
		cmocka_unit_test(test_ipv4_options_and_padding),
		cmocka_unit_test(test_ipv4_lengths),
		cmocka_unit_test(test_udp_length),
		cmocka_unit_test(test_other_transports),
		cmocka_unit_test(test_ipv4_fragments),
		cmocka_unit_test(test_udp_first_fragment_names_more),
		cmocka_unit_test(test_ipv6_extensions),
		cmocka_unit_test(test_ipv6_extension_limit),
		cmocka_unit_test(test_ipv6_none_and_icmp),
		cmocka_unit_test(test_ipv6_fragments),
		cmocka_unit_test(test_ipv6_jumbo),
		cmocka_unit_test(test_queue_fields_stay),
		cmocka_unit_test(test_reverse),
		cmocka_unit_test(test_reverse_icmp),
		cmocka_unit_test(test_reverse_agrees_with_matches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
