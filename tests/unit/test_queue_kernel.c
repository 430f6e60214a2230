/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's list of queues, from a file in its place. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "queue_kernel.h"

#define TEXT_BYTES 32768 /* several times what is read in one go */

static int file_of(const char *text)
{
	const int fd = memfd_create("queues", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static int read_lines(const char *text, uint16_t number, uint16_t stride, struct queue_lines *ret)
{
	const int fd = file_of(text);
	const int err = queue_kernel_read_lines(fd, number, stride, ret);

	close(fd);
	return err;
}

static int read_from(const char *text, uint16_t number, struct queue_kernel *ret)
{
	const int fd = file_of(text);
	const int err = queue_kernel_read(fd, number, 1, ret);

	close(fd);
	return err;
}

/* A line whose figures all say of which number it is: no two sums are alike. */
static size_t put_line(char *text, size_t used, unsigned int number)
{
	return used + (size_t)snprintf(text + used, TEXT_BYTES - used,
				       "%5u %6u %5u 2 %5u %5u %5u %8u  1\n", number, 4711U,
				       number + 1, 128U, number * 10, number * 100, number * 1000);
}

static void every_column_is_its_own(void **state)
{
	static const char text[] = "    6      1     0 0     0     0     0        0  1\n"
				   "    7   4711     2 2 65531     3     4 4294967295  1\n";
	struct queue_kernel kernel = {.portid = 0};

	(void)state;
	assert_int_equal(read_from(text, 7, &kernel), 0);
	assert_int_equal(kernel.portid, 4711);
	assert_int_equal(kernel.pending, 2);
	assert_int_equal(kernel.copy_mode, 2);
	assert_int_equal(kernel.copy_range, 65531);
	assert_int_equal(kernel.dropped, 3);
	assert_int_equal(kernel.user_dropped, 4);
	assert_int_equal(kernel.id_sequence, UINT32_MAX);
}

static void what_is_no_line_of_the_queue_is_not_taken_for_one(void **state)
{
	static const char *const texts[] = {
		"",
		"    7\n",
		"    7   4711     2 2 65531     3     4\n",
		"   77   4711     2 2 65531     3     4        9  1\n",
		"    6   4711     2 2 65531     3     4        9  1\n",
		"   20   4711     2 2 65531     3     4        9  1\n", /* one behind the last */
		"    7   4711     x 2 65531     3     4        9  1\n",
		"65543   4711     2 2 65531     3     4        9  1\n",
		"    7   4711     2 2 65531     3     4        9  1", /* not ended */
	};
	struct queue_kernel kernel = {.portid = 5};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(read_from(texts[i], 7, &kernel), -ENOENT);
	assert_int_equal(kernel.portid, 5);
}

/* Three queues in a row, with lines of others before, after and in between. */
static void a_queue_is_every_so_manieth_line(void **state)
{
	static char text[TEXT_BYTES];
	const unsigned int stride = 3, first = 40;
	size_t used = 0;

	(void)state;
	for (unsigned int number = 0; number < 2 * first + stride * NSGATE_FLOW_MAX; number++)
		used = put_line(text, used, number);
	for (unsigned int i = 0; i < stride; i++) {
		struct queue_lines lines = {.sum = {0}};
		uint32_t numbers = 0;

		assert_int_equal(read_lines(text, (uint16_t)(first + i), (uint16_t)stride, &lines),
				 0);
		for (unsigned int flow = 0; flow < NSGATE_FLOW_MAX; flow++) {
			const uint32_t number = first + i + flow * stride;

			assert_int_equal(lines.pending[flow], number + 1);
			assert_int_equal(lines.id_sequence[flow], number * 1000);
			numbers += number;
		}
		assert_int_equal(lines.sum.pending, numbers + NSGATE_FLOW_MAX);
		assert_int_equal(lines.sum.dropped, numbers * 10);
		assert_int_equal(lines.sum.user_dropped, numbers * 100);
		assert_int_equal(lines.sum.id_sequence, numbers * 1000);
		assert_int_equal(lines.sum.portid, 4711);
		assert_int_equal(lines.sum.copy_mode, 2);
		assert_int_equal(lines.sum.copy_range, 128);
	}
}

/* Some of the numbers are bound: the others count nothing; and ids are added modulo 2^32. */
static void numbers_that_nobody_has_bound_are_zero(void **state)
{
	static const char text[] =
		"    5      1     1 2   128     1     1        1  1\n"
		"    7   4711     2 2   128     3     4 4294967295  1\n"
		"    8      9     8 2   128     8     8        8  1\n" /* another queue's */
		"    9   4711     5 2   128     6     7        9  1\n";
	struct queue_lines lines;

	(void)state;
	assert_int_equal(read_lines(text, 7, 2, &lines), 0);
	assert_int_equal(lines.pending[0], 2);
	assert_int_equal(lines.pending[1], 5);
	assert_int_equal(lines.id_sequence[0], UINT32_MAX);
	assert_int_equal(lines.id_sequence[1], 9);
	for (unsigned int flow = 2; flow < NSGATE_FLOW_MAX; flow++)
		assert_int_equal(lines.pending[flow] + lines.id_sequence[flow], 0);
	assert_int_equal(lines.sum.pending, 7);
	assert_int_equal(lines.sum.dropped, 9);
	assert_int_equal(lines.sum.user_dropped, 11);
	assert_int_equal(lines.sum.id_sequence, 8);
	/* Its first number need not be there. */
	assert_int_equal(read_lines(text, 3, 2, &lines), 0);
	assert_int_equal(lines.pending[0], 0);
	assert_int_equal(lines.pending[3], 5);
	assert_int_equal(lines.sum.pending, 8);
}

/* Behind the last number there is none: the row must not be looked for at the beginning. */
static void numbers_do_not_wrap(void **state)
{
	static const char text[] = "    3      1     1 2   128     1     1        1  1\n"
				   "65535      1     2 2   128     1     1        1  1\n";
	struct queue_kernel kernel;

	(void)state;
	assert_int_equal(read_from(text, 65530, &kernel), 0);
	assert_int_equal(kernel.pending, 2);
}

static void the_last_of_many_is_found(void **state)
{
	static char text[TEXT_BYTES];
	struct queue_kernel kernel = {.portid = 0};
	size_t used = 0;

	(void)state;
	for (unsigned int i = 0; i < 300; i++)
		used = put_line(text, used, i);
	assert_int_equal(read_from(text, 299, &kernel), 0);
	assert_int_equal(kernel.pending, 300);
	assert_int_equal(kernel.id_sequence, 299000);
	assert_int_equal(read_from(text, 300, &kernel), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_column_is_its_own),
		cmocka_unit_test(what_is_no_line_of_the_queue_is_not_taken_for_one),
		cmocka_unit_test(a_queue_is_every_so_manieth_line),
		cmocka_unit_test(numbers_that_nobody_has_bound_are_zero),
		cmocka_unit_test(numbers_do_not_wrap),
		cmocka_unit_test(the_last_of_many_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
