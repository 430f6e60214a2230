// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ClientHellos in records and pieces, what is none, and what the server says first. Everything is
 * read from copies of its exact size, so that the sanitizers see a read of one byte too many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hello_fixture.h"
#include "proto/tls.h"
#include "proto/tls_server.h"

#define NAME_AT (HELLO_EXTENSIONS + 4 + 9) /* in what hello_make() makes */

static uint8_t scratch[TLS_STREAM_MAX];

static enum tls_result feed(struct tls_reader *reader, const uint8_t *bytes, size_t length,
			    struct tls_hello *hello)
{
	uint8_t *exact = malloc(length ? length : 1);
	enum tls_result result;

	assert_non_null(exact);
	memcpy(exact, bytes, length);
	result = tls_reader_feed(reader, exact, length, scratch, hello);
	free(exact);
	return result;
}

static enum tls_result feed_whole(const struct hello_bytes *stream, struct tls_hello *hello,
				  enum tls_why *ret_why)
{
	struct tls_reader reader;
	enum tls_result result;

	tls_reader_init(&reader, false);
	result = feed(&reader, stream->bytes, stream->length, hello);
	*ret_why = (enum tls_why)reader.why;
	return result;
}

static void assert_hello(const struct hello_bytes *stream, const char *name)
{
	struct tls_hello hello;
	enum tls_why why;

	assert_int_equal(feed_whole(stream, &hello, &why), TLS_HELLO);
	assert_int_equal(why, TLS_WHY_NONE);
	assert_string_equal(hello.name.text, name);
	assert_int_equal(hello.end, stream->length);
}

static void assert_not(const struct hello_bytes *hello, enum tls_why wanted)
{
	const struct hello_bytes stream = hello_records(hello, 16384);
	struct tls_hello read;
	enum tls_why why;

	assert_int_equal(feed_whole(&stream, &read, &why), TLS_NOT);
	assert_int_equal(why, wanted);
}

static void a_hello_is_read(void **state)
{
	const struct hello_bytes hello = hello_make("WWW.Example.org.", 0);
	const struct hello_bytes stream = hello_records(&hello, 16384);
	const uint8_t *protocol;
	struct tls_hello read;
	uint8_t exact[600];
	size_t at = 0;

	(void)state;
	assert_hello(&stream, "www.example.org");
	assert_true(hello.length <= sizeof(exact));
	memcpy(exact, hello.bytes, hello.length);
	assert_int_equal(tls_hello_read(exact, hello.length, &read), TLS_WHY_NONE);
	assert_true(read.tls13);
	assert_false(read.ech);
	assert_int_equal(tls_alpn_next(&read, &at, &protocol), 2);
	assert_memory_equal(protocol, "h2", 2);
	assert_int_equal(tls_alpn_next(&read, &at, &protocol), 8);
	assert_memory_equal(protocol, "http/1.1", 8);
	assert_int_equal(tls_alpn_next(&read, &at, &protocol), 0);
	assert_int_equal(tls_handshake_length(hello.bytes), hello.length);
}

/* Sizes of real clients; each cut at every place, and by pieces. */
static void a_hello_is_whole_at_its_last_byte_and_not_before(void **state)
{
	static const size_t sizes[] = {512, 1584, 2014, 16379};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct hello_bytes hello = hello_make("www.example.org", sizes[i]);
		const struct hello_bytes stream = hello_records(&hello, 16384);
		const size_t step = sizes[i] > 10000 ? 331 : 1;
		struct tls_reader reader;
		struct tls_hello read;

		assert_int_equal(hello.length, sizes[i]);
		for (size_t cut = 0; cut < stream.length; cut += step) {
			tls_reader_init(&reader, false);
			assert_int_equal(feed(&reader, stream.bytes, cut, &read), TLS_MORE);
			assert_int_equal(feed(&reader, stream.bytes, stream.length, &read),
					 TLS_HELLO);
			assert_string_equal(read.name.text, "www.example.org");
		}
		tls_reader_init(&reader, false);
		for (size_t have = 0; have < stream.length; have++)
			assert_int_equal(
				tls_reader_feed(&reader, stream.bytes, have, scratch, &read),
				TLS_MORE);
		assert_int_equal(
			tls_reader_feed(&reader, stream.bytes, stream.length, scratch, &read),
			TLS_HELLO);
	}
}

static void a_hello_may_be_in_any_records(void **state)
{
	const struct hello_bytes hello = hello_make("www.example.org", 517);

	(void)state;
	for (size_t size = 1; size <= hello.length; size++) {
		const struct hello_bytes stream = hello_records(&hello, size);
		struct tls_reader reader;
		struct tls_hello read;

		assert_hello(&stream, "www.example.org");
		tls_reader_init(&reader, false);
		for (size_t have = 0; have < stream.length; have += 7)
			assert_int_equal(feed(&reader, stream.bytes, have, &read), TLS_MORE);
		assert_int_equal(feed(&reader, stream.bytes, stream.length, &read), TLS_HELLO);
		assert_string_equal(read.name.text, "www.example.org");
		assert_int_equal(read.end, stream.length);
	}
}

static void what_follows_a_hello_is_no_part_of_it(void **state)
{
	const struct hello_bytes hello = hello_make("a.b", 0);
	struct hello_bytes stream = hello_records(&hello, 50);
	struct tls_hello read;
	enum tls_why why;
	const size_t end = stream.length;

	(void)state;
	hello_put(&stream, "\24\3\3\0\1\1\27\3\3\0\1x", 12); /* early data */
	assert_int_equal(feed_whole(&stream, &read, &why), TLS_HELLO);
	assert_int_equal(read.end, end);
}

static void a_hello_without_extensions_has_no_name(void **state)
{
	struct hello_bytes hello = hello_begin(), stream;

	(void)state;
	hello_end(&hello);
	stream = hello_records(&hello, 16384);
	assert_hello(&stream, "");
	hello.length -= 2;
	hello.bytes[3] = (uint8_t)(hello.length - 4);
	stream = hello_records(&hello, 16384);
	assert_hello(&stream, "");
}

static void other_beginnings_are_not_tls(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
		enum tls_why why;
	} cases[] = {
		{"G", 1, TLS_WHY_RECORD},
		{"\27", 1, TLS_WHY_RECORD},
		{"\24", 1, TLS_WHY_RECORD},
		{"\26\2", 2, TLS_WHY_RECORD},
		{"\26\3\1\0\0", 5, TLS_WHY_RECORD},
		{"\26\3\1\100\1", 5, TLS_WHY_RECORD},
		{"\26\3\1\100\0", 5, TLS_WHY_LENGTH},
		{"\26\3\1\0\4\2\0\0\1", 9, TLS_WHY_GRAMMAR}, /* a ServerHello */
		{"\26\3\1\0\4\1\0\100\0", 9, TLS_WHY_LENGTH},
		{"\26\3\1\0\4\1\377\377\377", 9, TLS_WHY_LENGTH},
		{"\26\3\1\0\5\1\0\0\0\0", 10, TLS_WHY_GRAMMAR},
		{"\26\3\1\0\1\1\24", 7, TLS_WHY_RECORD}, /* amid a hello */
		{"\26\3\1\0\1\1\26\3\1\0\0", 11, TLS_WHY_RECORD},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hello_bytes stream = {.length = 0};
		struct tls_hello read;
		enum tls_why why;

		hello_put(&stream, cases[i].bytes, cases[i].length);
		assert_int_equal(feed_whole(&stream, &read, &why), TLS_NOT);
		assert_int_equal(why, cases[i].why);
		stream.length--;
		assert_int_equal(feed_whole(&stream, &read, &why), TLS_MORE);
	}
}

static void names_that_are_no_hosts_are_refused(void **state)
{
	static const struct {
		const char *name;
		size_t length;
	} cases[] = {{"10.0.0.1", 8}, {"fe80::1%eth0", 12},  {"a%b", 3},
		     {"a.b\0", 4},    {"good.b\0.evil", 12}, {"a b", 3},
		     {".", 1},	      {"a..b", 4},	     {"b\303\274.de", 6},
		     {"a/b", 3}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hello_bytes hello = hello_begin();

		hello_put_name(&hello, cases[i].name, cases[i].length);
		hello_end(&hello);
		assert_not(&hello, TLS_WHY_NAME);
	}
}

static void lists_of_names_that_are_not_one_are_refused(void **state)
{
	static const struct {
		const char *data;
		size_t length;
		enum tls_why why;
	} cases[] = {
		{"\0\14\0\0\3a.b\0\0\3c.d", 14, TLS_WHY_NAMES},
		{"\0\6\1\0\3a.b", 8, TLS_WHY_NAMES},
		{"", 0, TLS_WHY_GRAMMAR},
		{"\0\0", 2, TLS_WHY_GRAMMAR},
		{"\0\3\0\0\0", 5, TLS_WHY_GRAMMAR},
		{"\0\5\0\0\3a.b", 8, TLS_WHY_GRAMMAR},
		{"\0\7\0\0\3a.b", 8, TLS_WHY_GRAMMAR},
		{"\0\6\0\0\2a.b", 8, TLS_WHY_NAMES},
		{"\0\6\0\0\4a.b", 8, TLS_WHY_GRAMMAR},
		{"\0\6\0\0\3a.b\0", 9, TLS_WHY_GRAMMAR},
	};
	struct hello_bytes hello;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		hello = hello_begin();
		hello_put_extension(&hello, 0, cases[i].data, cases[i].length);
		hello_end(&hello);
		assert_not(&hello, cases[i].why);
	}
	hello = hello_begin();
	hello_put_name(&hello, "a.b", 3);
	hello_put_extension(&hello, 10, "", 0);
	hello_put_name(&hello, "a.b", 3);
	hello_end(&hello);
	assert_not(&hello, TLS_WHY_NAMES);
}

static void extensions_that_lie_are_refused(void **state)
{
	static const struct {
		size_t type;
		const char *data;
		size_t length;
	} cases[] = {
		{16, "", 0},	       {16, "\0\0", 2},	    {16, "\0\1\0", 3},
		{16, "\0\3\3h2", 5},   {16, "\0\4\2h2", 5}, {16, "\0\2\2h2", 5},
		{16, "\0\4\2h2\0", 6}, {43, "", 0},	    {43, "\3\3\4\3", 4},
		{43, "\2\3\4\3", 4},
	};
	struct hello_bytes hello;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		hello = hello_begin();
		hello_put_extension(&hello, cases[i].type, cases[i].data, cases[i].length);
		hello_end(&hello);
		assert_not(&hello, TLS_WHY_GRAMMAR);
	}
	hello = hello_begin();
	hello_put_extension(&hello, 16, "\0\3\2h2", 5);
	hello_put_extension(&hello, 16, "\0\3\2h2", 5);
	hello_end(&hello);
	assert_not(&hello, TLS_WHY_GRAMMAR);
}

/* Each of the lengths outside of extensions, one more and one less. */
static void lengths_that_lie_are_refused(void **state)
{
	static const size_t at[] = {3, 38, 72, 77, HELLO_EXTENSIONS - 1, HELLO_EXTENSIONS + 3};

	(void)state;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		for (int by = -1; by <= 1; by += 2) {
			struct hello_bytes hello = hello_make("www.example.org", 0);
			const struct hello_bytes good = hello_records(&hello, 16384);
			struct hello_bytes stream;
			struct tls_hello read;
			enum tls_why why;

			assert_hello(&good, "www.example.org");
			hello.bytes[at[i]] = (uint8_t)(hello.bytes[at[i]] + by);
			stream = hello_records(&hello, 16384);
			assert_int_not_equal(feed_whole(&stream, &read, &why), TLS_HELLO);
		}
	}
}

static void no_flip_of_a_bit_gives_another_name(void **state)
{
	const struct hello_bytes hello = hello_make("www.example.org", 0);
	const struct hello_bytes stream = hello_records(&hello, 16384);

	(void)state;
	for (size_t bit = 0; bit < stream.length * 8; bit++) {
		struct hello_bytes broken = stream;
		struct tls_hello read;
		enum tls_why why;

		broken.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (feed_whole(&broken, &read, &why) != TLS_HELLO || !read.name.length ||
		    strcmp(read.name.text, "www.example.org") == 0)
			continue;
		assert_in_range(bit / 8, 5 + NAME_AT, 5 + NAME_AT + 14); /* the name itself */
	}
}

static void encrypted_hellos_are_told(void **state)
{
	static const size_t types[] = {0xfe0d, 0xffce};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct hello_bytes hello = hello_begin();
		struct tls_hello read;

		hello_put_name(&hello, "outer.example", 13);
		hello_put_extension(&hello, types[i], "\0", 1);
		hello_end(&hello);
		assert_int_equal(tls_hello_read(hello.bytes, hello.length, &read), TLS_WHY_NONE);
		assert_true(read.ech);
		assert_false(read.tls13);
		assert_null(read.alpn);
	}
}

static void a_second_hello_follows_other_records(void **state)
{
	const struct hello_bytes hello = hello_make("other.example", 600);
	const struct hello_bytes records = hello_records(&hello, 250);
	struct hello_bytes stream = {.length = 0};
	struct tls_reader reader;
	struct tls_hello read;

	(void)state;
	hello_put(&stream, "\24\3\3\0\1\1\27\3\3\0\5early\25\3\3\0\2\1\132", 23);
	hello_put(&stream, records.bytes, records.length);
	tls_reader_init(&reader, true);
	for (size_t have = 0; have < stream.length; have++)
		assert_int_equal(feed(&reader, stream.bytes, have, &read), TLS_MORE);
	assert_int_equal(feed(&reader, stream.bytes, stream.length, &read), TLS_HELLO);
	assert_string_equal(read.name.text, "other.example");
	assert_int_equal(read.end, stream.length);
	tls_reader_init(&reader, true);
	assert_int_equal(feed(&reader, (const uint8_t *)"\30\3\3\0\1\1", 6, &read), TLS_NOT);
}

/* ---- the server ---- */

#define RETRY                                                                                      \
	"\2\0\0\60\3\3"                                                                            \
	"\317\041\255\164\345\232\141\021\276\035\214\002\036\145\270\221"                         \
	"\302\242\021\026\172\273\214\136\007\236\011\342\310\250\063\234"

static enum tls_server_result server_says(const void *bytes, size_t length, size_t piece)
{
	struct tls_server server = {.left = 0};
	enum tls_server_result result = TLS_SERVER_MORE;
	const uint8_t *at = bytes;

	for (size_t done = 0; done < length && result == TLS_SERVER_MORE; done += piece)
		result = tls_server_feed(&server, at + done,
					 length - done < piece ? length - done : piece);
	return result;
}

static void a_retry_is_told_from_a_hello(void **state)
{
	static const char retry[] = "\26\3\3\0\64" RETRY;
	static const char warned[] =
		"\25\3\3\0\2\1\160\26\3\3\0\3\2\0\0\26\3\3\0\61\60\3\3"
		"\317\041\255\164\345\232\141\021\276\035\214\002\036\145\270\221"
		"\302\242\021\026\172\273\214\136\007\236\011\342\310\250\063\234";
	char hello[sizeof(retry)];

	(void)state;
	memcpy(hello, retry, sizeof(retry));
	hello[42] = 'x';
	for (size_t piece = 1; piece < sizeof(retry); piece++) {
		assert_int_equal(server_says(retry, 42, piece), TLS_SERVER_MORE);
		assert_int_equal(server_says(retry, sizeof(retry) - 1, piece), TLS_SERVER_RETRY);
		assert_int_equal(server_says(warned, sizeof(warned) - 1, piece), TLS_SERVER_RETRY);
		assert_int_equal(server_says(hello, sizeof(retry) - 1, piece), TLS_SERVER_HELLO);
	}
}

static void other_things_that_servers_say(void **state)
{
	(void)state;
	assert_int_equal(server_says("SSH-2.0-x", 9, 9), TLS_SERVER_OTHER);
	assert_int_equal(server_says("\26\2\3\0\4", 5, 5), TLS_SERVER_OTHER);
	assert_int_equal(server_says("\26\3\3\0\0", 5, 5), TLS_SERVER_OTHER);
	assert_int_equal(server_says("\27\3\3\0\4", 5, 5), TLS_SERVER_OTHER);
	assert_int_equal(server_says("\26\3\3\0\4\0\0\0\0", 9, 9), TLS_SERVER_OTHER);
	assert_int_equal(server_says("\25\3\3\0\2\2\50", 7, 7), TLS_SERVER_MORE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hello_is_read),
		cmocka_unit_test(a_hello_is_whole_at_its_last_byte_and_not_before),
		cmocka_unit_test(a_hello_may_be_in_any_records),
		cmocka_unit_test(what_follows_a_hello_is_no_part_of_it),
		cmocka_unit_test(a_hello_without_extensions_has_no_name),
		cmocka_unit_test(other_beginnings_are_not_tls),
		cmocka_unit_test(names_that_are_no_hosts_are_refused),
		cmocka_unit_test(lists_of_names_that_are_not_one_are_refused),
		cmocka_unit_test(extensions_that_lie_are_refused),
		cmocka_unit_test(lengths_that_lie_are_refused),
		cmocka_unit_test(no_flip_of_a_bit_gives_another_name),
		cmocka_unit_test(encrypted_hellos_are_told),
		cmocka_unit_test(a_second_hello_follows_other_records),
		cmocka_unit_test(a_retry_is_told_from_a_hello),
		cmocka_unit_test(other_things_that_servers_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
