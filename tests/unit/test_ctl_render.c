// SPDX-License-Identifier: GPL-2.0-or-later
/* What people see: tables and blocks, byte for byte; and the tables that doctor reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/consumers.h"
#include "client/document.h"
#include "ctl/render.h"
#include "ctl/table.h"

static struct json_object *parsed(const char *text, size_t length)
{
	struct json_object *document;

	document_parse(text, length, &document);
	return document;
}

static const char stats_text[] =
	"{\"schema\":1,\"name\":\"web\",\"state\":\"attached\",\"policy\":\"ci\",\"mode\":"
	"\"enforce\","
	"\"netns\":{\"inode\":4026532317,\"cookie\":77},\"labels\":{\"a\":\"b\"},"
	"\"attached_at\":\"2026-01-01T00:00:00Z\",\"queue\":{\"first\":0,\"count\":2,"
	"\"backend\":\"nft-xt\",\"pending\":1,\"dropped\":2,\"user_dropped\":3,\"flushed\":4,"
	"\"unbound_dropped\":5},"
	"\"packets\":{\"seen\":18446744073709551615,\"accepted\":5,\"dropped\":3,\"rejected\":1,"
	"\"repeated\":0,\"queued_elsewhere\":0,\"malformed\":0,\"offloaded\":7},"
	"\"unjudged\":{\"agent_down\":6,\"queue_full\":0,\"undelivered\":8},"
	"\"bytes\":{\"seen\":1000,\"accepted\":500,\"dropped\":0,\"rejected\":0,\"offloaded\":0},"
	"\"audit\":{\"would_drop\":0},\"direction\":{\"in\":{\"packets\":1,\"bytes\":2}},"
	"\"protocol\":{\"tcp\":1},"
	"\"rules\":[{\"name\":\"dns\\u001b[31m\",\"action\":\"accept\",\"packets\":4,\"bytes\":300}"
	"],"
	"\"default\":{\"packets\":1,\"bytes\":60},"
	"\"verdict_latency_us\":{\"p50\":10,\"p90\":20,\"p99\":30,\"max\":99}}";

typedef bool render_fn(struct json_object *object, FILE *to, bool colour);

static void assert_rendered(render_fn *render, struct json_object *object, bool colour,
			    const char *expected)
{
	char *text = NULL;
	size_t size;
	FILE *memory = open_memstream(&text, &size);

	assert_true(render(object, memory, colour));
	fclose(memory);
	assert_string_equal(text, expected);
	free(text);
}

static struct json_object *make_all(void)
{
	struct json_object *all = json_object_new_object();
	struct json_object *namespaces = json_object_new_object();
	struct json_object *down = parsed("{\"state\":\"degraded\"}", 20);

	json_object_object_add(namespaces, "web", parsed(stats_text, sizeof(stats_text) - 1));
	json_object_object_add(namespaces, "gone-policy", down);
	json_object_object_add(all, "namespaces", namespaces);
	return all;
}

static void test_list(void **state)
{
	struct json_object *all = make_all();

	(void)state;
	assert_rendered(
		render_list, all, false,
		"NAME         STATE     POLICY  MODE                     SEEN  ACCEPTED  DROPPED  "
		"REJECTED  PENDING\n"
		"web          attached  ci      enforce  18446744073709551615         5        3  "
		"       1        1\n"
		"gone-policy  degraded  -       -                           0         0        0  "
		"       0        0\n");
	json_object_put(all);
}

static void test_totals(void **state)
{
	struct json_object *all = make_all();

	(void)state;
	assert_rendered(
		render_totals, all, false,
		"NAME                         SEEN  BYTES  ACCEPTED  DROPPED  REJECTED  ELSEWHERE  "
		"MALFORMED  OFFLOADED  LOST  P50us  P99us\n"
		"web          18446744073709551615   1000         5        3         1          0  "
		"        0          7    14     10     30\n"
		"gone-policy                     0      0         0        0         0          0  "
		"        0          0     0      0      0\n");
	json_object_put(all);
}

static void test_stats(void **state)
{
	struct json_object *stats = parsed(stats_text, sizeof(stats_text) - 1);

	(void)state;
	assert_rendered(
		render_stats, stats, false,
		"name       web\n"
		"state      attached\n"
		"policy     ci, enforce\n"
		"netns      inode 4026532317, cookie 77\n"
		"label      a=b\n"
		"since      2026-01-01T00:00:00Z\n"
		"queue      0-1, nft-xt\n"
		"           1 pending; lost by the kernel: 2 queue full, 3 not delivered, 4 "
		"flushed, 5 without daemons\n"
		"unjudged   6 nobody judged, 0 queue full, 8 not delivered\n"
		"\n"
		"FATE                             PACKETS  BYTES\n"
		"seen                18446744073709551615   1000\n"
		"accepted                               5    500\n"
		"dropped                                3      0\n"
		"rejected                               1      0\n"
		"queued elsewhere                       0      -\n"
		"repeated                               0      -\n"
		"malformed                              0      -\n"
		"offloaded                              7      0\n"
		"dropped unasked                        0      0\n"
		"would drop (audit)                     0      -\n"
		"\n"
		"DIRECTION  PACKETS  BYTES\n"
		"in               1      2\n"
		"\n"
		"PROTOCOL  PACKETS\n"
		"tcp             1\n"
		"\n"
		"RULE       ACTION  PACKETS  BYTES\n"
		"dns?[31m   accept        4    300\n"
		"(default)  -             1     60\n"
		"\n"
		"verdict latency  p50 10 us, p90 20 us, p99 30 us, max 99 us\n");
	json_object_put(stats);
}

static bool pairs(struct json_object *object, FILE *to, bool colour)
{
	(void)colour;
	return render_pairs(object, to);
}

static void test_pairs(void **state)
{
	static const char text[] =
		"{\"name\":\"w\",\"netns\":{\"inode\":5},\"hooks\":[\"in\",\"out\"],"
		"\"labels\":{},\"policy\":null,\"ok\":true}";
	struct json_object *object = parsed(text, sizeof(text) - 1);

	(void)state;
	assert_rendered(pairs, object, false,
			"KEY          VALUE\n"
			"name         w\n"
			"netns.inode  5\n"
			"hooks        in, out\n"
			"policy       -\n"
			"ok           true\n");
	json_object_put(object);
}

/* A document of another shape prints less, and nothing worse. */
static void test_other_shapes(void **state)
{
	static const char *const texts[] = {"{}",
					    "[]",
					    "7",
					    "\"x\"",
					    "{\"namespaces\":[1]}",
					    "{\"namespaces\":{\"a\":1}}",
					    "{\"policies\":[1,null]}",
					    "{\"rules\":{\"a\":1},\"direction\":[],\"labels\":3}"};
	static render_fn *const renders[] = {render_list, render_totals, render_stats,
					     render_policies, pairs};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct json_object *object = parsed(texts[i], strlen(texts[i]));

		assert_non_null(object);
		for (size_t j = 0; j < sizeof(renders) / sizeof(*renders); j++) {
			char *text = NULL;
			size_t size;
			FILE *memory = open_memstream(&text, &size);

			assert_true(renders[j](object, memory, true));
			fclose(memory);
			free(text);
		}
		json_object_put(object);
	}
}

static bool two_columns(struct json_object *object, FILE *to, bool colour)
{
	static const char *const headings[] = {"A", ">N", "LAST", NULL};
	struct table *table = table_new(headings);

	(void)object;
	table_text(table, TABLE_TONE_GOOD, "h\xc3\xa4");
	table_number(table, 12);
	table_text(table, TABLE_TONE_BAD, "");
	table_text(table, TABLE_TONE_PLAIN, "long\tone");
	table_number(table, 0);
	table_text(table, TABLE_TONE_PLAIN,
		   "\xc2\x9b"
		   "2J");
	return table_print(table, to, colour);
}

static void test_table(void **state)
{
	(void)state;
	assert_rendered(two_columns, NULL, false,
			"A          N  LAST\n"
			"h\xc3\xa4        12  -\n"
			"long?one   0  ??2J\n");
	assert_rendered(two_columns, NULL, true,
			"A          N  LAST\n"
			"\033[32mh\xc3\xa4\033[0m        12  \033[31m-\033[0m\n"
			"long?one   0  ??2J\n");
}

static void test_document_is_one_document(void **state)
{
	static const char *const bad[] = {"", " ", "{", "{}{}", "{} x", "nope", "[1,]"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_null(parsed(bad[i], strlen(bad[i])));
	assert_null(parsed("{}\0", 3));
	assert_null(parsed(NULL, 0));
}

static void test_consumers(void **state)
{
	static const char text[] = "    0   4242     3 2 65531     0     0       17  1\n"
				   "rubbish\n"
				   "    7 4294963200     0 1     0     0     0        0  1\n"
				   "70000 1\n";
	struct consumer list[2];

	(void)state;
	assert_int_equal(consumers_parse(text, list, 2), 2);
	assert_int_equal(list[0].queue, 0);
	assert_int_equal(list[0].portid, 4242);
	assert_int_equal(list[1].queue, 7);
	assert_true(list[1].portid == 4294963200U);
	assert_int_equal(consumers_parse(text, list, 1), 2);
	assert_int_equal(consumers_parse("", list, 2), 0);
	assert_int_equal(consumers_parse("1 2", list, 2), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_totals),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_other_shapes),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_document_is_one_document),
		cmocka_unit_test(test_consumers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
