/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions to nsgate-enter that come to nothing. This program is nsgate-enter, too. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/enter.h"
#include "program.h"
#include "fdmsg.h"
#include "loop.h"

int program_find(const char *name, char *ret, size_t size)
{
	(void)name;
	return snprintf(ret, size, "/proc/self/exe") < (int)size ? 0 : -ENOENT;
}

/* Answers one question with a descriptor, and ends. */
static int be_enter(void)
{
	struct nsgate_enter_request request;
	struct nsgate_enter_answer answer = {.id = 0};
	struct fdmsg about;
	int err, fd, asked;

	while (getenv("NSGATE_TEST_HANGS"))
		if (fdmsg_receive(NSGATE_ENTER_FD, &request, sizeof(request), &asked, 1, 0,
				  &about) < 0 ||
		    !about.length)
			return 0;
	if (fdmsg_receive(NSGATE_ENTER_FD, &request, sizeof(request), &asked, 1, 0, &about) < 0)
		return 1;
	answer.id = request.id;
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	err = fdmsg_send(NSGATE_ENTER_FD, &answer, sizeof(answer), &fd, 1);
	close(fd);
	return err < 0;
}

static int taken = -1, error;

static void take(struct enter_pending *pending, int err, struct enter_result *result)
{
	(void)pending;
	error = err;
	if (!err)
		taken = result->fds[0];
}

/* An emulator runs this program, and the kernel would have to run the one that it starts. */
static void skip_where_emulated(void)
{
	if (getenv("NSGATE_RUNNER"))
		skip();
}

static void what_was_taken_is_not_closed_with_a_later_question(void **state)
{
	const struct enter_question question = {.op = NSGATE_ENTER_RESOLVE, .fd = -1, .path = "/"};
	struct enter_pending pending = {.state = ENTER_IDLE};
	int status;

	(void)state;
	skip_where_emulated();
	assert_int_equal(enter_start(), 0);
	enter_ask(&pending, &question, take);
	enter_wait();
	enter_tick();
	assert_int_equal(error, 0);
	assert_return_code(fcntl(taken, F_GETFD), errno);
	assert_return_code(wait(&status), errno);
	assert_int_equal(status, 0);

	enter_ask(&pending, &question, take); /* there is nobody to send it to any more */
	assert_int_equal(enter_timeout_ms(), 0);
	enter_forget(&pending);
	assert_return_code(fcntl(taken, F_GETFD), errno);
	close(taken);
	enter_stop();
}

static void ignore_end(void)
{
}

/* Who waits in the loop is asked by a watchdog whether it lives, every few seconds. */
static void what_hangs_is_waited_for_once_and_not_for_long(void **state)
{
	const struct enter_question question = {.op = NSGATE_ENTER_PROCESS, .fd = -1};
	struct enter_result result;
	int64_t began;
	int status;

	(void)state;
	skip_where_emulated();
	assert_return_code(setenv("NSGATE_TEST_HANGS", "1", 1), errno);
	assert_int_equal(loop_open(), 0);
	assert_int_equal(enter_start(), 0);
	assert_int_equal(enter_watch(ignore_end), 0);
	began = loop_now_ms();
	for (int i = 0; i < 20; i++)
		assert_int_equal(enter_call(&question, &result), -ETIMEDOUT);
	assert_in_range(loop_now_ms() - began, 1000, 9000);
	enter_stop();
	loop_close();
	assert_return_code(wait(&status), errno);
	assert_return_code(unsetenv("NSGATE_TEST_HANGS"), errno);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_taken_is_not_closed_with_a_later_question),
		cmocka_unit_test(what_hangs_is_waited_for_once_and_not_for_long),
	};

	if (argc == 1 && strcmp(argv[0], "nsgate-enter") == 0)
		return be_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
