/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A reset has of the segment its addresses, ports and sequence number, and nothing else. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/queue/reset.h"
#include "pkt.h"

enum { PAYLOAD = 8, TCP = 20 };

struct segment {
	uint8_t bytes[128];
	struct pkt pkt;
	_Alignas(8) uint8_t reset[RESET_BYTES_MAX];
};

/* Every byte that a sender may choose is 0xee, but for lengths. */
static void make(struct segment *segment, int family, uint8_t flags, size_t payload)
{
	const size_t ip = family == AF_INET ? 20 : 40;
	uint8_t *bytes = segment->bytes;

	*segment = (struct segment){.bytes = {0}};
	memset(bytes, 0xee, ip + TCP + payload);
	bytes[0] = family == AF_INET ? 0x45 : 0x6e;
	bytes[family == AF_INET ? 9 : 6] = IPPROTO_TCP;
	if (family == AF_INET) {
		bytes[2] = bytes[6] = bytes[7] = 0;
		bytes[3] = (uint8_t)(ip + TCP + payload);
	} else {
		bytes[4] = 0;
		bytes[5] = (uint8_t)(TCP + payload);
	}
	bytes[ip + 12] = TCP / 4 << 4 | 0xe;
	bytes[ip + 13] = flags;
	segment->pkt.length = (uint32_t)(ip + TCP + payload);
	assert_int_equal(pkt_parse(&segment->pkt, bytes, segment->pkt.length, segment->pkt.length),
			 0);
}

static size_t reset_of(struct segment *segment)
{
	return reset_make(segment->bytes, segment->pkt.length, &segment->pkt, segment->reset);
}

static uint32_t sum_words(const uint8_t *bytes, size_t length, uint32_t sum)
{
	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	return sum;
}

/* RFC 1071: with a right checksum in it, the sum over everything is all ones. */
static uint32_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static void ipv4_reset(void **state)
{
	static const uint8_t expected[] = {
		0x45, 0,    0,	  40,	0,    0,    0x40, 0,	64, 6, 0, 0, /* sum */
		0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee,		     /* addresses */
		0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0,  0, 0, 0, 0x50, TH_RST, 0, 0};
	struct segment segment = {.bytes = {0}};

	(void)state;
	make(&segment, AF_INET, TH_ACK | TH_PUSH | TH_URG, PAYLOAD);
	assert_int_equal(reset_of(&segment), 40);
	assert_int_equal(fold(sum_words(segment.reset, 20, 0)), 0xffff);
	assert_int_equal(fold(sum_words(segment.reset + 12, 28, IPPROTO_TCP + TCP)), 0xffff);
	memset(segment.reset + 10, 0, 2);
	assert_memory_equal(segment.reset, expected, sizeof(expected));
	assert_int_equal(segment.reset[38] | segment.reset[39], 0); /* urgent pointer */
}

static void ipv6_reset(void **state)
{
	static const uint8_t ip[] = {0x60, 0, 0, 0, 0, TCP, IPPROTO_TCP, 64};
	static const uint8_t tcp[] = {0xee, 0xee, 0xee, 0xee, 0xee, 0xee,   0xee, 0xee,
				      0,    0,	  0,	0,    0x50, TH_RST, 0,	  0};
	struct segment segment = {.bytes = {0}};

	(void)state;
	make(&segment, AF_INET6, TH_FIN | TH_ACK, 0);
	assert_int_equal(reset_of(&segment), 60);
	assert_memory_equal(segment.reset, ip, sizeof(ip));
	assert_memory_equal(segment.reset + 8, segment.bytes + 8, 32);
	assert_memory_equal(segment.reset + 40, tcp, sizeof(tcp));
	assert_int_equal(segment.reset[58] | segment.reset[59], 0);
	assert_int_equal(fold(sum_words(segment.reset + 8, 52, IPPROTO_TCP + TCP)), 0xffff);
}

static void of_what_is_sent_again(void **state)
{
	struct segment segment = {.bytes = {0}};

	(void)state;
	for (int i = 0; i < 2; i++) {
		const int family = i ? AF_INET6 : AF_INET;

		make(&segment, family, TH_ACK, 1);
		assert_true(reset_of(&segment) > 0);
		make(&segment, family, TH_RST, 0);
		assert_true(reset_of(&segment) > 0);
		make(&segment, family, TH_ACK, 0);
		assert_int_equal(reset_of(&segment), 0);
	}
}

/* The kernel keeps where the header of TCP was; and not more may be read than was copied. */
static void of_plain_headers(void **state)
{
	struct segment segment = {.bytes = {0}};

	(void)state;
	make(&segment, AF_INET, TH_ACK, PAYLOAD);
	segment.pkt.l4_offset += 4;
	assert_int_equal(reset_of(&segment), 0);
	make(&segment, AF_INET6, TH_ACK, PAYLOAD);
	segment.pkt.l4_offset += 8;
	assert_int_equal(reset_of(&segment), 0);
	make(&segment, AF_INET, TH_ACK, PAYLOAD);
	assert_int_equal(reset_make(segment.bytes, 39, &segment.pkt, segment.reset), 0);
	assert_int_equal(reset_make(segment.bytes, 40, &segment.pkt, segment.reset), 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ipv4_reset),
		cmocka_unit_test(ipv6_reset),
		cmocka_unit_test(of_what_is_sent_again),
		cmocka_unit_test(of_plain_headers),
	};

	return cmocka_run_group_tests_name("reset", tests, NULL, NULL);
}
