// SPDX-License-Identifier: GPL-2.0-or-later
/* Requests in clear text: each of a flow, in any pieces, and what cannot be framed for certain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/http.h"

static struct http_reader reader;

/* "METHOD HOST:PORT;" of each request, then "!WHY" where it was refused. In pieces of exact size.
 */
static const char *read_all(const char *text, size_t length, size_t piece)
{
	static char found[512];
	size_t used, out = 0;

	found[0] = '\0';
	memset(&reader, 0, offsetof(struct http_reader, head));
	for (size_t at = 0; at < length; at += used) {
		const size_t size = length - at < piece ? length - at : piece;
		uint8_t *exact = malloc(size ? size : 1);
		struct http_request request;
		enum http_result result;

		assert_non_null(exact);
		memcpy(exact, text + at, size);
		result = http_reader_feed(&reader, exact, size, &used, &request);
		free(exact);
		if (result == HTTP_REFUSE) {
			snprintf(found + out, sizeof(found) - out, "!%d", reader.why);
			break;
		}
		assert_true(used > 0);
		if (result == HTTP_REQUEST)
			out += (size_t)snprintf(found + out, sizeof(found) - out, "%s %s:%u;",
						request.method, request.host.text, request.port);
		else
			assert_int_equal(used, size);
	}
	return found;
}

static void assert_read(const char *text, const char *wanted)
{
	const size_t length = strlen(text);

	for (size_t piece = 1; piece <= length; piece += piece < 8 ? 1 : 13)
		assert_string_equal(read_all(text, length, piece), wanted);
	assert_string_equal(read_all(text, length, length), wanted);
}

static void assert_refused(const char *text, enum http_why why)
{
	char wanted[8];

	snprintf(wanted, sizeof(wanted), "!%d", why);
	assert_read(text, wanted);
}

#define GET "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a.b\r\n"
#define NEXT "GET /x HTTP/1.1\r\nHost: evil.example\r\n\r\n"

static void requests_are_read(void **state)
{
	(void)state;
	assert_read(GET "Host: Www.Example.ORG\r\nAccept: */*\r\n\r\n", "GET www.example.org:0;");
	assert_read(GET "host:\t a.b:8080 \t\r\n\r\n", "GET a.b:8080;");
	assert_read("HEAD http://A.b./x?y HTTP/1.1\r\nHost: a.b\r\n\r\n", "HEAD a.b:0;");
	assert_read("GET http://a.b:80 HTTP/1.0\r\nHost: a.b:80\r\n\r\n", "GET a.b:80;");
	assert_read("OPTIONS * HTTP/1.1\r\nHost: a.b\r\n\r\n", "OPTIONS a.b:0;");
	assert_read(GET "Host: 192.0.2.1:80\r\n\r\n", "GET :80;");
	assert_read("GET http://[2001:db8::1]/ HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", "GET :0;");
	assert_read(GET "X: \303\274\r\nHost: a.b\r\n\r\n", "GET a.b:0;");
}

static void the_next_request_is_found(void **state)
{
	(void)state;
	assert_read(GET "Host: a.b\r\n\r\n" NEXT NEXT,
		    "GET a.b:0;GET evil.example:0;GET evil.example:0;");
	assert_read(POST "Content-Length: 39\r\n\r\n" NEXT NEXT, "POST a.b:0;GET evil.example:0;");
	assert_read(POST "Content-Length: 0\r\n\r\n" NEXT, "POST a.b:0;GET evil.example:0;");
	assert_read(POST "Transfer-Encoding: Chunked\r\n\r\n"
			 "5\r\nGET /\r\n0a\r\n0123456789\r\n0\r\n\r\n" NEXT,
		    "POST a.b:0;GET evil.example:0;");
	assert_read(POST "Content-Length: 99\r\n\r\n" NEXT, "POST a.b:0;");
}

static void what_cannot_be_framed_is_refused(void **state)
{
	static const char *const lengths[] = {
		"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Transfer-Encoding: gzip, chunked\r\n\r\n",
		"Transfer-Encoding: xchunked\r\n\r\n",
		"Content-Length: +1\r\n\r\n",
		"Content-Length: -1\r\n\r\n",
		"Content-Length: 1, 1\r\n\r\n",
		"Content-Length: 0x1\r\n\r\n",
		"Content-Length:\r\n\r\n",
		"Content-Length: 1234567890123456789\r\n\r\n",
	};
	static const char *const chunks[] = {
		"\r\n",	   "5;x=y\r\n", "g\r\n",
		"-1\r\n",  "1 \r\n",	"1\n",
		"1\r\nab", "1\r\na\n",	"0\r\nX: y\r\n\r\n",
		"0\r\n\n", "0\r\n\rx",	"1234567890abcdef\r\n",
	};
	char text[256], wanted[32];

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		snprintf(text, sizeof(text), "%s%s", POST, lengths[i]);
		assert_refused(text, HTTP_WHY_LENGTH);
	}
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		snprintf(text, sizeof(text), "%sTransfer-Encoding: chunked\r\n\r\n%s", POST,
			 chunks[i]);
		snprintf(wanted, sizeof(wanted), "POST a.b:0;!%d", HTTP_WHY_LENGTH);
		assert_read(text, wanted);
	}
	assert_refused("POST / HTTP/1.0\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n",
		       HTTP_WHY_LENGTH);
}

static void lines_that_are_none_are_refused(void **state)
{
	static const char *const lines[] = {
		"GET  / HTTP/1.1",
		"GET / HTTP/1.1 ",
		"GET / HTTP/2.0",
		"GET / http/1.1",
		"GET /",
		"GET / HTTP/1.2",
		" GET / HTTP/1.1",
		"G(T / HTTP/1.1",
		"GET a.b HTTP/1.1",
		"GET * HTTP/1.1",
		"GET https://a.b/ HTTP/1.1",
		"PRI * HTTP/2.0",
		"GET /\303\274 HTTP/1.1",
	};
	static const char *const fields[] = {
		"X : y\r\n",
		" X: y\r\n",
		"X: y\r\n z\r\n",
		"X: y\r\n\tz\r\n",
		"X\r\n",
		": y\r\n",
		"X\303\274: y\r\n",
		"Content_Length: 5\r\n",
		"Transfer_Encoding: chunked\r\n",
		"ho_st: x\r\nHost_: y\r\nX(: z\r\n",
	};
	static const char *const bytes[] = {"X: y\nZ: a\r\n\r\n", "X: \rZ\r\n\r\n", "X: \1\r\n\r\n",
					    "X: \177\r\n\r\n", "\n"};
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(text, sizeof(text), "%s\r\nHost: a.b\r\n\r\n", lines[i]);
		assert_refused(text, HTTP_WHY_LINE);
	}
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		snprintf(text, sizeof(text), "%s%s\r\n", GET "Host: a.b\r\n", fields[i]);
		assert_refused(text, HTTP_WHY_FIELD);
	}
	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		snprintf(text, sizeof(text), "%s%s", GET "Host: a.b\r\n", bytes[i]);
		assert_refused(text, HTTP_WHY_FIELD);
	}
	assert_refused("\r\n" NEXT, HTTP_WHY_FIELD);
	assert_string_equal(read_all("GET /\0 HTTP/1.1\r\n", 17, 17), "!2");
}

static void hosts_that_are_not_one_are_refused(void **state)
{
	static const char *const hosts[] = {
		"",
		"Host: a.b\r\nHost: a.b\r\n",
		"Host:\r\n",
		"Host: a b\r\n",
		"Host: a.b, c.d\r\n",
		"Host: a.b:\r\n",
		"Host: a.b:0\r\n",
		"Host: a.b:65536\r\n",
		"Host: a.b:80:80\r\n",
		"Host: u@a.b\r\n",
		"Host: [::1\r\n",
		"Host: [::1]x\r\n",
		"Host: []\r\n",
		"Host: [fe80::1%25eth0]\r\n",
		"Host: a/b\r\n",
		"Host: :80\r\n",
	};
	static const char *const targets[] = {"http://c.d/", "http://a.b:80/", "http:///x",
					      "http://u@a.b/", "http://192.0.2.1/"};
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		snprintf(text, sizeof(text), "%s%s\r\n", GET, hosts[i]);
		assert_refused(text, HTTP_WHY_HOST);
	}
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: a.b\r\n\r\n", targets[i]);
		assert_refused(text, HTTP_WHY_HOST);
	}
	assert_refused("GET http://192.0.2.1/ HTTP/1.1\r\nHost: 192.0.2.2\r\n\r\n", HTTP_WHY_HOST);
}

static void what_leaves_http_is_refused(void **state)
{
	(void)state;
	assert_refused("CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n", HTTP_WHY_UPGRADE);
	assert_refused(POST "Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", HTTP_WHY_UPGRADE);
	assert_refused(POST "HTTP2-Settings: x\r\n\r\n", HTTP_WHY_UPGRADE);
}

static void heads_have_a_longest(void **state)
{
	static char text[2 * HTTP_HEAD_MAX];
	const size_t rest = strlen(GET "Host: a.b\r\nX: \r\n\r\n");

	(void)state;
	for (int more = 0; more < 2; more++) {
		const int padding = (int)(HTTP_HEAD_MAX - rest) + more;

		snprintf(text, sizeof(text), GET "Host: a.b\r\nX: %0*d\r\n\r\n", padding, 0);
		assert_string_equal(read_all(text, strlen(text), 1448), more ? "!6" : "GET a.b:0;");
	}
	snprintf(text, sizeof(text), "%033d / HTTP/1.1\r\nHost: a.b\r\n\r\n", 0);
	assert_refused(text, HTTP_WHY_LONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_read),
		cmocka_unit_test(the_next_request_is_found),
		cmocka_unit_test(what_cannot_be_framed_is_refused),
		cmocka_unit_test(lines_that_are_none_are_refused),
		cmocka_unit_test(hosts_that_are_not_one_are_refused),
		cmocka_unit_test(what_leaves_http_is_refused),
		cmocka_unit_test(heads_have_a_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
