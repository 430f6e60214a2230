// SPDX-License-Identifier: GPL-2.0-or-later
/* Names of hosts, the patterns for them, and the set that has all the patterns of a policy. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/domain.h"
#include "proto/domain_set.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define LABEL_63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz0123456789a"
#define LABEL_64 LABEL_63 "a"
#define NAME_255 NAME_191 "." LABEL_63
#define NAME_191 LABEL_63 "." LABEL_63 "." LABEL_63

/* From a copy of the exact size, so that the sanitizers see a read of one byte too many. */
static int from_host(struct domain *domain, const char *text, size_t length)
{
	char *exact = malloc(length ? length : 1);
	int err;

	assert_non_null(exact);
	memcpy(exact, text, length);
	err = domain_from_host(domain, exact, length);
	free(exact);
	return err;
}

static struct domain host(const char *text)
{
	struct domain domain;

	assert_int_equal(from_host(&domain, text, strlen(text)), 0);
	return domain;
}

static void hosts_are_folded(void **state)
{
	static const char *const cases[][2] = {
		{"example.org", "example.org"},
		{"EXAMPLE.Org.", "example.org"},
		{"localhost", "localhost"},
		{"_dmarc.a-b.X", "_dmarc.a-b.x"},
		{"xn--BCHER-kva.de", "xn--bcher-kva.de"},
		{"1.2.3.4a", "1.2.3.4a"},
		{"0xg.example", "0xg.example"},
		{"1.example", "1.example"},
		{LABEL_63 ".de", LABEL_63 ".de"},
		{NAME_191 "."
			  "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz012345678",
		 NAME_191 "."
			  "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz012345678"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct domain domain = host(cases[i][0]);

		assert_string_equal(domain.text, cases[i][1]);
		assert_int_equal(domain.length, strlen(cases[i][1]));
	}
}

static void what_is_no_host_is_refused(void **state)
{
	static const char *const cases[] = {
		"",	  ".",	     "..",	 "a..b",
		".a",	  "a..",     "a b",	 "a/b",
		"a:443",  "[::1]",   "::1",	 "fe80::1%eth0",
		"a%b",	  "1.2.3.4", "1.2.3.4.", "4294967295",
		"a.0x7f", "a.0x",    "a.017",	 "b\xc3\xbc.de",
		"a*b",	  "a\\b",    "a\tb",	 "a\x7f",
	};
	struct domain domain = {.length = 7};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(from_host(&domain, cases[i], strlen(cases[i])), -EBADMSG);
		assert_int_equal(domain.length, 7);
	}
	assert_int_equal(from_host(&domain, LABEL_64, strlen(LABEL_64)), -EBADMSG);
	assert_int_equal(from_host(&domain, LABEL_64 ".de", strlen(LABEL_64 ".de")), -EBADMSG);
	assert_int_equal(from_host(&domain, "de." LABEL_64, strlen("de." LABEL_64)), -EBADMSG);
	assert_int_equal(from_host(&domain, NAME_255, strlen(NAME_255)), -EBADMSG);
	assert_int_equal(from_host(&domain, "good.example\0.evil.example", 26), -EBADMSG);
	assert_int_equal(from_host(&domain, "a\0", 2), -EBADMSG);
}

static struct domain_pattern pattern_of(const char *text)
{
	struct domain_pattern pattern;
	const char *why = NULL;

	if (domain_pattern_parse(&pattern, text, &why) < 0)
		fail_msg("%s: %s", text, why ? why : "no memory");
	return pattern;
}

static void patterns_match_what_they_say(void **state)
{
	static const struct {
		const char *pattern, *yes, *no; /* names with blanks between */
	} cases[] = {
		{"a.b", "a.b A.B a.b.", "b x.a.b xa.b a.b.c ab"},
		{"A.B.", "a.b", "x.a.b"},
		{"*.a.b", "x.a.b y.x.a.b _.a.b -.A.B.", "a.b xa.b b a.b.c x.a.b.c"},
		{".a.b", "a.b x.a.b y.x.a.b", "xa.b b a.b.c"},
		{"*", "a a.b xn--x.org", ""},
		{"*.b", "a.b x.a.b", "b ab"},
		{"x*.a.b", "x.a.b xy.a.b x-1.a.b", "ax.a.b a.b x.y.a.b xy.z.a.b x.a.b.c"},
		{"*x.a.b", "x.a.b yx.a.b", "xy.a.b y.x.a.b a.b"},
		{"x*y.a.b", "xy.a.b xzy.a.b", "x.a.b y.a.b yx.a.b xy.b"},
		{"xy*yx.b", "xyyx.b xy-yx.b", "xyx.b"},
		{"x*", "x xy", "x.y xy.z yx"},
		{"*.b\303\274cher.de", "a.xn--bcher-kva.de", "xn--bcher-kva.de"},
		{"B\303\234CHER.de", "xn--bcher-kva.de", "bucher.de"},
		{"fa\xc3\x9f.de", "xn--fa-hia.de", "fass.de"},
		{"a\343\200\202b\xc3\xbc", "a.xn--b-eha", "b"},
		{"www*.b\303\274cher.de", "www1.xn--bcher-kva.de", "xn--bcher-kva.de"},
		{"_acme.a.b", "_acme.a.b", "acme.a.b"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct domain_pattern pattern = pattern_of(cases[i].pattern);

		for (int wanted = 0; wanted < 2; wanted++) {
			char *names = strdup(wanted ? cases[i].yes : cases[i].no), *rest = names;
			const char *name;

			assert_non_null(names);
			while ((name = strsep(&rest, " ")) && *name) {
				struct domain_set *set = domain_set_new();
				const struct domain domain = host(name);

				assert_non_null(set);
				assert_int_equal(domain_set_add(set, 5, &pattern), 0);
				if (domain_pattern_match(&pattern, &domain) != wanted ||
				    domain_set_match(set, &domain) != (uint64_t)wanted << 5)
					fail_msg("%s and %s", cases[i].pattern, name);
				domain_set_free(set);
			}
			free(names);
		}
	}
}

static void what_is_no_pattern_is_told(void **state)
{
	static const struct {
		const char *pattern, *why;
	} cases[] = {
		{"", "empty"},
		{".", "labels"},
		{"..", "labels"},
		{"*.", "labels"},
		{"a..b", "labels"},
		{"a b", "labels"},
		{"https://a.b", "labels"},
		{"a.b:443", "labels"},
		{"10.0.0.1", "dst"},
		{"*.0.0.1", "dst"},
		{"a.*", "first label"},
		{"a.*.b", "first label"},
		{"*.*.b", "first label"},
		{"*.a*.b", "first label"},
		{".a*.b", "first label"},
		{"**.b", "first label"},
		{"a*b*.c", "first label"},
		{"a*.b*.c", "first label"},
		{"b\xc3\xbc*.de", "xn--"},
		{"\xff.de", "encoding"},
		{LABEL_63 "a.de", "63"},
		{LABEL_63 "a*.de", "63"},
		{"x*y." NAME_191 "."
		 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz012345678",
		 "253"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct domain_pattern pattern;
		const char *why = NULL;

		if (domain_pattern_parse(&pattern, cases[i].pattern, &why) != -EINVAL || !why ||
		    !strstr(why, cases[i].why))
			fail_msg("%s: %s", cases[i].pattern, why ? why : "taken");
	}
}

static void lists_are_told_apart(void **state)
{
	static const struct {
		unsigned int list;
		const char *pattern;
	} cases[] = {{0, "a.b"},    {1, "*.a.b"}, {2, ".a.b"}, {3, "x*.a.b"},
		     {4, "x*.a.b"}, {63, "*"},	  {0, "a.b"},  {5, "xy.a.b"}};
	struct domain_set *set = domain_set_new();
	struct domain domain = host("a.b");

	(void)state;
	assert_non_null(set);
	assert_int_equal(domain_set_match(set, &domain), 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct domain_pattern pattern = pattern_of(cases[i].pattern);

		assert_int_equal(domain_set_add(set, cases[i].list, &pattern), 0);
	}
	assert_true(domain_set_match(set, &domain) == (UINT64_C(1) << 63 | 0x5));
	domain = host("xy.a.b");
	assert_true(domain_set_match(set, &domain) == (UINT64_C(1) << 63 | 0x3e));
	domain = host("xy.xy.a.b");
	assert_true(domain_set_match(set, &domain) == (UINT64_C(1) << 63 | 0x6));
	domain = host("b");
	assert_true(domain_set_match(set, &domain) == UINT64_C(1) << 63);
	domain.length = 0;
	domain.text[0] = '\0';
	assert_int_equal(domain_set_match(set, &domain), 0);
	domain_set_free(set);
	domain_set_free(NULL);
}

static void limits_are_told(void **state)
{
	struct domain_set *set = domain_set_new();
	struct domain_pattern pattern;
	struct domain domain;
	char text[64];

	(void)state;
	assert_non_null(set);
	for (int i = 0; i < DOMAIN_SET_STARS_MAX; i++) {
		snprintf(text, sizeof(text), "s%d-*.a.b", i);
		pattern = pattern_of(text);
		assert_int_equal(domain_set_add(set, 0, &pattern), 0);
	}
	pattern = pattern_of("one-more*.a.b");
	assert_int_equal(domain_set_add(set, 0, &pattern), -ENOSPC);
	pattern = pattern_of("s0-*.a.b"); /* that one is there */
	assert_int_equal(domain_set_add(set, 1, &pattern), 0);
	for (int i = DOMAIN_SET_STARS_MAX + 1; i < DOMAIN_SET_PATTERNS_MAX; i++) {
		snprintf(text, sizeof(text), "%shost%d.example", i % 2 ? "*." : "", i);
		pattern = pattern_of(text);
		assert_int_equal(domain_set_add(set, (unsigned int)i % 64, &pattern), 0);
	}
	assert_int_equal(domain_set_add(set, 1, &pattern), -E2BIG);
	for (int i = DOMAIN_SET_STARS_MAX + 1; i < DOMAIN_SET_PATTERNS_MAX; i++) {
		snprintf(text, sizeof(text), "%shost%d.example", i % 2 ? "a." : "", i);
		domain = host(text);
		assert_true(domain_set_match(set, &domain) == UINT64_C(1) << i % 64);
	}
	domain = host("s63-.a.b");
	assert_int_equal(domain_set_match(set, &domain), 1);
	domain = host("host1.example"); /* only below */
	assert_int_equal(domain_set_match(set, &domain), 0);
	domain_set_free(set);
}

static void bytes_of_the_wire_are_folded(void **state)
{
	(void)state;
	for (int byte = 0; byte < 256; byte++) {
		const uint8_t folded = domain_fold((uint8_t)byte);

		if (byte >= 'A' && byte <= 'Z')
			assert_int_equal(folded, byte + 32);
		else if (byte <= ' ' || byte >= 0x7f || byte == '.')
			assert_int_equal(folded, 0);
		else
			assert_int_equal(folded, byte);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_are_folded),
		cmocka_unit_test(what_is_no_host_is_refused),
		cmocka_unit_test(patterns_match_what_they_say),
		cmocka_unit_test(what_is_no_pattern_is_told),
		cmocka_unit_test(lists_are_told_apart),
		cmocka_unit_test(limits_are_told),
		cmocka_unit_test(bytes_of_the_wire_are_folded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
