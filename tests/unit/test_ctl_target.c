// SPDX-License-Identifier: GPL-2.0-or-later
/* TARGET of nsgatectl attach: parsing, and opening what is and what is not a namespace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/target.h"

static void test_good_targets(void **state)
{
	static const struct {
		const char *text;
		enum nsgate_target_kind kind;
		const char *name, *path;
	} cases[] = {
		{"netns:web", NSGATE_TARGET_NETNS, "web", "/run/netns/web"},
		{"pid:17", NSGATE_TARGET_PID, "pid-17", ""},
		{"path:/var/run/ns/a.b", NSGATE_TARGET_PATH, "a.b", "/var/run/ns/a.b"},
		{"self", NSGATE_TARGET_SELF, "self", "/proc/self/ns/net"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct failure fail = {0};
		struct target target;

		assert_int_equal(target_parse(cases[i].text, &target, &fail), NSGATE_STATUS_OK);
		assert_int_equal(target.kind, cases[i].kind);
		assert_string_equal(target.text, cases[i].text);
		assert_string_equal(target.name, cases[i].name);
		assert_string_equal(target.path, cases[i].path);
	}
}

static void test_bad_targets_are_usage_errors(void **state)
{
	static const char *const cases[] = {
		"",	     "web",	  "netns:",	"netns:a/b",
		"netns:..",  "netns:.",	  "pid:",	"pid:0",
		"pid:-1",    "pid:1x",	  "pid: 1",	"pid:4294967297",
		"path:",     "path:rel",  "selfish",	"podman:-x",
		"docker:..", "Netns:web", "path:/a\nb", "netns:\x1b[31m",
	};
	char longest[NSGATE_TARGET_MAX + 8];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct failure fail = {0};
		struct target target;

		assert_int_equal(target_parse(cases[i], &target, &fail), NSGATE_STATUS_USAGE);
		assert_string_not_equal(fail.text, "");
		assert_null(strchr(fail.text, '\n'));
		assert_null(strchr(fail.text, '\x1b'));
	}

	memset(longest, 'a', sizeof(longest));
	memcpy(longest, "path:/", 6);
	for (size_t length = NSGATE_TARGET_MAX - 1; length <= NSGATE_TARGET_MAX; length++) {
		struct failure fail = {0};
		struct target target;

		longest[length] = '\0';
		assert_int_equal(target_parse(longest, &target, &fail),
				 length < NSGATE_TARGET_MAX ? NSGATE_STATUS_OK
							    : NSGATE_STATUS_USAGE);
		longest[length] = 'a';
	}
}

static enum nsgate_status try_open(const char *text)
{
	struct failure fail = {0};
	struct target target;
	enum nsgate_status status;
	int fd = -1;

	assert_int_equal(target_parse(text, &target, &fail), NSGATE_STATUS_OK);
	status = target_open(&target, &fd, &fail);
	if (status == NSGATE_STATUS_OK) {
		assert_true(fd >= 0);
		close(fd);
	} else {
		assert_int_equal(fd, -1);
		assert_string_not_equal(fail.text, "");
	}
	return status;
}

/* Linux says it since 4.11. */
static bool namespaces_have_types(void)
{
	const int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	bool have;

	assert_true(fd >= 0);
	have = ioctl(fd, NS_GET_NSTYPE) >= 0 || (errno != ENOTTY && errno != ENOSYS);
	close(fd);
	return have;
}

static void test_opening(void **state)
{
	char directory[] = "/tmp/nsgate-test-XXXXXX", fifo[64], text[128];
	pid_t child;

	(void)state;
	if (!namespaces_have_types()) {
		print_message("skipped: qemu's user mode does not say what a namespace is\n");
		skip();
	}
	assert_int_equal(try_open("self"), NSGATE_STATUS_OK);
	assert_int_equal(try_open("path:/proc/self/ns/net"), NSGATE_STATUS_OK);
	snprintf(text, sizeof(text), "pid:%d", (int)getpid());
	assert_int_equal(try_open(text), NSGATE_STATUS_OK);

	assert_int_equal(try_open("netns:nsgate-no-such"), NSGATE_STATUS_NOT_FOUND);
	assert_int_equal(try_open("path:/no/such"), NSGATE_STATUS_NOT_FOUND);
	assert_int_equal(try_open("path:/proc/self/ns/uts"), NSGATE_STATUS_USAGE);
	assert_int_equal(try_open("path:/proc/version"), NSGATE_STATUS_USAGE);
	assert_int_equal(try_open("path:/dev/zero"), NSGATE_STATUS_USAGE);
	assert_int_equal(try_open("path:/"), NSGATE_STATUS_USAGE);

	assert_non_null(mkdtemp(directory));
	snprintf(fifo, sizeof(fifo), "%s/fifo", directory);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	snprintf(text, sizeof(text), "path:%s", fifo);
	assert_int_equal(try_open(text), NSGATE_STATUS_USAGE); /* and does not block */
	unlink(fifo);
	rmdir(directory);

	child = fork();
	if (child == 0)
		_exit(0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	snprintf(text, sizeof(text), "pid:%d", (int)child);
	assert_int_equal(try_open(text), NSGATE_STATUS_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_targets),
		cmocka_unit_test(test_bad_targets_are_usage_errors),
		cmocka_unit_test(test_opening),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
