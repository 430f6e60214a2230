// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QUIC: the keys of the RFCs' examples, hellos in any packets, frames and order, and what is not to
 * pass. Datagrams are read from copies of their exact size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/quic.h"
#include "quic_fixture.h"

static const struct quic_id id = {(const uint8_t *)"\203\224\310\360\76\121\127\10", 8};
static const struct quic_id other = {(const uint8_t *)"another!", 8};

static uint8_t scratch[QUIC_PACKET_BYTES_MAX], crypto[QUIC_CRYPTO_MAX];
static struct tls_hello hello;

static void from_hex(struct hello_bytes *out, const char *hex)
{
	for (; hex[0]; hex += 2) {
		const char pair[3] = {hex[0], hex[1], '\0'};
		const uint8_t byte = (uint8_t)strtoul(pair, NULL, 16);

		hello_put(out, &byte, 1);
	}
}

static void assert_hex(const uint8_t *bytes, const char *hex)
{
	struct hello_bytes wanted = {.length = 0};

	from_hex(&wanted, hex);
	assert_memory_equal(bytes, wanted.bytes, wanted.length);
}

static enum quic_result feed(struct quic_reader *reader, const struct hello_bytes *datagram)
{
	uint8_t *exact = malloc(datagram->length ? datagram->length : 1);
	enum quic_result result;

	assert_non_null(exact);
	memcpy(exact, datagram->bytes, datagram->length);
	result = quic_reader_feed(reader, exact, datagram->length, scratch, &hello);
	free(exact);
	return result;
}

static struct hello_bytes datagram_of(const struct hello_bytes *frames, uint32_t number)
{
	struct hello_bytes datagram = {.length = 0};

	quic_put_initial(&datagram, QUIC_VERSION_1, &id, &id, number, frames);
	return datagram;
}

/* A datagram with a part of a hello. */
static struct hello_bytes part_of(const struct hello_bytes *whole, size_t from, size_t upto)
{
	struct hello_bytes frames = {.length = 0};

	quic_put_crypto(&frames, whole, from, upto);
	quic_pad(&frames, 1162);
	return datagram_of(&frames, 2);
}

/* ---- the RFCs' examples ---- */

static void keys_are_those_of_the_rfcs(void **state)
{
	struct quic_keys keys;

	(void)state;
	quic_keys_derive(&keys, QUIC_VERSION_1, &id);
	assert_hex(keys.key, "1f369613dd76d5467730efcbe3b1a22d");
	assert_hex(keys.iv, "fa044b2f42a3fd3b46fb255c");
	assert_hex(keys.header, "9f50449e04a0e810283a1e9933adedd2");
	quic_keys_derive(&keys, QUIC_VERSION_2, &id);
	assert_hex(keys.key, "8b1a0bc121284290a29e0971b5cd045d");
	assert_hex(keys.iv, "91f73e2351d8fa91660e909f");
	assert_hex(keys.header, "45b95e15235d6f45a6b19cbcb0294ba9");
}

/* RFC 9001, A.2: what the fixture writes is what the RFC has, so it may judge the rest. */
static void the_example_of_the_rfc_is_read(void **state)
{
	struct hello_bytes frames = {.length = 0}, datagram;
	struct quic_reader reader;

	(void)state;
	from_hex(&frames, "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47"
			  "f06a2b69484c"
			  "00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100"
			  "000a00080006"
			  "001d0017001800100007000504616c706e000500050100000000003300260024001d0020"
			  "9370b2c9caa4"
			  "7fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d00"
			  "10000e040305"
			  "0306030203080408050806002d00020101001c00024001003900320408ffffffffffffff"
			  "ff05048000ff"
			  "ff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff");
	assert_int_equal(frames.length, 245);
	quic_pad(&frames, 1162);
	datagram = datagram_of(&frames, 2);
	assert_int_equal(datagram.length, 1200);
	assert_hex(datagram.bytes, "c000000001088394c8f03e5157080000449e7b9aec34"
				   "d1b1c98dd7689fb8ec11d242b123dc9b");
	quic_reader_init(&reader, crypto);
	assert_int_equal(feed(&reader, &datagram), QUIC_HELLO);
	assert_string_equal(hello.name.text, "example.com");
	assert_true(hello.tls13);
	assert_int_equal(hello.alpn_length, 5);
}

/* ---- hellos in pieces ---- */

static void a_hello_is_whole_with_its_last_piece(void **state)
{
	const struct hello_bytes whole = hello_make("www.example.org", 1951);
	static const size_t cuts[] = {1, 3, 4, 81, 500, 1000};
	struct quic_reader reader;

	(void)state;
	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		const size_t middle = cuts[i] + 900;
		const struct hello_bytes parts[3] = {part_of(&whole, 0, cuts[i]),
						     part_of(&whole, cuts[i], middle),
						     part_of(&whole, middle, whole.length)};

		for (int order = 0; order < 6; order++) {
			static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
							 {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

			quic_reader_init(&reader, crypto);
			assert_int_equal(feed(&reader, &parts[orders[order][0]]), QUIC_MORE);
			assert_int_equal(feed(&reader, &parts[orders[order][0]]), QUIC_MORE);
			assert_int_equal(feed(&reader, &parts[orders[order][1]]), QUIC_MORE);
			assert_int_equal(feed(&reader, &parts[orders[order][2]]), QUIC_HELLO);
			assert_string_equal(hello.name.text, "www.example.org");
			assert_int_equal(feed(&reader, &parts[1]), QUIC_MORE);
		}
	}
}

/* As Chromium does it: many frames, out of order, with PING and PADDING between. */
static void frames_may_be_scattered(void **state)
{
	const struct hello_bytes whole = hello_make("www.example.org", 900);
	struct hello_bytes frames = {.length = 0}, datagram;
	struct quic_reader reader;

	(void)state;
	hello_put(&frames, "\2\5\0\1\0\1\2\3\5\0\0\0\1\2\3", 15); /* ACKs */
	for (size_t i = 0; i < 30; i++) {
		const size_t piece = i * 17 % 30;

		quic_put_crypto(&frames, &whole, piece * 30, piece * 30 + 30);
		hello_put(&frames, "\1\0\0", 3);
	}
	datagram = datagram_of(&frames, 0);
	quic_reader_init(&reader, crypto);
	assert_int_equal(feed(&reader, &datagram), QUIC_HELLO);
	assert_int_equal(reader.range_count, 1);
}

static void a_byte_has_one_value(void **state)
{
	const struct hello_bytes good = hello_make("good.example.org", 1500),
				 evil = hello_make("evil.example.org", 1500);
	struct hello_bytes datagram = part_of(&good, 0, 700);
	struct quic_reader reader;

	(void)state;
	quic_reader_init(&reader, crypto);
	assert_int_equal(feed(&reader, &datagram), QUIC_MORE);
	datagram = part_of(&evil, 0, 700);
	assert_int_equal(feed(&reader, &datagram), QUIC_NOT);
	assert_int_equal(reader.why, QUIC_WHY_CONFLICT);
	quic_reader_init(&reader, crypto);
	datagram = part_of(&good, 0, 700);
	assert_int_equal(feed(&reader, &datagram), QUIC_MORE);
	datagram = part_of(&evil, 600, 1500); /* the same from there on */
	assert_int_equal(feed(&reader, &datagram), QUIC_HELLO);
	assert_string_equal(hello.name.text, "good.example.org");
	datagram = part_of(&evil, 0, 700); /* the invariant outlives the hello */
	assert_int_equal(feed(&reader, &datagram), QUIC_NOT);
}

static void a_second_hello_is_read(void **state)
{
	const struct hello_bytes first = hello_make("first.example", 600),
				 second = hello_make("second.example", 700);
	struct hello_bytes both = first, datagram;
	struct quic_reader reader;

	(void)state;
	hello_put(&both, second.bytes, second.length);
	quic_reader_init(&reader, crypto);
	datagram = part_of(&both, 0, 600);
	assert_int_equal(feed(&reader, &datagram), QUIC_HELLO);
	assert_string_equal(hello.name.text, "first.example");
	datagram = part_of(&both, 600, 1299);
	assert_int_equal(feed(&reader, &datagram), QUIC_MORE);
	datagram = part_of(&both, 1299, 1300);
	assert_int_equal(feed(&reader, &datagram), QUIC_HELLO);
	assert_string_equal(hello.name.text, "second.example");
}

/* ---- connection IDs, versions ---- */

static void keys_stay_those_of_the_first_destination(void **state)
{
	const struct hello_bytes whole = hello_make("www.example.org", 1500);
	struct hello_bytes frames = {.length = 0}, datagram = part_of(&whole, 0, 700);
	struct quic_reader reader;

	(void)state;
	quic_reader_init(&reader, crypto);
	assert_int_equal(feed(&reader, &datagram), QUIC_MORE);
	quic_put_crypto(&frames, &whole, 700, 1500);
	datagram.length = 0;
	quic_put_initial(&datagram, QUIC_VERSION_1, &other, &other, 3, &frames);
	assert_int_equal(feed(&reader, &datagram), QUIC_DROP); /* of another connection */
	datagram.length = 0;
	quic_put_initial(&datagram, QUIC_VERSION_1, &id, &other, 3, &frames);
	assert_int_equal(feed(&reader, &datagram), QUIC_HELLO); /* to the server's ID */
}

static void a_retry_makes_new_keys(void **state)
{
	const struct hello_bytes whole = hello_make("www.example.org", 1500);
	struct hello_bytes frames = {.length = 0}, datagram = part_of(&whole, 0, 700);
	struct quic_reader reader;

	(void)state;
	quic_reader_init(&reader, crypto);
	assert_int_equal(feed(&reader, &datagram), QUIC_MORE);
	quic_reader_retry(&reader, &other);
	assert_int_equal(feed(&reader, &datagram), QUIC_DROP);
	quic_put_crypto(&frames, &whole, 0, 1500);
	datagram.length = 0;
	quic_put_initial(&datagram, QUIC_VERSION_1, &other, &other, 3, &frames);
	assert_int_equal(feed(&reader, &datagram), QUIC_HELLO);
}

static void version_2_is_read_and_may_follow_version_1(void **state)
{
	const struct hello_bytes whole = hello_make("www.example.org", 1500);
	struct hello_bytes frames = {.length = 0}, datagram = {.length = 0};
	struct quic_reader reader;

	(void)state;
	quic_put_crypto(&frames, &whole, 0, 1000);
	quic_put_initial(&datagram, QUIC_VERSION_2, &id, &id, 0, &frames);
	quic_reader_init(&reader, crypto);
	assert_int_equal(feed(&reader, &datagram), QUIC_MORE);
	quic_reader_init(&reader, crypto);
	datagram = part_of(&whole, 900, 1500);
	assert_int_equal(feed(&reader, &datagram), QUIC_MORE);
	datagram.length = 0;
	quic_put_initial(&datagram, QUIC_VERSION_2, &id, &other, 3, &frames);
	assert_int_equal(feed(&reader, &datagram), QUIC_HELLO);
}

static void numbers_of_packets_are_completed(void **state)
{
	const struct hello_bytes whole = hello_make("www.example.org", 1500);
	static const uint32_t numbers[] = {0, 1, 255, 256, 65536, 0x7ffffffe, 5, 0x80000001};
	struct quic_reader reader;

	(void)state;
	quic_reader_init(&reader, crypto);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct hello_bytes frames = {.length = 0}, datagram;

		quic_put_crypto(&frames, &whole, 0, 1000);
		datagram = datagram_of(&frames, numbers[i]);
		assert_int_equal(feed(&reader, &datagram), QUIC_MORE);
	}
	assert_true(reader.largest == 0x80000001);
}

/* ---- what does not pass ---- */

static void no_changed_bit_is_authentic(void **state)
{
	const struct hello_bytes whole = hello_make("www.example.org", 300);
	struct hello_bytes frames = {.length = 0}, datagram, broken;
	struct quic_reader reader;

	(void)state;
	quic_put_crypto(&frames, &whole, 0, whole.length);
	datagram = datagram_of(&frames, 0);
	for (size_t bit = 0; bit < datagram.length * 8; bit += bit < 300 ? 1 : 7) {
		enum quic_result result;

		broken = datagram;
		broken.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		quic_reader_init(&reader, crypto);
		result = feed(&reader, &broken);
		assert_true(result == QUIC_DROP || result == QUIC_OTHER || result == QUIC_NOT);
		if (result == QUIC_NOT)
			assert_true(bit < 40 && (reader.why == QUIC_WHY_HEADER ||
						 reader.why == QUIC_WHY_VERSION));
		assert_int_equal(reader.range_count, 0);
	}
	for (broken = datagram; broken.length > 5; broken.length--) {
		if (broken.length == datagram.length)
			continue;
		quic_reader_init(&reader, crypto);
		assert_int_equal(feed(&reader, &broken), QUIC_DROP);
	}
}

static void assert_frames(const void *bytes, size_t length, enum quic_why why)
{
	struct hello_bytes frames = {.length = 0}, datagram;
	struct quic_reader reader;

	hello_put(&frames, bytes, length);
	quic_reader_init(&reader, crypto);
	datagram = datagram_of(&frames, 0);
	assert_int_equal(feed(&reader, &datagram), why ? QUIC_NOT : QUIC_MORE);
	assert_int_equal(reader.why, why);
}

static void frames_that_lie_are_refused(void **state)
{
	(void)state;
	assert_frames("\0\0\0\1", 4, QUIC_WHY_NONE);
	assert_frames("\34\0\0\3bye", 7, QUIC_WHY_NONE);
	assert_frames("\2\5\0\0\0\0", 6, QUIC_WHY_NONE);
	assert_frames("", 0, QUIC_WHY_FRAME);
	assert_frames("\0\0\0\4", 4, QUIC_WHY_FRAME);  /* RESET_STREAM */
	assert_frames("\0\0\0\10", 4, QUIC_WHY_FRAME); /* STREAM */
	assert_frames("\0\0\0\35", 4, QUIC_WHY_FRAME); /* an application's close */
	assert_frames("\2\5\0\1\0\0", 6, QUIC_WHY_FRAME);
	assert_frames("\3\5\0\0\0\0\0", 7, QUIC_WHY_FRAME);
	assert_frames("\2\5\0\377\377\377\377\377\377\377\377\0\0", 13, QUIC_WHY_FRAME);
	assert_frames("\34\0\0\4bye", 7, QUIC_WHY_FRAME);
	assert_frames("\6\0\4abc", 6, QUIC_WHY_FRAME);
	assert_frames("\0\0\6\0", 4, QUIC_WHY_FRAME);
	assert_frames("\6\0\377\377\377\377\377\377\377\377", 10, QUIC_WHY_FRAME);
	assert_frames("\6\200\0\100\0\1a", 7, QUIC_WHY_LENGTH);
	assert_frames("\6\200\0\77\377\2ab", 8, QUIC_WHY_LENGTH);
	assert_frames("\6\0\4\1\0\100\0", 7, QUIC_WHY_LENGTH); /* a hello of 16388 bytes */
	assert_frames("\6\0\4\1\0\0\0", 7, QUIC_WHY_HELLO);
}

static void there_are_limits(void **state)
{
	const struct hello_bytes whole = hello_make("www.example.org", 2000);
	struct hello_bytes frames = {.length = 0}, datagram = part_of(&whole, 0, 100);
	struct quic_reader reader;

	(void)state;
	quic_reader_init(&reader, crypto);
	for (int i = 0; i < QUIC_DATAGRAMS_MAX; i++)
		assert_int_equal(feed(&reader, &datagram), QUIC_MORE);
	assert_int_equal(feed(&reader, &datagram), QUIC_NOT);
	assert_int_equal(reader.why, QUIC_WHY_DATAGRAMS);
	for (size_t i = 0; i <= QUIC_RANGES_MAX; i++)
		quic_put_crypto(&frames, &whole, 2 * i, 2 * i + 1);
	quic_reader_init(&reader, crypto);
	datagram = datagram_of(&frames, 0);
	assert_int_equal(feed(&reader, &datagram), QUIC_NOT);
	assert_int_equal(reader.why, QUIC_WHY_LENGTH);
}

static void assert_first(const void *bytes, size_t length, enum quic_result result,
			 enum quic_why why)
{
	struct hello_bytes datagram = {.length = 0};
	struct quic_reader reader;

	hello_put(&datagram, bytes, length);
	quic_reader_init(&reader, crypto);
	assert_int_equal(feed(&reader, &datagram), result);
	assert_int_equal(reader.why, why);
}

static void other_datagrams_are_told(void **state)
{
	const struct hello_bytes whole = hello_make("www.example.org", 300);
	struct hello_bytes datagram = part_of(&whole, 0, 200), tail;
	struct quic_reader reader;

	(void)state;
	assert_first("\26\376\375\0\0", 5, QUIC_NOT, QUIC_WHY_HEADER); /* DTLS */
	assert_first("\100abcdefgh", 9, QUIC_NOT, QUIC_WHY_HEADER);
	assert_first("\200\0\0", 3, QUIC_NOT, QUIC_WHY_HEADER);
	assert_first("\300\0\0\0\2\0\0", 7, QUIC_NOT, QUIC_WHY_VERSION);
	assert_first("\200\0\0\0\1\0\0", 7, QUIC_NOT, QUIC_WHY_VERSION); /* no fixed bit */
	assert_first("\300\0\0\0\0\0\0", 7, QUIC_NOT, QUIC_WHY_VERSION);
	assert_first("\360\0\0\0\1\0\0", 7, QUIC_DROP, QUIC_WHY_NONE); /* Retry */
	assert_first("\300\0\0\0\1\25", 6, QUIC_DROP, QUIC_WHY_NONE);
	assert_first("\320\0\0\0\1\1a\0\4abcd", 13, QUIC_OTHER, QUIC_WHY_NONE); /* early data */
	quic_reader_init(&reader, crypto);
	tail = datagram;
	hello_put(&tail, "\320\0\0\0\1\10\203\224\310\360\76\121\127\10\0\4abcd", 20);
	assert_int_equal(feed(&reader, &tail), QUIC_MORE);
	tail = datagram;
	hello_put(&tail, "\320\0\0\0\1\10another!\0\4abcd", 20); /* for somebody else */
	assert_int_equal(feed(&reader, &tail), QUIC_DROP);
	tail = datagram;
	hello_put(&tail, "\300\0\0\0\2\10\203\224\310\360\76\121\127\10\0\4abcd", 20);
	assert_int_equal(feed(&reader, &tail), QUIC_DROP);
	tail.length = 0;
	hello_put(&tail, "\100abcdefgh", 9);
	assert_int_equal(feed(&reader, &tail), QUIC_OTHER);
}

static void the_servers_packets_are_told(void **state)
{
	struct hello_bytes datagram = {.length = 0};
	struct quic_id source;

	(void)state;
	hello_put(&datagram, "\300\0\0\0\1\1a\2sv\0\4abcd", 16);
	hello_put(&datagram, "\340\0\0\0\1\1a\2sv\4abcd", 15);
	hello_put(&datagram, "\100abc", 4);
	assert_int_equal(quic_server_seen(datagram.bytes, datagram.length, &source),
			 QUIC_SEEN(QUIC_PACKET_INITIAL) | QUIC_SEEN(QUIC_PACKET_HANDSHAKE) |
				 QUIC_SEEN(QUIC_PACKET_SHORT));
	assert_int_equal(source.length, 2);
	assert_memory_equal(source.bytes, "sv", 2);
	assert_int_equal(
		quic_server_seen((const uint8_t *)"\360\0\0\0\1\1a\3new-token", 19, &source),
		QUIC_SEEN(QUIC_PACKET_RETRY));
	assert_memory_equal(source.bytes, "new", 3);
	assert_int_equal(
		quic_server_seen((const uint8_t *)"\300\153\63\103\317\1a\0xxx", 11, &source),
		QUIC_SEEN(QUIC_PACKET_RETRY)); /* version 2 */
	assert_int_equal(quic_server_seen((const uint8_t *)"\300\0\0\0\0\1a\0xxxx", 12, &source),
			 QUIC_SEEN(QUIC_PACKET_VERSIONS));
	assert_int_equal(
		quic_server_seen((const uint8_t *)"\340\0\0\0\1\1a\2sv\5abcd", 15, &source), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_those_of_the_rfcs),
		cmocka_unit_test(the_example_of_the_rfc_is_read),
		cmocka_unit_test(a_hello_is_whole_with_its_last_piece),
		cmocka_unit_test(frames_may_be_scattered),
		cmocka_unit_test(a_byte_has_one_value),
		cmocka_unit_test(a_second_hello_is_read),
		cmocka_unit_test(keys_stay_those_of_the_first_destination),
		cmocka_unit_test(a_retry_makes_new_keys),
		cmocka_unit_test(version_2_is_read_and_may_follow_version_1),
		cmocka_unit_test(numbers_of_packets_are_completed),
		cmocka_unit_test(no_changed_bit_is_authentic),
		cmocka_unit_test(frames_that_lie_are_refused),
		cmocka_unit_test(there_are_limits),
		cmocka_unit_test(other_datagrams_are_told),
		cmocka_unit_test(the_servers_packets_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
