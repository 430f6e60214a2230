// SPDX-License-Identifier: GPL-2.0-or-later
/* The store against a real directory: what a person, an editor or a ConfigMap does to it. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"
#include "agent/store/store.h"
#include "agent/store/good.h"

#define GOOD "{\"version\":1,\"default\":\"drop\",\"rules\":[]}"
#define OTHER "{\"version\":1,\"default\":\"accept\",\"rules\":[]}"
#define BAD "{\"version\":1,\"default\":\"drop\",\"rulez\":[]}"
#define DEADLINE_MS 5000

static char root[64], dir[96];

/* What the store told of, in order. */
static struct {
	unsigned int count;
	char name[NSGATE_NAME_MAX];
	struct policy *policy;
} told;

static void on_change(const char *name, struct policy *policy)
{
	told.count++;
	snprintf(told.name, sizeof(told.name), "%s", name);
	told.policy = policy;
}

static void in_dir(const char *name, char *ret, size_t size)
{
	snprintf(ret, size, "%s/%s", dir, name);
}

static void write_file(const char *name, const char *text)
{
	char path[256];
	FILE *file;

	in_dir(name, path, sizeof(path));
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static void remove_file(const char *name)
{
	char path[256];

	in_dir(name, path, sizeof(path));
	assert_int_equal(unlink(path), 0);
}

static void rename_file(const char *from, const char *to)
{
	char one[256], other[256];

	in_dir(from, one, sizeof(one));
	in_dir(to, other, sizeof(other));
	assert_int_equal(rename(one, other), 0);
}

static void open_store(void)
{
	told.count = 0;
	assert_int_equal(store_open(root, getuid(), getgid(), on_change), 0);
	store_load();
}

static bool readable(int timeout_ms)
{
	struct pollfd pfd = {.fd = store_inotify_fd(), .events = POLLIN};

	return poll(&pfd, 1, timeout_ms) == 1;
}

/* As the control loop would, until `count` changes were told. */
static void follow(unsigned int count)
{
	while (told.count < count) {
		assert_true(readable(DEADLINE_MS));
		store_reload();
	}
	assert_int_equal(told.count, count);
}

/* Everything that is waiting, and what follows from it within the grace. */
static void follow_all(void)
{
	while (readable(2 * STORE_GRACE_MS))
		store_reload();
}

static const char *source_of(const char *name)
{
	const struct store_entry *entry = store_find(name);
	size_t length;

	return entry && entry->policy ? policy_source(entry->policy, &length) : NULL;
}

static int setup(void **state)
{
	(void)state;
	/* In memory where that goes: thousands of files are written, each to be safe on disk. */
	strcpy(root, access("/dev/shm", W_OK) < 0 ? "/tmp/nsgate-store-XXXXXX"
						  : "/dev/shm/nsgate-store-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(dir, sizeof(dir), "%s/policies", root);
	return mkdir(dir, 0755);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	(void)st;
	(void)type;
	(void)walk;
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	store_close();
	store_good_close();
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- loading ---- */

static void loads_what_is_there(void **state)
{
	(void)state;
	write_file("web.json", GOOD);
	write_file("a.json", OTHER);
	write_file(".hidden.json", GOOD);
	write_file("web.json~", BAD);
	write_file("not a name.json", BAD);
	write_file("README", "text");
	open_store();
	assert_string_equal(store_first()->name, "a");
	assert_string_equal(store_first()->next->name, "web");
	assert_null(store_first()->next->next);
	assert_string_equal(source_of("web"), GOOD);
	assert_int_equal(store_find("web")->revision, 1);
	assert_null(store_find("we"));
	assert_null(store_find("webb"));
	assert_int_equal(told.count, 0);
}

static void makes_the_directory(void **state)
{
	(void)state;
	assert_int_equal(rmdir(dir), 0);
	open_store();
	assert_null(store_first());
	write_file("web.json", GOOD);
	follow(1);
}

static void keeps_bad_files_as_problems(void **state)
{
	char path[256];

	(void)state;
	write_file("bad.json", BAD);
	write_file("empty.json", "");
	write_file("text.json", "not json");
	in_dir("fifo.json", path, sizeof(path));
	assert_int_equal(mkfifo(path, 0644), 0);
	in_dir("dir.json", path, sizeof(path));
	assert_int_equal(mkdir(path, 0755), 0);
	in_dir("dangling.json", path, sizeof(path));
	assert_int_equal(symlink("nowhere", path), 0);
	in_dir("loop.json", path, sizeof(path));
	assert_int_equal(symlink("loop.json", path), 0);
	write_file("huge.json", "");
	in_dir("huge.json", path, sizeof(path));
	assert_int_equal(truncate(path, NSGATE_POLICY_BYTES_MAX + 1), 0);
	open_store();
	for (const char *const *name = (const char *const[]){"bad", "empty", "text", "fifo", "dir",
							     "dangling", "loop", "huge", NULL};
	     *name; name++) {
		const struct store_entry *entry = store_find(*name);

		assert_non_null(entry);
		assert_null(entry->policy);
		assert_true(strlen(entry->problem) > 0);
		assert_int_equal(entry->revision, 0);
	}
	assert_non_null(strstr(store_find("bad")->problem, "/rulez"));
	assert_non_null(strstr(store_find("huge")->problem, "1048576"));
}

static void refuses_a_file_as_directory(void **state)
{
	(void)state;
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(close(creat(dir, 0644)), 0);
	assert_int_equal(store_open(root, getuid(), getgid(), on_change), -ENOTDIR);
	assert_int_equal(store_inotify_fd(), -1);
}

/* ---- following the directory ---- */

static void tells_of_new_and_changed_files(void **state)
{
	(void)state;
	open_store();
	write_file("web.json", GOOD);
	follow(1);
	assert_string_equal(told.name, "web");
	assert_ptr_equal(told.policy, store_find("web")->policy);
	write_file("web.json", OTHER);
	follow(2);
	assert_string_equal(source_of("web"), OTHER);
	assert_int_equal(store_find("web")->revision, 2);
	write_file("web.json", OTHER);
	follow_all();
	assert_int_equal(told.count, 2);
}

/* Same size, within one tick of the clock. */
static void sees_a_change_that_looks_like_none(void **state)
{
	static const char one[] = "{\"version\":1,\"name\":\"a\",\"rules\":[]}";
	static const char other[] = "{\"version\":1,\"name\":\"b\",\"rules\":[]}";
	(void)state;
	open_store();
	for (unsigned int i = 1; i <= 20; i++) {
		write_file("web.json", i % 2 ? one : other);
		follow(i);
	}
}

static void a_bad_change_keeps_the_old(void **state)
{
	struct policy *before;

	(void)state;
	write_file("web.json", GOOD);
	open_store();
	before = store_find("web")->policy;
	write_file("web.json", BAD);
	follow_all();
	assert_int_equal(told.count, 0);
	assert_ptr_equal(store_find("web")->policy, before);
	assert_true(strlen(store_find("web")->problem) > 0);
	write_file("web.json", GOOD);
	follow_all();
	assert_int_equal(told.count, 0);
	assert_string_equal(store_find("web")->problem, "");
	write_file("web.json", OTHER);
	follow(1);
}

static unsigned int problems_told;
static char last_problem[NSGATE_TEXT_MAX];

static void on_problem(const char *name, const char *problem)
{
	assert_string_equal(name, "web");
	problems_told++;
	snprintf(last_problem, sizeof(last_problem), "%s", problem ? problem : "");
}

static void a_bad_file_is_told_once_and_when_it_is_over(void **state)
{
	struct policy_problems problems = {.count = 0};

	(void)state;
	problems_told = 0;
	write_file("web.json", GOOD);
	open_store();
	store_on_problem(on_problem);
	write_file("web.json", BAD);
	follow_all();
	assert_int_equal(problems_told, 1);
	assert_non_null(strstr(last_problem, "rulez"));
	assert_int_equal(store_bad(), 1);
	assert_string_equal(store_problem("web"), last_problem);
	assert_null(store_problem("other"));
	write_file("web.json", BAD);
	follow_all();
	assert_int_equal(problems_told, 1);
	assert_int_equal(store_put("web", OTHER, strlen(OTHER), &problems), 0);
	assert_int_equal(problems_told, 2);
	assert_string_equal(last_problem, "");
	assert_int_equal(store_bad(), 0);
	write_file("web.json", BAD);
	follow_all();
	remove_file("web.json");
	follow_all();
	assert_int_equal(store_bad(), 0);
	assert_null(store_problem("web"));
	store_on_problem(NULL);
}

static void a_half_written_file_does_no_harm(void **state)
{
	char path[256];
	int fd;

	(void)state;
	write_file("web.json", GOOD);
	open_store();
	in_dir("web.json", path, sizeof(path));
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, OTHER, 20), 20);
	write_file("unrelated.json", GOOD); /* makes the store look at everything */
	follow(1);
	assert_string_equal(source_of("web"), GOOD);
	assert_int_equal(write(fd, &OTHER[20], strlen(OTHER) - 20), strlen(OTHER) - 20);
	assert_int_equal(close(fd), 0);
	follow(2);
	assert_string_equal(source_of("web"), OTHER);
}

static void tells_of_removed_files(void **state)
{
	(void)state;
	write_file("web.json", GOOD);
	write_file("bad.json", BAD);
	open_store();
	remove_file("web.json");
	remove_file("bad.json");
	follow(1);
	assert_string_equal(told.name, "web");
	assert_null(told.policy);
	assert_null(store_find("web"));
	assert_null(store_find("bad"));
}

static void replacing_in_two_steps_is_no_removal(void **state)
{
	(void)state;
	write_file("web.json", GOOD);
	open_store();
	rename_file("web.json", "web.json~");
	store_reload();
	assert_string_equal(source_of("web"), GOOD);
	write_file("web.json", OTHER);
	follow(1);
	assert_non_null(told.policy);
	follow_all();
	assert_int_equal(told.count, 1);
	assert_string_equal(source_of("web"), OTHER);
}

static void renaming_over_is_a_change(void **state)
{
	(void)state;
	write_file("web.json", GOOD);
	open_store();
	write_file("web.json.tmp", OTHER);
	rename_file("web.json.tmp", "web.json");
	follow(1);
	assert_string_equal(source_of("web"), OTHER);
}

/* NAME.json -> ..data/NAME.json, ..data -> ..VERSION; an update swaps ..data. */
static void follows_the_swap_of_a_config_map(void **state)
{
	char path[256], from[256];

	(void)state;
	in_dir("..1", path, sizeof(path));
	assert_int_equal(mkdir(path, 0755), 0);
	in_dir("..2", path, sizeof(path));
	assert_int_equal(mkdir(path, 0755), 0);
	write_file("..1/web.json", GOOD);
	write_file("..2/web.json", OTHER);
	write_file("..1/same.json", GOOD);
	write_file("..2/same.json", GOOD);
	in_dir("..data", path, sizeof(path));
	assert_int_equal(symlink("..1", path), 0);
	in_dir("web.json", path, sizeof(path));
	assert_int_equal(symlink("..data/web.json", path), 0);
	in_dir("same.json", path, sizeof(path));
	assert_int_equal(symlink("..data/same.json", path), 0);
	open_store();
	assert_string_equal(source_of("web"), GOOD);
	in_dir("..data_tmp", from, sizeof(from));
	assert_int_equal(symlink("..2", from), 0);
	rename_file("..data_tmp", "..data");
	follow(1);
	assert_string_equal(told.name, "web");
	assert_string_equal(source_of("web"), OTHER);
	follow_all();
	assert_int_equal(told.count, 1);
	assert_int_equal(store_find("same")->revision, 1);
}

static void a_removed_directory_keeps_all(void **state)
{
	(void)state;
	write_file("web.json", GOOD);
	open_store();
	remove_file("web.json");
	assert_int_equal(rmdir(dir), 0);
	follow_all();
	store_reload();
	assert_int_equal(told.count, 0);
	assert_string_equal(source_of("web"), GOOD);
}

/* ---- changes over the API ---- */

static int put(const char *name, const char *text, struct policy_problems *problems)
{
	*problems = (struct policy_problems){.count = 0};
	return store_put(name, text, strlen(text), problems);
}

static void puts_and_replaces(void **state)
{
	struct policy_problems problems;
	char text[256] = "", path[256];
	FILE *file;

	(void)state;
	open_store();
	assert_int_equal(put("web", GOOD, &problems), 1);
	assert_int_equal(put("web", OTHER, &problems), 0);
	assert_int_equal(put("a", GOOD, &problems), 1);
	assert_string_equal(store_first()->name, "a");
	assert_string_equal(source_of("web"), OTHER);
	assert_int_equal(store_find("web")->revision, 2);
	in_dir("web.json", path, sizeof(path));
	file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_string_equal(text, OTHER);
	follow_all(); /* our own writing is no news */
	assert_int_equal(told.count, 0);
	assert_int_equal(store_find("web")->revision, 2);
}

/* In the same moment: what is known of the file is what was written, not what was read before. */
static void a_file_put_back_right_after_a_put_is_read(void **state)
{
	struct policy_problems problems;
	char path[256], kept[256];

	(void)state;
	write_file("web.json", GOOD);
	open_store();
	in_dir("web.json", path, sizeof(path));
	in_dir("web.kept", kept, sizeof(kept));
	for (unsigned int i = 1; i <= 3; i++) {
		assert_int_equal(link(path, kept), 0);
		assert_int_equal(put("web", OTHER, &problems), 0);
		if (i == 3) /* the very file, with all that it looks like */
			rename_file("web.kept", "web.json");
		else
			write_file("web.json", GOOD);
		follow(i);
		assert_string_equal(source_of("web"), GOOD);
		(void)unlink(kept);
	}
}

static void make_policies(unsigned int from, unsigned int to)
{
	char name[32];

	for (unsigned int i = from; i < to; i++) {
		snprintf(name, sizeof(name), "p%05u.json", i);
		write_file(name, GOOD);
	}
}

/* Names before and after all others; none of those that are there has to go. */
static void refuses_a_policy_too_many(void **state)
{
	struct policy_problems problems;
	const char *first;

	(void)state;
	make_policies(0, STORE_POLICIES_MAX);
	open_store();
	assert_int_equal(store_refused(&first), 0);
	assert_null(first);
	write_file("zz.json", OTHER);
	write_file("aa.json", OTHER);
	follow_all();
	assert_int_equal(told.count, 0);
	assert_null(store_find("aa"));
	assert_null(store_find("zz"));
	assert_int_equal(store_refused(&first), 2);
	assert_string_equal(first, "aa");
	for (unsigned int i = 0; i < STORE_POLICIES_MAX; i += 455) {
		char name[32];

		snprintf(name, sizeof(name), "p%05u", i);
		assert_non_null(source_of(name));
	}
	assert_int_equal(put("another", GOOD, &problems), -E2BIG);
	assert_int_equal(put("p00007", OTHER, &problems), 0);
	/* Two go: those that were refused come in, without another change, before or after them. */
	remove_file("p03000.json");
	follow_all();
	assert_null(store_find("p03000"));
	assert_int_equal(store_refused(&first), 1);
	remove_file("p03001.json");
	follow_all();
	assert_int_equal(store_refused(&first), 0);
	assert_string_equal(source_of("aa"), OTHER);
	assert_string_equal(source_of("zz"), OTHER);
}

/* ---- the last good version ---- */

static void open_with_last_good(void)
{
	assert_int_equal(store_good_open(root, getuid(), getgid()), 0);
	open_store();
}

/* As an agent that ends, and the next one. */
static void restart(void)
{
	store_close();
	store_good_close();
	open_with_last_good();
}

static void the_last_good_version_outlives_a_restart(void **state)
{
	struct policy_problems problems;
	char path[256];

	(void)state;
	write_file("web.json", GOOD);
	write_file("new.json", BAD);
	open_with_last_good();
	assert_int_equal(put("put", GOOD, &problems), 1);
	assert_int_equal(put("put", OTHER, &problems), 0);
	write_file("web.json", OTHER);
	follow(1);
	write_file("web.json", BAD);
	follow_all();
	store_close();
	write_file("put.json", "{");
	restart();
	assert_string_equal(source_of("web"), OTHER);
	assert_non_null(strstr(store_find("web")->problem, "rulez"));
	assert_string_equal(source_of("put"), OTHER);
	assert_null(source_of("new"));
	assert_int_equal(store_bad(), 3);
	restart(); /* and another */
	assert_string_equal(source_of("web"), OTHER);

	write_file("web.json", GOOD);
	follow(1);
	assert_string_equal(store_find("web")->problem, "");
	assert_string_equal(source_of("web"), GOOD);
	in_dir("web.json", path, sizeof(path)); /* a link that leads nowhere */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("nowhere.json", path), 0);
	restart();
	assert_string_equal(source_of("web"), GOOD);
}

static void what_was_removed_does_not_come_back(void **state)
{
	(void)state;
	write_file("web.json", GOOD);
	write_file("away.json", GOOD);
	write_file("deleted.json", GOOD);
	open_with_last_good();
	remove_file("web.json");
	follow(1);
	assert_int_equal(store_delete("deleted"), 0);
	store_close();
	remove_file("away.json");
	restart();
	assert_null(store_first());
	store_close();
	write_file("web.json", BAD);
	write_file("away.json", BAD);
	write_file("deleted.json", BAD);
	restart();
	assert_null(source_of("web"));
	assert_null(source_of("away"));
	assert_null(source_of("deleted"));
}

static void a_copy_that_is_bad_is_no_policy(void **state)
{
	char path[256];
	FILE *file;

	(void)state;
	write_file("web.json", GOOD);
	open_with_last_good();
	store_close();
	write_file("web.json", BAD);
	snprintf(path, sizeof(path), "%s/last-good/web.json", root);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(BAD, file);
	fclose(file);
	restart();
	assert_null(source_of("web"));
}

/* The file more that came while no agent ran takes nobody's place, whatever its name. */
static void those_in_force_come_before_a_policy_too_many(void **state)
{
	const char *first;

	(void)state;
	make_policies(0, STORE_POLICIES_MAX);
	open_with_last_good();
	store_close();
	write_file("aa.json", OTHER);
	restart();
	assert_null(store_find("aa"));
	assert_int_equal(store_refused(&first), 1);
	assert_non_null(source_of("p00000"));
	assert_non_null(source_of("p04095"));
}

static void without_a_place_nothing_is_kept(void **state)
{
	(void)state;
	assert_int_equal(store_good_open("/proc/nowhere", getuid(), getgid()), -ENOENT);
	write_file("web.json", GOOD);
	open_store();
	store_close();
	write_file("web.json", BAD);
	open_store();
	assert_null(source_of("web"));
}

static void refuses_bad_documents(void **state)
{
	struct policy_problems problems;
	char path[256];

	(void)state;
	open_store();
	assert_int_equal(put("web", BAD, &problems), -EINVAL);
	assert_true(problems.count > 0);
	policy_problems_free(&problems);
	assert_null(store_find("web"));
	in_dir("web.json", path, sizeof(path));
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(put("web", GOOD, &problems), 1);
	assert_int_equal(put("web", BAD, &problems), -EINVAL);
	policy_problems_free(&problems);
	assert_string_equal(source_of("web"), GOOD);
	assert_int_equal(put("../evil", GOOD, &problems), -ENOENT);
}

static void a_put_heals_a_bad_file(void **state)
{
	struct policy_problems problems;

	(void)state;
	write_file("web.json", BAD);
	open_store();
	assert_int_equal(put("web", GOOD, &problems), 0);
	assert_string_equal(store_find("web")->problem, "");
	assert_string_equal(source_of("web"), GOOD);
}

static void a_put_that_cannot_be_written_changes_nothing(void **state)
{
	struct policy_problems problems;
	char path[256];

	(void)state;
	write_file("web.json", GOOD);
	open_store();
	in_dir("new.json", path, sizeof(path));
	assert_int_equal(mkdir(path, 0755), 0); /* nothing can be renamed over it */
	assert_int_equal(put("new", GOOD, &problems), -EISDIR);
	assert_null(source_of("new"));
	in_dir(".put.tmp", path, sizeof(path));
	assert_int_equal(access(path, F_OK), -1);
}

static void deletes(void **state)
{
	char path[256];

	(void)state;
	write_file("web.json", GOOD);
	open_store();
	assert_int_equal(store_delete("none"), -ENOENT);
	assert_int_equal(store_delete("web"), 0);
	assert_null(store_find("web"));
	in_dir("web.json", path, sizeof(path));
	assert_int_equal(access(path, F_OK), -1);
	follow_all();
	assert_int_equal(told.count, 0);
	write_file("web.json", GOOD);
	follow(1);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(loads_what_is_there),
		STORE_TEST(makes_the_directory),
		STORE_TEST(keeps_bad_files_as_problems),
		STORE_TEST(refuses_a_file_as_directory),
		STORE_TEST(tells_of_new_and_changed_files),
		STORE_TEST(sees_a_change_that_looks_like_none),
		STORE_TEST(a_bad_change_keeps_the_old),
		STORE_TEST(a_bad_file_is_told_once_and_when_it_is_over),
		STORE_TEST(a_half_written_file_does_no_harm),
		STORE_TEST(tells_of_removed_files),
		STORE_TEST(replacing_in_two_steps_is_no_removal),
		STORE_TEST(renaming_over_is_a_change),
		STORE_TEST(follows_the_swap_of_a_config_map),
		STORE_TEST(a_removed_directory_keeps_all),
		STORE_TEST(puts_and_replaces),
		STORE_TEST(a_file_put_back_right_after_a_put_is_read),
		STORE_TEST(refuses_a_policy_too_many),
		STORE_TEST(the_last_good_version_outlives_a_restart),
		STORE_TEST(what_was_removed_does_not_come_back),
		STORE_TEST(a_copy_that_is_bad_is_no_policy),
		STORE_TEST(those_in_force_come_before_a_policy_too_many),
		STORE_TEST(without_a_place_nothing_is_kept),
		STORE_TEST(refuses_bad_documents),
		STORE_TEST(a_put_heals_a_bad_file),
		STORE_TEST(a_put_that_cannot_be_written_changes_nothing),
		STORE_TEST(deletes),
	};

	log_setup("test", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
