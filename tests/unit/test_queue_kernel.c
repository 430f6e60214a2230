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

static int read_from(const char *text, uint16_t number, struct queue_kernel *ret)
{
	const int fd = memfd_create("queues", MFD_CLOEXEC);
	int err;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	err = queue_kernel_read(fd, number, ret);
	close(fd);
	return err;
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

static void the_last_of_many_is_found(void **state)
{
	static char text[300 * 64];
	struct queue_kernel kernel = {.portid = 0};
	size_t used = 0;

	(void)state;
	for (unsigned int i = 0; i < 300; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "%5u %6u %5u 2 65531     0     0 %8u  1\n", i, 1U, i,
					 i * 3);
	assert_int_equal(read_from(text, 299, &kernel), 0);
	assert_int_equal(kernel.pending, 299);
	assert_int_equal(kernel.id_sequence, 897);
	assert_int_equal(read_from(text, 300, &kernel), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_column_is_its_own),
		cmocka_unit_test(what_is_no_line_of_the_queue_is_not_taken_for_one),
		cmocka_unit_test(the_last_of_many_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
