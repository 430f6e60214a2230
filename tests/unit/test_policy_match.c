/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a row of the table of matches says of its field, held against packets: what it needs of the
 * kernel, and whether it is the flow's. A field that a new match brings is to be given to the
 * packets here, too; one that is read from the headers is there already.
 */
#include "policy_fixture.h"
#include "policy/match.h"

#define SEGMENT_BYTES 1442
#define PAIR_BYTES 2844 /* of two segments that are not cut up yet */
#define COPIED_BYTES 256

struct value {
	bool present;
	uint64_t number;
	struct pkt_addr address;
};

static struct value value_of(const struct policy_match *match, const struct pkt *pkt)
{
	struct value value = {.present = true};

	if (match->address)
		value.address = *match->address(pkt);
	else if (match->fetch)
		value.present = match->fetch(pkt, &value.number);
	else
		value.number = pkt->query;
	if (!value.present)
		value.number = 0;
	return value;
}

static bool differ(const struct policy_match *match, const struct pkt *one, const struct pkt *other)
{
	const struct value a = value_of(match, one), b = value_of(match, other);

	return a.present != b.present || a.number != b.number ||
	       memcmp(&a.address, &b.address, sizeof(a.address)) != 0;
}

/* TCP from 10.0.0.1:1024 to 10.0.0.2:80, `length` bytes, as far as they are copied. */
static struct pkt tcp(uint16_t length, size_t copied, bool first_fragment)
{
	uint8_t data[PAIR_BYTES] = {0x45, 0, 0, 0, 0,  9, 0, 0, 64, IPPROTO_TCP, 0, 0,
				    10,	  0, 0, 1, 10, 0, 0, 2, 4,  0,		 0, 80};
	struct pkt pkt = {.hook = NSGATE_HOOK_IN, .direction = PKT_DIRECTION_IN, .length = length};

	data[2] = (uint8_t)(length >> 8);
	data[3] = (uint8_t)length;
	data[6] = first_fragment ? 0x20 : 0;
	data[32] = 5 << 4; /* TCP's header length */
	data[33] = 0x10;   /* ACK */
	if (first_fragment) {
		data[1] = 46 << 2 | 1; /* DSCP, ECN */
		data[8] = 3;
		data[33] = 0x18;
	}
	assert_int_equal(pkt_parse(&pkt, data, copied < length ? copied : length, length), 0);
	return pkt;
}

static struct pkt owned(struct pkt pkt)
{
	pkt.have |= PKT_HAVE_UID | PKT_HAVE_GID;
	pkt.uid = 1000;
	pkt.gid = 100;
	return pkt;
}

static void test_needs_are_those_of_the_field(void **test)
{
	const struct pkt segment = tcp(SEGMENT_BYTES, COPIED_BYTES, false),
			 pair = tcp(PAIR_BYTES, COPIED_BYTES, false),
			 whole = tcp(SEGMENT_BYTES, SEGMENT_BYTES, false), owner = owned(segment);

	(void)test;
	for (int field = 0; field < POLICY_FIELD_MAX; field++) {
		const struct policy_match *match = &policy_matches[field];
		uint32_t needs = 0;

		if (differ(match, &segment, &pair))
			needs |= POLICY_NEED_SEGMENTS;
		if (differ(match, &segment, &whole))
			needs |= POLICY_NEED_WHOLE;
		if (differ(match, &segment, &owner))
			needs |= POLICY_NEED_OWNER;
		if (match->needs != needs)
			fail_msg("%s needs %x, its row says %x", match->name, needs, match->needs);
	}
}

/* Another packet of the flow, as different as it can be. */
static struct pkt vary(void)
{
	struct pkt pkt = owned(tcp(PAIR_BYTES, COPIED_BYTES, true));

	pkt.mark = 7;
	pkt.ct = PKT_CT_ESTABLISHED;
	pkt.iif_bits = pkt.oif_bits = 3;
	pkt.have |= PKT_HAVE_MAC | PKT_HAVE_DOMAIN;
	pkt.query = PKT_QUERY_GOOD;
	return pkt;
}

static void test_what_is_the_flows_is_in_all_of_its_packets(void **test)
{
	const struct pkt one = tcp(SEGMENT_BYTES, COPIED_BYTES, false), other = vary();

	(void)test;
	for (int field = 0; field < POLICY_FIELD_MAX; field++) {
		const struct policy_match *match = &policy_matches[field];

		if (match->of_flow == differ(match, &one, &other))
			fail_msg("%s is %sthe flow's, its row says otherwise", match->name,
				 match->of_flow ? "not " : "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_needs_are_those_of_the_field),
		cmocka_unit_test(test_what_is_the_flows_is_in_all_of_its_packets),
	};

	return cmocka_run_group_tests_name("policy_match", tests, NULL, NULL);
}
