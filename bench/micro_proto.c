/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The readers of lib/proto, and the set of names, on what honest clients send. `micro_proto` prints
 * the names of its cases, `micro_proto CASE TIMES` nanoseconds for one; under callgrind only
 * micro_run() is counted (see bench/micro).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/dns_answer.h"
#include "proto/dns_query.h"
#include "proto/domain.h"
#include "proto/domain_set.h"
#include "proto/http.h"
#include "proto/quic.h"
#include "proto/stream.h"
#include "proto/tls.h"
#include "tests/unit/quic_fixture.h"

#define PATTERNS 30000

/* Each returns 1 where it came out as it must. */
struct micro_case {
	const char *name;
	unsigned int (*run)(unsigned long turn);
};

static void must(int err)
{
	if (!err)
		return;
	fprintf(stderr, "micro_proto: it cannot be set up\n");
	exit(1);
}

/* ---- names ---- */

static struct domain_set *set;
static struct domain hosts[4];

static void add_pattern(const char *text)
{
	struct domain_pattern pattern;
	const char *why;

	must(domain_pattern_parse(&pattern, text, &why));
	must(domain_set_add(set, 0, &pattern));
}

static void set_up_names(void)
{
	static const char *const names[4] = {"cdn-7.files.host-12345.example.org",
					     "host-2.example.org", "api.github.com",
					     "deb.debian.org"};
	char text[64];

	set = domain_set_new();
	must(!set);
	for (int i = 0; i < PATTERNS; i++) {
		snprintf(text, sizeof(text), "%shost-%d.example.org", i % 2 ? "*." : "", i);
		add_pattern(text);
	}
	add_pattern("*.debian.org");
	for (int i = 0; i < 4; i++)
		must(domain_from_host(&hosts[i], names[i], strlen(names[i])));
}

static unsigned int run_domain(unsigned long turn)
{
	return domain_set_match(set, &hosts[turn % 4]) == (turn % 4 == 2 ? 0 : 1);
}

/* ---- DNS: host-2.example.org, by two CNAMEs to three addresses ---- */

#define DNS_NAME "\6host-2\7example\3org"
static const uint8_t dns_query[] = "\0\7\1\0\0\1\0\0\0\0\0\1" DNS_NAME "\0\0\1\0\1"
				   "\0\0\51\20\0\0\0\0\0\0";
static const uint8_t dns_answer[] = "\0\7\201\200\0\1\0\5\0\0\0\0" DNS_NAME "\0\0\1\0\1"
				    "\300\14\0\5\0\1\0\0\0\74\0\12\4edge\2no\300\23"
				    "\300\60\0\5\0\1\0\0\0\74\0\6\3www\300\65"
				    "\300\106\0\1\0\1\0\0\0\74\0\4\300\0\2\1"
				    "\300\106\0\1\0\1\0\0\0\74\0\4\300\0\2\2"
				    "\300\106\0\1\0\1\0\0\0\74\0\4\300\0\2\3";

static unsigned int run_dns_query(unsigned long turn)
{
	struct dns_question question;

	(void)turn;
	return dns_query_read(dns_query, sizeof(dns_query), &question) == 0 &&
	       domain_set_match(set, &question.name) == 1;
}

static unsigned int run_dns_answer(unsigned long turn)
{
	static struct dns_answer answer;

	(void)turn;
	return dns_answer_read(dns_answer, sizeof(dns_answer) - 1, &answer) == 0 &&
	       answer.count == 3 && answer.links == 2 &&
	       domain_set_match(set, &answer.question.name) == 1;
}

/* ---- TLS: a hello of curl's size at once, and one of OpenSSL 3.5's in two segments ---- */

#define SEGMENT 1448

static struct hello_bytes hellos[2]; /* with their records */
static uint8_t scratch[TLS_STREAM_MAX], stored[TLS_STREAM_MAX];

static void set_up_hellos(void)
{
	const struct hello_bytes small = hello_make("host-2.example.org", 512),
				 large = hello_make("host-2.example.org", 1584);

	hellos[0] = hello_records(&small, TLS_STREAM_MAX);
	hellos[1] = hello_records(&large, TLS_STREAM_MAX);
}

static unsigned int run_tls_hello(unsigned long turn)
{
	struct tls_reader reader;
	struct tls_hello hello;

	(void)turn;
	tls_reader_init(&reader, false);
	return tls_reader_feed(&reader, hellos[0].bytes, hellos[0].length, scratch, &hello) ==
		       TLS_HELLO &&
	       hello.name.length == 18;
}

static unsigned int run_tls_segments(unsigned long turn)
{
	const size_t rest = hellos[1].length - SEGMENT;
	struct tls_reader reader;
	struct stream stream;
	struct tls_hello hello;
	size_t new;

	stream_init(&stream, (uint32_t)turn, stored, sizeof(stored));
	tls_reader_init(&reader, false);
	return stream_feed(&stream, stream.next, hellos[1].bytes, SEGMENT, &new) == STREAM_NEW &&
	       tls_reader_feed(&reader, stored, SEGMENT, scratch, &hello) == TLS_MORE &&
	       stream_feed(&stream, stream.next, hellos[1].bytes + SEGMENT, rest, &new) ==
		       STREAM_NEW &&
	       tls_reader_feed(&reader, stored, stream_length(&stream), scratch, &hello) ==
		       TLS_HELLO &&
	       hello.name.length == 18;
}

/* ---- QUIC: a hello in the first datagram, and one of Chromium's size in two ---- */

static struct hello_bytes datagrams[3];

static void set_up_datagram(struct hello_bytes *datagram, const struct hello_bytes *hello,
			    size_t from, size_t upto)
{
	const struct quic_id id = {(const uint8_t *)"01234567", 8};
	struct hello_bytes frames = {.length = 0};

	quic_put_crypto(&frames, hello, from, upto);
	quic_pad(&frames, 1162);
	quic_put_initial(datagram, QUIC_VERSION_1, &id, &id, 0, &frames);
}

static void set_up_datagrams(void)
{
	const struct hello_bytes small = hello_make("host-2.example.org", 512),
				 large = hello_make("host-2.example.org", 1951);

	set_up_datagram(&datagrams[0], &small, 0, 512);
	set_up_datagram(&datagrams[1], &large, 0, 1000);
	set_up_datagram(&datagrams[2], &large, 1000, 1951);
}

static enum quic_result read_datagram(struct quic_reader *reader, int i, struct tls_hello *hello)
{
	return quic_reader_feed(reader, datagrams[i].bytes, datagrams[i].length, scratch, hello);
}

static unsigned int run_quic_initial(unsigned long turn)
{
	struct quic_reader reader;
	struct tls_hello hello;

	(void)turn;
	quic_reader_init(&reader, stored);
	return read_datagram(&reader, 0, &hello) == QUIC_HELLO && hello.name.length == 18;
}

static unsigned int run_quic_two(unsigned long turn)
{
	struct quic_reader reader;
	struct tls_hello hello;

	(void)turn;
	quic_reader_init(&reader, stored);
	return read_datagram(&reader, 2, &hello) == QUIC_MORE &&
	       read_datagram(&reader, 1, &hello) == QUIC_HELLO && hello.name.length == 18;
}

/* ---- HTTP: as apt asks ---- */

static unsigned int run_http_request(unsigned long turn)
{
	static const char text[] =
		"GET /pool/main/h/hello/hello_2.10-3_amd64.deb HTTP/1.1\r\n"
		"Host: deb.debian.org\r\nUser-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n\r\n";
	static struct http_reader reader;
	struct http_request request;
	size_t used;

	(void)turn;
	return http_reader_feed(&reader, (const uint8_t *)text, sizeof(text) - 1, &used,
				&request) == HTTP_REQUEST &&
	       request.host.length == 14;
}

static const struct micro_case cases[] = {
	{"domain", run_domain},
	{"dns-query", run_dns_query},
	{"dns-answer", run_dns_answer},
	{"tls-hello", run_tls_hello},
	{"tls-segments", run_tls_segments},
	{"quic-initial", run_quic_initial},
	{"quic-two", run_quic_two},
	{"http-request", run_http_request},
};

/* Return: how many came out right. */
unsigned long micro_run(const struct micro_case *micro_case, unsigned long times);
__attribute__((noinline)) unsigned long micro_run(const struct micro_case *micro_case,
						  unsigned long times)
{
	unsigned long right = 0;

	for (unsigned long i = 0; i < times; i++)
		right += micro_case->run(i);
	return right;
}

static int measure(const struct micro_case *micro_case, unsigned long times)
{
	struct timespec from, to;
	unsigned long right;

	set_up_names();
	set_up_hellos();
	set_up_datagrams();
	clock_gettime(CLOCK_MONOTONIC, &from);
	right = micro_run(micro_case, times);
	clock_gettime(CLOCK_MONOTONIC, &to);
	domain_set_free(set);
	if (right != times) {
		fprintf(stderr, "micro_proto: %lu of %lu right\n", right, times);
		return 1;
	}
	printf("%.1f\n",
	       ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) /
		       (double)times);
	return 0;
}

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (argc == 1)
			printf("%s\n", cases[i].name);
		else if (argc == 3 && strcmp(argv[1], cases[i].name) == 0)
			return measure(&cases[i], strtoul(argv[2], NULL, 10));
	}
	if (argc == 1)
		return 0;
	fprintf(stderr, "usage: micro_proto [CASE TIMES]\n");
	return 2;
}
