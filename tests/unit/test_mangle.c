/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rewriting: the fields asked for, right checksums, and nothing else. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "agent/queue/mangle.h"
#include "pkt.h"

#define PAYLOAD 11 /* odd, so that a checksum has to pad */

struct packet {
	_Alignas(8) uint8_t bytes[128];
	size_t length;
	struct pkt pkt;
};

static uint32_t sum_words(const uint8_t *bytes, size_t length, uint32_t sum)
{
	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* RFC 1071: with a right checksum in it, the sum over everything is all ones. */
static uint16_t transport_sum(const struct packet *packet)
{
	const size_t at = packet->pkt.l4_offset, length = packet->length - at;
	uint32_t sum = packet->pkt.protocol + (uint32_t)length;

	if (packet->pkt.family == AF_INET)
		sum = sum_words(packet->bytes + 12, 8, sum);
	else
		sum = sum_words(packet->bytes + 8, 32, sum);
	return fold(sum_words(packet->bytes + at, length, sum));
}

static void put_transport(struct packet *packet, uint8_t protocol)
{
	uint8_t *at = packet->bytes + packet->pkt.l4_offset;
	const size_t header = protocol == IPPROTO_TCP ? 20 : 8;

	packet->pkt.protocol = protocol;
	memset(at, 0, header + PAYLOAD);
	memcpy(at, "\x12\x34\x56\x78", 4);
	if (protocol == IPPROTO_TCP)
		at[12] = 5 << 4;
	else
		at[5] = 8 + PAYLOAD;
	for (size_t i = 0; i < PAYLOAD; i++)
		at[header + i] = (uint8_t)(i * 37 + 1);
	packet->length = packet->pkt.l4_offset + header + PAYLOAD;
}

static void make_ip4(struct packet *packet, uint8_t protocol)
{
	static const uint8_t header[20] = {0x45, 0x03, 0,  0, 1, 2, 0x40, 0, 7, 0,
					   0,	 0,    10, 0, 0, 1, 10,	  0, 0, 2};

	memset(packet, 0, sizeof(*packet));
	packet->pkt.family = AF_INET;
	packet->pkt.l4_offset = 20;
	memcpy(packet->bytes, header, sizeof(header));
	put_transport(packet, protocol);
	packet->bytes[3] = (uint8_t)packet->length;
	packet->bytes[9] = protocol;
}

/* With an extension header (destination options, padding only) where `extended`. */
static void make_ip6(struct packet *packet, uint8_t protocol, bool extended)
{
	static const uint8_t options[8] = {0, 0, 1, 4, 0, 0, 0, 0};

	memset(packet, 0, sizeof(*packet));
	packet->pkt.family = AF_INET6;
	packet->pkt.l4_offset = extended ? 48 : 40;
	packet->bytes[0] = 0x60;
	packet->bytes[1] = 0x15; /* ECN 01, the flow label begins with 5 */
	packet->bytes[6] = extended ? IPPROTO_DSTOPTS : protocol;
	packet->bytes[7] = 9;
	packet->bytes[8] = 0xfd;
	packet->bytes[23] = 1;
	packet->bytes[24] = 0xfd;
	packet->bytes[39] = 2;
	if (extended) {
		memcpy(packet->bytes + 40, options, sizeof(options));
		packet->bytes[40] = protocol;
	}
	put_transport(packet, protocol);
	packet->bytes[5] = (uint8_t)(packet->length - 40);
}

static int apply(struct packet *packet, const struct mangle *mangle)
{
	return mangle_packet(packet->bytes, packet->length, &packet->pkt, mangle);
}

static void ip4_fields_and_header_checksum(void **state)
{
	const struct mangle mangle = {.ttl = 64, .dscp = 46};
	struct packet packet;

	(void)state;
	make_ip4(&packet, IPPROTO_UDP);
	assert_int_equal(apply(&packet, &mangle), 0);
	assert_int_equal(packet.bytes[8], 64);
	assert_int_equal(packet.bytes[1], 46 << 2 | 3);
	assert_int_equal(fold(sum_words(packet.bytes, 20, 0)), 0xffff);
}

static void ip6_fields(void **state)
{
	const struct mangle mangle = {.ttl = 255, .dscp = 0x2a};
	struct packet packet;

	(void)state;
	make_ip6(&packet, IPPROTO_TCP, false);
	assert_int_equal(apply(&packet, &mangle), 0);
	assert_int_equal(packet.bytes[7], 255);
	assert_int_equal(packet.bytes[0], 0x60 | 0x2a >> 2);
	assert_int_equal(packet.bytes[1], (0x2a & 3) << 6 | 0x15);
}

static void what_is_not_asked_for_stays(void **state)
{
	const struct mangle mangle = {.ttl = -1, .dscp = 1};
	struct packet packet;

	(void)state;
	make_ip4(&packet, IPPROTO_TCP);
	assert_int_equal(apply(&packet, &mangle), 0);
	assert_int_equal(packet.bytes[8], 7);
	make_ip6(&packet, IPPROTO_TCP, false);
	assert_int_equal(apply(&packet, &(struct mangle){.ttl = 5, .dscp = -1}), 0);
	assert_int_equal(packet.bytes[0], 0x60);
	assert_int_equal(packet.bytes[1], 0x15);
}

static void a_wrong_checksum_stays_wrong(void **state)
{
	const struct mangle mangle = {.ttl = 64, .dscp = -1};
	struct packet packet;

	(void)state;
	make_ip4(&packet, IPPROTO_UDP);
	packet.bytes[26] = 0xde;
	packet.bytes[27] = 0xad;
	assert_int_equal(apply(&packet, &mangle), 0);
	assert_int_equal(packet.bytes[26], 0xde);
	assert_int_equal(packet.bytes[27], 0xad);
}

static void an_unfinished_checksum_is_filled_in(void **state)
{
	const struct mangle mangle = {.ttl = 64, .dscp = -1, .fill_checksum = true};
	const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP};
	struct packet packet;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		make_ip4(&packet, protocols[i]);
		assert_int_equal(apply(&packet, &mangle), 0);
		assert_int_equal(transport_sum(&packet), 0xffff);
		for (int extended = 0; extended < 2; extended++) {
			make_ip6(&packet, protocols[i], extended);
			assert_int_equal(apply(&packet, &mangle), 0);
			assert_int_equal(transport_sum(&packet), 0xffff);
		}
	}
}

/* Over all values of two payload bytes the sum is zero once; UDP must then say 0xffff. */
static void a_udp_checksum_is_never_zero(void **state)
{
	const struct mangle mangle = {.ttl = 64, .dscp = -1, .fill_checksum = true};
	unsigned int ones = 0;
	struct packet packet;

	(void)state;
	for (uint32_t value = 0; value < 0x10000; value++) {
		make_ip4(&packet, IPPROTO_UDP);
		packet.bytes[28] = (uint8_t)(value >> 8);
		packet.bytes[29] = (uint8_t)value;
		assert_int_equal(apply(&packet, &mangle), 0);
		assert_false(packet.bytes[26] == 0 && packet.bytes[27] == 0);
		ones += packet.bytes[26] == 0xff && packet.bytes[27] == 0xff;
	}
	assert_true(ones >= 1);
}

static void fragments_and_strangers(void **state)
{
	const struct mangle mangle = {.ttl = 64, .dscp = -1, .fill_checksum = true};
	struct packet packet;

	(void)state;
	make_ip4(&packet, IPPROTO_UDP);
	packet.pkt.have = PKT_HAVE_FRAGMENT;
	assert_int_equal(apply(&packet, &mangle), 0);
	assert_int_equal(packet.bytes[26] | packet.bytes[27], 0);
	packet.pkt.have = 0;
	packet.pkt.protocol = IPPROTO_SCTP;
	assert_int_equal(apply(&packet, &mangle), -EPROTONOSUPPORT);
}

static void contradicting_lengths_are_refused(void **state)
{
	const struct mangle mangle = {.ttl = 64, .dscp = -1, .fill_checksum = true};
	struct packet packet;

	(void)state;
	make_ip4(&packet, IPPROTO_UDP);
	packet.bytes[3]++;
	assert_int_equal(apply(&packet, &mangle), -EBADMSG);
	make_ip6(&packet, IPPROTO_UDP, false);
	packet.bytes[5]++;
	assert_int_equal(apply(&packet, &mangle), -EBADMSG);
	make_ip4(&packet, IPPROTO_TCP);
	packet.length = 30;
	packet.bytes[3] = 30;
	assert_int_equal(apply(&packet, &mangle), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ip4_fields_and_header_checksum),
		cmocka_unit_test(ip6_fields),
		cmocka_unit_test(what_is_not_asked_for_stays),
		cmocka_unit_test(a_wrong_checksum_stays_wrong),
		cmocka_unit_test(an_unfinished_checksum_is_filled_in),
		cmocka_unit_test(a_udp_checksum_is_never_zero),
		cmocka_unit_test(fragments_and_strangers),
		cmocka_unit_test(contradicting_lengths_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
