// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * DNS: queries, the answers they are turned into, what answers say, and messages in a stream.
 * Messages are read from copies of their exact size, so that the sanitizers see a read too many.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proto/dns_answer.h"
#include "proto/dns_query.h"
#include "proto/dns_stream.h"

#define RD 0x0100
#define ANSWER 0x8180
#define IN 1

struct buffer {
	uint8_t bytes[8192];
	size_t length;
};

static void put(struct buffer *buffer, const void *bytes, size_t length)
{
	assert_true(buffer->length + length <= sizeof(buffer->bytes));
	memcpy(buffer->bytes + buffer->length, bytes, length);
	buffer->length += length;
}

static void put_16(struct buffer *buffer, unsigned int value)
{
	const uint16_t number = htons((uint16_t)value);

	put(buffer, &number, sizeof(number));
}

static void put_32(struct buffer *buffer, uint32_t value)
{
	put_16(buffer, value >> 16);
	put_16(buffer, value & 0xffff);
}

/* A name as text; "@12" at its end points to offset 12. */
static void put_name(struct buffer *buffer, const char *name)
{
	while (*name && *name != '@') {
		const size_t label = strcspn(name, ".@");
		const uint8_t length = (uint8_t)label;

		put(buffer, &length, 1);
		put(buffer, name, label);
		name += label;
		name += *name == '.';
	}
	if (*name == '@')
		put_16(buffer, 0xc000 | (unsigned int)strtoul(name + 1, NULL, 10));
	else
		put(buffer, "", 1);
}

static struct buffer message(unsigned int flags, const char *name, unsigned int type,
			     unsigned int answers)
{
	struct buffer buffer = {.length = 0};

	put_16(&buffer, 0x1234);
	put_16(&buffer, flags);
	put_16(&buffer, 1);
	put_16(&buffer, answers);
	put_32(&buffer, 0);
	put_name(&buffer, name);
	put_16(&buffer, type);
	put_16(&buffer, IN);
	return buffer;
}

/* Where the record's data begin; seal() has to follow. */
static size_t put_record(struct buffer *buffer, const char *owner, unsigned int type, uint32_t ttl)
{
	put_name(buffer, owner);
	put_16(buffer, type);
	put_16(buffer, IN);
	put_32(buffer, ttl);
	put_16(buffer, 0);
	return buffer->length;
}

static void seal(struct buffer *buffer, size_t data)
{
	buffer->bytes[data - 2] = (uint8_t)((buffer->length - data) >> 8);
	buffer->bytes[data - 1] = (uint8_t)(buffer->length - data);
}

/* Return: where its target is. */
static size_t put_cname(struct buffer *buffer, const char *owner, const char *target, uint32_t ttl)
{
	const size_t data = put_record(buffer, owner, DNS_TYPE_CNAME, ttl);

	put_name(buffer, target);
	seal(buffer, data);
	return data;
}

static void put_a(struct buffer *buffer, const char *owner, uint32_t address, uint32_t ttl)
{
	const size_t data = put_record(buffer, owner, DNS_TYPE_A, ttl);

	put_32(buffer, address);
	seal(buffer, data);
}

static void put_opt(struct buffer *buffer, const void *options, size_t length)
{
	buffer->bytes[11] = 1;
	put_name(buffer, "");
	put_16(buffer, DNS_TYPE_OPT);
	put_16(buffer, 4096);
	put_32(buffer, 0x8000);
	put_16(buffer, (unsigned int)length);
	put(buffer, options, length);
}

static int query(const struct buffer *buffer, struct dns_question *question)
{
	uint8_t *exact = malloc(buffer->length ? buffer->length : 1);
	int err;

	assert_non_null(exact);
	memcpy(exact, buffer->bytes, buffer->length);
	err = dns_query_read(exact, buffer->length, question);
	free(exact);
	return err;
}

static int answer(const struct buffer *buffer, struct dns_answer *ret_answer)
{
	uint8_t *exact = malloc(buffer->length ? buffer->length : 1);
	int err;

	assert_non_null(exact);
	memcpy(exact, buffer->bytes, buffer->length);
	err = dns_answer_read(exact, buffer->length, ret_answer);
	free(exact);
	return err;
}

/* ---- queries ---- */

static void a_query_is_read(void **state)
{
	struct buffer buffer = message(RD, "wWw.Example.ORG", DNS_TYPE_AAAA, 0);
	struct dns_question question;

	(void)state;
	assert_int_equal(query(&buffer, &question), 0);
	assert_string_equal(question.name.text, "www.example.org");
	assert_int_equal(question.name.length, 15);
	assert_int_equal(question.type, DNS_TYPE_AAAA);
	assert_int_equal(question.id, 0x1234);
	assert_int_equal(question.end, buffer.length);
	put_opt(&buffer, "\0\3\0\0\0\12\0\10cookie--", 16);
	assert_int_equal(query(&buffer, &question), 0);
	buffer = message(RD, "", 2, 0);
	assert_int_equal(query(&buffer, &question), 0);
	assert_int_equal(question.name.length, 0);
	buffer = message(0x0130, "_443._https.a/b", DNS_TYPE_HTTPS, 0);
	assert_int_equal(query(&buffer, &question), 0);
	assert_string_equal(question.name.text, "_443._https.a/b");
}

static void every_cut_of_a_query_is_refused(void **state)
{
	struct buffer buffer = message(RD, "www.example.org", DNS_TYPE_A, 0);
	struct dns_question question;
	size_t whole;

	(void)state;
	put_opt(&buffer, "\0\12\0\10cookie--", 12);
	whole = buffer.length;
	for (buffer.length = 0; buffer.length < whole; buffer.length++)
		assert_int_equal(query(&buffer, &question), -EBADMSG);
	buffer.length = whole + 1;
	assert_int_equal(query(&buffer, &question), -EBADMSG);
	buffer.length = whole;
	assert_int_equal(query(&buffer, &question), 0);
}

static void what_is_no_query_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} wrong[] = {
		{2, 0x81}, {2, 0x09}, {2, 0x05}, {2, 0x03}, {3, 0x80}, {3, 0x40}, {3, 0x03},
		{4, 1},	   {5, 0},    {5, 2},	 {6, 1},    {7, 1},    {8, 1},	  {9, 1},
		{10, 1},   {11, 1},   {11, 2},	 {12, 64},  {12, 128}, {12, 192}, {13, 0},
		{13, ' '}, {13, '.'}, {13, 127}, {13, 200}, {20, 3},   {21, 2},	  {20, 0xff},
	};
	struct dns_question question = {.id = 7};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct buffer buffer = message(RD, "a.bc", DNS_TYPE_A, 0);

		buffer.bytes[wrong[i].at] = wrong[i].value;
		assert_int_equal(query(&buffer, &question), -EBADMSG);
		assert_int_equal(question.id, 7);
	}
}

static void what_is_no_plain_opt_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} wrong[] = {
		{0, 1},	 /* not the root's */
		{2, 46}, /* another type */
		{5, 1},	 /* a response code */
		{6, 1},	 /* a version */
		{10, 5}, /* a byte too many */
		{10, 3}, {14, 1},
	};
	struct dns_question question;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct buffer buffer = message(RD, "a.bc", DNS_TYPE_A, 0);
		const size_t opt = buffer.length;

		put_opt(&buffer, "\0\3\0\0", 4);
		assert_int_equal(query(&buffer, &question), 0);
		buffer.bytes[opt + wrong[i].at] = wrong[i].value;
		assert_int_equal(query(&buffer, &question), -EBADMSG);
	}
}

static void names_have_a_longest(void **state)
{
	struct buffer buffer = message(RD, "", DNS_TYPE_A, 0);
	struct dns_question question;
	char name[256];

	(void)state;
	for (int i = 0; i < 255; i++)
		name[i] = (char)(i % 64 == 63 ? '.' : 'a');
	name[253] = '\0';
	buffer = message(RD, name, DNS_TYPE_A, 0);
	assert_int_equal(query(&buffer, &question), 0);
	assert_string_equal(question.name.text, name);
	name[253] = 'a';
	name[254] = '\0';
	buffer = message(RD, name, DNS_TYPE_A, 0);
	assert_int_equal(query(&buffer, &question), -EBADMSG);
}

/* ---- refusing ---- */

static void a_refusal_is_the_answer_to_its_query(void **state)
{
	struct buffer buffer = message(0x0130, "wWw.Example.ORG", DNS_TYPE_A, 0), sent;
	struct dns_question question;
	struct dns_answer read;

	(void)state;
	assert_int_equal(query(&buffer, &question), 0);
	sent = buffer;
	buffer.length =
		dns_query_refuse(buffer.bytes, buffer.length, &question, DNS_RCODE_NXDOMAIN);
	assert_int_equal(buffer.length, sent.length);
	assert_memory_equal(buffer.bytes, sent.bytes, 2);
	assert_int_equal(buffer.bytes[2], 0x81);
	assert_int_equal(buffer.bytes[3], 0x93); /* RA, CD, NXDOMAIN */
	assert_memory_equal(buffer.bytes + 4, sent.bytes + 4, sent.length - 4);
	assert_int_equal(answer(&buffer, &read), 0);
	assert_int_equal(read.rcode, DNS_RCODE_NXDOMAIN);
	assert_int_equal(read.count, 0);
	sent.length = dns_query_refuse(sent.bytes, sent.length, &question, DNS_RCODE_REFUSED);
	assert_int_equal(sent.bytes[3] & 15, DNS_RCODE_REFUSED);
}

static void a_refusal_keeps_of_edns_what_clients_need(void **state)
{
	static const struct {
		const char *options;
		size_t length, kept, from;
	} cases[] = {
		{"", 0, 0, 0},
		{"\0\10\0\7\0\1\30\0\12\0\0", 11, 0, 0},		    /* client subnet */
		{"\0\12\0\10cookie--", 12, 0, 0},			    /* half a cookie */
		{"\0\3\0\0\0\12\0\20cookie--whole---\0\14\0\0", 28, 20, 4}, /* NSID, padding */
		{"\0\12\0\51aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeef", 45, 0, 0}, /* too long */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer buffer = message(RD, "a.bc", DNS_TYPE_A, 0);
		struct dns_question question;
		size_t length;
		const uint8_t *opt;

		put_opt(&buffer, cases[i].options, cases[i].length);
		assert_int_equal(query(&buffer, &question), 0);
		length = dns_query_refuse(buffer.bytes, buffer.length, &question,
					  DNS_RCODE_NXDOMAIN);
		assert_int_equal(length, question.end + 11 + cases[i].kept);
		opt = buffer.bytes + question.end;
		assert_memory_equal(opt, "\0\0\51\4\320\0\0\200\0\0", 10);
		assert_int_equal(opt[10], cases[i].kept);
		assert_memory_equal(opt + 11, cases[i].options + cases[i].from, cases[i].kept);
	}
}

/* ---- answers ---- */

static void assert_address(const struct dns_address *address, uint32_t wanted, uint32_t ttl)
{
	assert_int_equal(address->family, AF_INET);
	assert_int_equal(ntohl(address->address.words[0]), wanted);
	assert_int_equal(address->address.words[1] | address->address.words[2] |
				 address->address.words[3],
			 0);
	assert_int_equal(address->ttl, ttl);
}

static void the_chain_is_followed(void **state)
{
	struct buffer buffer = message(ANSWER, "www.a.bc", DNS_TYPE_A, 5);
	struct dns_answer read;
	char at[16];
	size_t target;

	(void)state;
	target = put_cname(&buffer, "@12", "Edge.cdn.example", 50);
	put_a(&buffer, "other.example", 0x0a000009, 5);
	snprintf(at, sizeof(at), "@%zu", target);
	put_cname(&buffer, at, "e1@18", 300); /* e1.bc */
	put_a(&buffer, "E1.BC", 0xc0000201, 60);
	put_a(&buffer, "e1@18", 0xc0000202, 40);
	assert_int_equal(answer(&buffer, &read), 0);
	assert_string_equal(read.question.name.text, "www.a.bc");
	assert_int_equal(read.links, 2);
	assert_int_equal(read.count, 2);
	assert_address(&read.addresses[0], 0xc0000201, 50);
	assert_address(&read.addresses[1], 0xc0000202, 40);
	assert_false(read.left_out);
}

static void the_chain_may_be_in_any_order(void **state)
{
	struct buffer buffer = message(ANSWER, "a", DNS_TYPE_A, 4);
	struct dns_answer read;

	(void)state;
	put_a(&buffer, "d", 0x01020304, 9);
	put_cname(&buffer, "c", "d", 9);
	put_cname(&buffer, "b", "c", 9);
	put_cname(&buffer, "a", "b", 9);
	assert_int_equal(answer(&buffer, &read), 0);
	assert_int_equal(read.links, 3);
	assert_int_equal(read.count, 1);
}

static void what_the_chain_does_not_lead_to_is_left(void **state)
{
	struct buffer buffer = message(ANSWER, "a", DNS_TYPE_A, 6);
	struct dns_answer read;
	size_t data;

	(void)state;
	put_cname(&buffer, "@12", "b", 9);
	put_cname(&buffer, "x", "y", 9);
	put_a(&buffer, "a", 1, 9); /* not the chain's end */
	put_a(&buffer, "y", 2, 9);
	data = put_record(&buffer, "b", DNS_TYPE_AAAA, 9); /* not asked for */
	put(&buffer, "0123456789abcdef", 16);
	seal(&buffer, data);
	put_a(&buffer, "b", 3, 9);
	buffer.bytes[buffer.length - 11] = 3; /* of another class */
	assert_int_equal(answer(&buffer, &read), 0);
	assert_int_equal(read.links, 1);
	assert_int_equal(read.count, 0);
}

static void circles_and_long_chains_end(void **state)
{
	struct buffer buffer = message(ANSWER, "a", DNS_TYPE_A, 3);
	struct dns_answer read;

	(void)state;
	put_cname(&buffer, "a", "b", 9);
	put_cname(&buffer, "b", "a", 9);
	put_a(&buffer, "a", 1, 9);
	assert_int_equal(answer(&buffer, &read), 0);
	assert_int_equal(read.links, 2);
	for (unsigned int links = 15; links <= 17; links++) {
		char owner[2] = "a", target[2] = "b";

		buffer = message(ANSWER, "a", DNS_TYPE_A, links + 1);
		for (unsigned int i = 0; i < links; i++, owner[0]++, target[0]++)
			put_cname(&buffer, owner, target, 9);
		put_a(&buffer, owner, 1, 9);
		assert_int_equal(answer(&buffer, &read), links > 16 ? -ELOOP : 0);
		assert_int_equal(read.count, links > 16 ? 0 : 1);
	}
}

static void ttls_are_those_of_rfc_2181(void **state)
{
	static const uint32_t cases[][2] = {{0, 0},	     {1, 1},
					    {60, 60},	     {0x7fffffff, 0x7fffffff},
					    {0x80000000, 0}, {UINT32_MAX, 0}};
	struct dns_answer read;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer buffer = message(ANSWER, "a", DNS_TYPE_A, 1);

		put_a(&buffer, "@12", 1, cases[i][0]);
		assert_int_equal(answer(&buffer, &read), 0);
		assert_address(&read.addresses[0], 1, cases[i][1]);
	}
}

static void hints_of_https_are_addresses(void **state)
{
	struct buffer buffer = message(ANSWER, "a", DNS_TYPE_HTTPS, 2);
	struct dns_answer read;
	size_t data = put_record(&buffer, "@12", DNS_TYPE_HTTPS, 30);

	(void)state;
	put(&buffer, "\0\1\0\0\1\0\3\2h3\0\4\0\10\1\2\3\4\5\6\7\10\0\6\0\20abcdefghijklmnop", 42);
	seal(&buffer, data);
	data = put_record(&buffer, "@12", DNS_TYPE_HTTPS, 30); /* an alias has no hints */
	put(&buffer, "\0\0\1b\0\0\4\0\4\1\2\3\4", 13);
	seal(&buffer, data);
	assert_int_equal(answer(&buffer, &read), 0);
	assert_int_equal(read.count, 3);
	assert_address(&read.addresses[0], 0x01020304, 30);
	assert_address(&read.addresses[1], 0x05060708, 30);
	assert_int_equal(read.addresses[2].family, AF_INET6);
	assert_memory_equal(read.addresses[2].address.bytes, "abcdefghijklmnop", 16);
}

static void malformed_hints_are_refused(void **state)
{
	static const struct {
		const char *data;
		size_t length;
	} cases[] = {
		{"\0\1", 2},
		{"\0\1\1b", 4},
		{"\0\1\0\0\4\0", 6},
		{"\0\1\0\0\4\0\0", 7},				/* no hint */
		{"\0\1\0\0\4\0\5\1\2\3\4\5", 12},		/* half a hint */
		{"\0\1\0\0\4\0\10\1\2\3\4", 11},		/* past its end */
		{"\0\1\0\0\6\0\4\1\2\3\4", 11},			/* half of IPv6 */
		{"\0\1\0\0\4\0\4\1\2\3\4\0\4\0\4\1\2\3\4", 19}, /* twice */
		{"\0\1\0\0\4\0\4\1\2\3\4\0\1\0\0", 15},		/* not in order */
	};
	struct dns_answer read;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer buffer = message(ANSWER, "a", DNS_TYPE_HTTPS, 1);
		const size_t data = put_record(&buffer, "@12", DNS_TYPE_HTTPS, 30);

		put(&buffer, cases[i].data, cases[i].length);
		seal(&buffer, data);
		assert_int_equal(answer(&buffer, &read), -EBADMSG);
		assert_int_equal(read.count, 0);
	}
}

static void more_than_the_limit_is_left_out(void **state)
{
	struct buffer buffer = message(ANSWER, "a", DNS_TYPE_A, 65);
	struct dns_answer read;

	(void)state;
	for (unsigned int i = 0; i < 65; i++)
		put_a(&buffer, "@12", i, 9);
	assert_int_equal(answer(&buffer, &read), 0);
	assert_int_equal(read.count, DNS_ADDRESSES_MAX);
	assert_true(read.left_out);
	buffer.bytes[7] = 64;
	assert_int_equal(answer(&buffer, &read), 0);
	assert_int_equal(read.count, 64);
	assert_false(read.left_out);
}

static void every_cut_and_every_bit_of_an_answer(void **state)
{
	struct buffer buffer = message(ANSWER, "www.a", DNS_TYPE_A, 2), broken;
	struct dns_answer read;

	(void)state;
	put_cname(&buffer, "@12", "b", 9);
	put_a(&buffer, "b", 1, 9);
	broken = buffer;
	for (broken.length = 0; broken.length < buffer.length; broken.length++)
		assert_int_equal(answer(&broken, &read), -EBADMSG);
	for (size_t bit = 0; bit < buffer.length * 8; bit++) {
		int err;

		broken = buffer;
		broken.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		err = answer(&broken, &read);
		assert_true(err == 0 || err == -EBADMSG);
	}
	buffer.bytes[2] |= 2; /* truncated */
	assert_int_equal(answer(&buffer, &read), 0);
	assert_true(read.truncated);
	assert_int_equal(read.count, 0);
	buffer.bytes[2] = 0x01; /* a query */
	assert_int_equal(answer(&buffer, &read), -EBADMSG);
}

/* ---- streams ---- */

static void messages_are_cut_out_of_a_stream(void **state)
{
	static const char *const wanted[] = {"first-------", "second-------", "third-------"};
	static const uint8_t bytes[] = "\0\14first-------\0\15second-------\0\14third-------";
	const size_t length = sizeof(bytes) - 1;

	(void)state;
	for (size_t piece = 1; piece <= length; piece++) {
		struct dns_stream stream = {.have = 0};
		size_t found = 0, used, got;
		const uint8_t *text;

		for (size_t at = 0; at < length; at += used) {
			const size_t rest = length - at < piece ? length - at : piece;
			const enum dns_stream_result result =
				dns_stream_feed(&stream, bytes + at, rest, &used);

			assert_true(used > 0 && used <= rest);
			if (result == DNS_STREAM_MORE) {
				assert_int_equal(used, rest);
				continue;
			}
			assert_int_equal(result, DNS_STREAM_MESSAGE);
			got = dns_stream_message(&stream, &text);
			assert_int_equal(got, strlen(wanted[found]));
			assert_memory_equal(text, wanted[found], got);
			found++;
		}
		assert_int_equal(found, 3);
	}
}

static void lengths_of_no_message_end_a_stream(void **state)
{
	static const struct {
		const char *prefix;
		enum dns_stream_result result;
	} cases[] = {{"\0\0", DNS_STREAM_BAD},	 {"\0\13", DNS_STREAM_BAD},
		     {"\0\14", DNS_STREAM_MORE}, {"\20\0", DNS_STREAM_MORE},
		     {"\20\1", DNS_STREAM_BAD},	 {"\377\377", DNS_STREAM_BAD}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dns_stream stream = {.have = 0};
		size_t used;

		assert_int_equal(
			dns_stream_feed(&stream, (const uint8_t *)cases[i].prefix, 2, &used),
			cases[i].result);
		assert_int_equal(dns_stream_feed(&stream, (const uint8_t *)"abc", 3, &used),
				 cases[i].result);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_query_is_read),
		cmocka_unit_test(every_cut_of_a_query_is_refused),
		cmocka_unit_test(what_is_no_query_is_refused),
		cmocka_unit_test(what_is_no_plain_opt_is_refused),
		cmocka_unit_test(names_have_a_longest),
		cmocka_unit_test(a_refusal_is_the_answer_to_its_query),
		cmocka_unit_test(a_refusal_keeps_of_edns_what_clients_need),
		cmocka_unit_test(the_chain_is_followed),
		cmocka_unit_test(the_chain_may_be_in_any_order),
		cmocka_unit_test(what_the_chain_does_not_lead_to_is_left),
		cmocka_unit_test(circles_and_long_chains_end),
		cmocka_unit_test(ttls_are_those_of_rfc_2181),
		cmocka_unit_test(hints_of_https_are_addresses),
		cmocka_unit_test(malformed_hints_are_refused),
		cmocka_unit_test(more_than_the_limit_is_left_out),
		cmocka_unit_test(every_cut_and_every_bit_of_an_answer),
		cmocka_unit_test(messages_are_cut_out_of_a_stream),
		cmocka_unit_test(lengths_of_no_message_end_a_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
