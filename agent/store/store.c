// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * The directory is the truth, the list of entries follows it. Whatever inotify reports, even a
 * change of a dot file (a ConfigMap's `..data` link is one), the whole directory is looked
 * through; what is read of it is decided by comparing content, so our own writes and links that
 * were swapped for the same text change nothing.
 *
 * A file that is bad, unreadable or half written keeps the policy in force and is reported once
 * per change. A file that is gone takes its policy with it, after a grace: removing and creating
 * again is how many programs replace a file, and a namespace should not be without policy for it.
 *
 * Of each policy the last good version is kept elsewhere (agent/store/good.h), and a start that
 * finds its file bad takes that one.
 *
 * There are STORE_POLICIES_MAX policies at most. A file more is refused: those that are in force
 * stay, whatever the names are.
 *
 * What could not be read or compiled for want of memory or descriptors is tried again by itself:
 * nothing changes in the directory when there are some again.
 */
#include "agent/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "name.h"
#include "agent/store/file.h"
#include "agent/store/good.h"
#include "loop.h"

#define SUBDIRECTORY "policies"
#define WATCHED                                                                                    \
	(IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_CREATE |        \
	 IN_ONLYDIR)

static struct store_entry *entries; /* sorted by name */
static size_t entry_count;
static size_t bad_count; /* entries with a problem */
static store_changed_fn *changed_fn;
static store_problem_fn *problem_fn;
static int dir_fd = -1, inotify_fd = -1, timer_fd = -1, epoll_fd = -1;
static struct {
	size_t count, told; /* in this look; as last logged */
	char first[NSGATE_NAME_MAX];
} refused;
static int64_t look_again_ms; /* from now; -1: not before something changes */

/* ---- entries ---- */

static struct store_entry *entry_new(const char *name)
{
	struct store_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->file = calloc(1, sizeof(*entry->file));
	if (!entry->file) {
		free(entry);
		return NULL;
	}
	snprintf(entry->name, sizeof(entry->name), "%s", name);
	return entry;
}

/* NULL: there is none any more. */
static void set_problem(struct store_entry *entry, const char *problem)
{
	const bool was_bad = entry->problem[0];
	const bool is_news =
		strncmp(entry->problem, problem ? problem : "", sizeof(entry->problem) - 1) != 0;

	snprintf(entry->problem, sizeof(entry->problem), "%s", problem ? problem : "");
	if (problem && !was_bad)
		bad_count++;
	else if (!problem && was_bad)
		bad_count--;
	if (is_news && problem_fn)
		problem_fn(entry->name, problem);
}

static void entry_free(struct store_entry *entry)
{
	if (entry->problem[0])
		bad_count--;
	policy_unref(entry->policy);
	free(entry->file);
	free(entry);
}

/* Where the entry of a name is linked, or would be. */
static struct store_entry **entry_link(struct store_entry **from, const char *name)
{
	while (*from && strcmp((*from)->name, name) < 0)
		from = &(*from)->next;
	return from;
}

static void entry_insert(struct store_entry **link, struct store_entry *entry)
{
	entry->next = *link;
	*link = entry;
	entry_count++;
}

static void entry_remove(struct store_entry **link)
{
	struct store_entry *entry = *link;

	*link = entry->next;
	entry_count--;
	entry_free(entry);
}

/* Takes the reference. */
static void entry_set_policy(struct store_entry *entry, struct policy *policy)
{
	policy_unref(entry->policy);
	entry->policy = policy;
	entry->revision++;
	set_problem(entry, NULL);
}

struct store_entry *store_first(void)
{
	return entries;
}

struct store_entry *store_find(const char *name)
{
	struct store_entry *entry = *entry_link(&entries, name);

	return entry && strcmp(entry->name, name) == 0 ? entry : NULL;
}

void store_on_problem(store_problem_fn *problem)
{
	problem_fn = problem;
}

size_t store_bad(void)
{
	return bad_count;
}

const char *store_problem(const char *name)
{
	/* Asked for every namespace, and hardly ever is there one. */
	const struct store_entry *entry = bad_count > 0 ? store_find(name) : NULL;

	return entry && entry->problem[0] ? entry->problem : NULL;
}

static int compare_names(const void *one, const void *other)
{
	return strcmp(one, other);
}

/* ---- looking again ---- */

#define RETRY_MS 1000

static void look_again(int64_t ms)
{
	if (look_again_ms < 0 || ms < look_again_ms)
		look_again_ms = ms;
}

/* Is it the machine that is short of something, and not the file that is bad? */
static bool is_shortage(int err)
{
	return err == -ENOMEM || err == -EMFILE || err == -ENFILE || err == -EINTR ||
	       err == -EAGAIN || err == -EIO || err == -ENOSPC;
}

/* ---- one file ---- */

static void report_bad(struct store_entry *entry, const char *reason, const char *remedy)
{
	set_problem(entry, reason);
	log_event(LOG_LEVEL_WARNING, "policy.bad", "policy", entry->name, "reason", reason,
		  "in_force", entry->policy ? "the version before" : "none", "remedy", remedy,
		  NULL);
}

static void report_unreadable(struct store_entry *entry, int error)
{
	char reason[NSGATE_TEXT_MAX];

	switch (error) {
	case -EFBIG:
		snprintf(reason, sizeof(reason), "larger than %d bytes", NSGATE_POLICY_BYTES_MAX);
		report_bad(entry, reason, "split the policy or shorten it");
		break;
	case -EBADF:
		report_bad(entry, "not a regular file",
			   "put a regular file or a link to one there");
		break;
	case -ENOENT:
	case -ELOOP:
		report_bad(entry, "a link that leads nowhere", "mend or remove the link");
		break;
	default:
		report_bad(entry, strerror(-error),
			   "make it readable for the agent's user; a link must lead to "
			   "a file below the directory of policies");
		break;
	}
}

static void report_problems(struct store_entry *entry, const struct policy_problems *problems)
{
	const struct policy_problem *first = problems->count > 0 ? &problems->list[0] : NULL;
	char reason[NSGATE_TEXT_MAX];
	const char *pointer = first && first->pointer ? first->pointer : "";
	const char *message = first && first->message ? first->message : "not a policy";

	if (problems->total > 1)
		snprintf(reason, sizeof(reason), "%.128s%s%.256s (and %zu more)", pointer,
			 *pointer ? ": " : "", message, problems->total - 1);
	else
		snprintf(reason, sizeof(reason), "%.128s%s%.256s", pointer, *pointer ? ": " : "",
			 message);
	report_bad(entry, reason, "see all of it with: nsgatectl policy check FILE");
}

static void note_other_name(const struct store_entry *entry)
{
	const char *name = policy_info(entry->policy)->name;

	if (name[0] && strcmp(name, entry->name) != 0)
		log_event(LOG_LEVEL_INFO, "policy.name_differs", "policy", entry->name,
			  "document_name", name, "note", "the file's name counts", NULL);
}

static bool is_in_force(const struct store_entry *entry, const char *text, size_t length)
{
	const char *source;
	size_t source_length;

	if (!entry->policy)
		return false;
	source = policy_source(entry->policy, &source_length);
	return source_length == length && memcmp(source, text, length) == 0;
}

static void keep(const struct store_entry *entry)
{
	size_t length;
	const char *text = policy_source(entry->policy, &length);
	const int err = store_good_keep(entry->name, text, length);

	if (err)
		log_event(LOG_LEVEL_WARNING, "policy.not_kept", "policy", entry->name, "error",
			  log_errno(err), "note",
			  "the next agent will not have it if the file is bad then", NULL);
}

/* The file is bad, and no version of it is in force: is one kept? Return: it is in force now. */
static bool fall_back(struct store_entry *entry)
{
	struct policy_problems problems = {.count = 0};
	char *text = NULL;
	size_t length = 0;
	int err;

	if (entry->policy || store_good_read(entry->name, &text, &length) != 1)
		return false;
	err = policy_compile(text, length, &entry->policy, &problems);
	free(text);
	policy_problems_free(&problems);
	if (err) {
		log_event(LOG_LEVEL_WARNING, "policy.last_good_unusable", "policy", entry->name,
			  "error", log_errno(err), NULL);
		return false;
	}
	entry->revision++;
	log_event(LOG_LEVEL_WARNING, "policy.last_good", "policy", entry->name, "in_force",
		  "the last good version, as the file is bad", NULL);
	return true;
}

/* Return: whether the policy of the entry is another one now. */
static bool compile_content(struct store_entry *entry, const char *text, size_t length)
{
	struct policy_problems problems = {.count = 0};
	struct policy *policy = NULL;
	int err;

	/* Our own writing, a link swapped for the same text, a file that was bad for a while. */
	if (is_in_force(entry, text, length)) {
		set_problem(entry, NULL);
		return false;
	}
	err = policy_compile(text, length, &policy, &problems);
	if (err == -EINVAL)
		report_problems(entry, &problems);
	else if (err)
		report_bad(entry, strerror(-err), "free memory, then write it again");
	policy_problems_free(&problems);
	if (is_shortage(err)) {
		entry->file->read = entry->file->settled = false;
		look_again(RETRY_MS);
	}
	if (err)
		return false;
	entry_set_policy(entry, policy);
	keep(entry);
	note_other_name(entry);
	return true;
}

/* Return: whether the policy of the entry is another one now. */
static bool entry_reload(struct store_entry *entry)
{
	char *text = NULL;
	size_t length = 0;
	bool is_new;
	int result;

	entry->file->gone = false;
	result = store_file_read(dir_fd, entry->name, entry->file, &text, &length);
	if (result < 0)
		report_unreadable(entry, result);
	if (is_shortage(-entry->file->error))
		look_again(RETRY_MS);
	/* Who took the right to read it away did not write a mistake. */
	if (result < 0)
		return result != -EACCES && result != -EPERM && fall_back(entry);
	if (result == 0)
		return false;
	is_new = compile_content(entry, text, length);
	free(text);
	if (!is_new)
		return entry->problem[0] && fall_back(entry);
	log_event(LOG_LEVEL_INFO, "policy.loaded", "policy", entry->name, "revision",
		  log_number(entry->revision), NULL);
	return true;
}

/* ---- the directory ---- */

static void set_timer(int64_t ms)
{
	const struct itimerspec when = {
		.it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 + 1}};

	timerfd_settime(timer_fd, 0, &when, NULL);
}

static void tell(const char *name, struct policy *policy)
{
	if (changed_fn)
		changed_fn(name, policy);
}

/* Return: true where the entry was removed from *link. */
static bool entry_gone(struct store_entry **link)
{
	struct store_entry *entry = *link;
	const int64_t now = loop_now_ms();
	const bool had_policy = entry->policy != NULL;
	char name[NSGATE_NAME_MAX];

	if (!entry->file->gone) {
		entry->file->gone = true;
		entry->file->gone_since_ms = now;
	}
	if (now - entry->file->gone_since_ms < STORE_GRACE_MS) {
		look_again(entry->file->gone_since_ms + STORE_GRACE_MS - now);
		return false;
	}
	memcpy(name, entry->name, sizeof(name));
	entry_remove(link);
	store_good_remove(name);
	log_event(LOG_LEVEL_INFO, "policy.removed", "policy", name, NULL);
	if (had_policy)
		tell(name, NULL);
	return true;
}

size_t store_refused(const char **ret_first)
{
	*ret_first = refused.count > 0 ? refused.first : NULL;
	return refused.count;
}

static void refuse(const char *name)
{
	if (refused.count++ == 0)
		snprintf(refused.first, sizeof(refused.first), "%s", name);
}

static void report_refused(void)
{
	if (refused.count > 0 && refused.count != refused.told)
		log_event(LOG_LEVEL_WARNING, "policies.too_many", "limit",
			  log_number(STORE_POLICIES_MAX), "refused",
			  log_number((int64_t)refused.count), "first", refused.first, "remedy",
			  "remove files of policies", NULL);
	refused.told = refused.count;
}

/* A file that has no entry yet. Return: 1 it has now, 0 it is refused, -ENOMEM. */
static int admit(struct store_entry **link, const char *name)
{
	struct store_entry *entry;

	if (entry_count >= STORE_POLICIES_MAX) {
		refuse(name);
		return 0;
	}
	entry = entry_new(name);
	if (!entry)
		return -ENOMEM;
	entry_insert(link, entry);
	return 1;
}

/* Go through the names of the files and the entries side by side; both are sorted. */
static void look_through(void)
{
	char(*names)[NSGATE_NAME_MAX];
	struct store_entry **link = &entries;
	size_t count = 0, had = entry_count;
	bool more = false;
	int err = store_file_list(dir_fd, &names, &count, &more);

	if (err) {
		log_event(LOG_LEVEL_ERROR, "policies.unreadable", "error", log_errno(err),
			  "in_force", "what was before", "remedy",
			  "restore the directory and restart the agent", NULL);
		if (is_shortage(err))
			look_again(RETRY_MS);
		return;
	}
	refused.count = 0;
	for (size_t i = 0; i < count || *link;) {
		const int order = i == count ? 1 : !*link ? -1 : strcmp(names[i], (*link)->name);

		if (order > 0) {
			/* Of too many names to list, one that is not listed may be there. */
			if (more || !entry_gone(link))
				link = &(*link)->next;
			continue;
		}
		if (order < 0) {
			const int admitted = admit(link, names[i]);

			if (admitted < 0) {
				look_again(RETRY_MS);
				break;
			}
			if (!admitted) {
				i++;
				continue;
			}
		}
		if (entry_reload(*link))
			tell((*link)->name, (*link)->policy);
		link = &(*link)->next;
		i++;
	}
	free(names);
	/* Who was refused before another went has room now. */
	if (refused.count > 0 && entry_count < had)
		look_again(0);
	report_refused();
}

static void rescan(void)
{
	look_again_ms = -1;
	look_through();
	if (look_again_ms >= 0)
		set_timer(look_again_ms);
}

/* Events are triggers, nothing more: take all that are waiting. */
static void drain_events(void)
{
	char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	uint64_t expirations;

	while (read(inotify_fd, buffer, sizeof(buffer)) > 0)
		;
	(void)!read(timer_fd, &expirations, sizeof(expirations));
}

void store_reload(void)
{
	drain_events();
	rescan();
}

/* ---- opening ---- */

static int open_directory(const char *path, uid_t uid, gid_t gid)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
		return -errno;
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	if (geteuid() == 0 ? fchown(dir_fd, uid, gid) < 0 : access(path, W_OK) < 0)
		log_event(LOG_LEVEL_INFO, "policies.not_owned", "dir", path, "error",
			  log_errno(errno), "note",
			  "policies can be changed over the API only where the agent's user may "
			  "write there",
			  NULL);
	return 0;
}

static int watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_watch(const char *path)
{
	int err;

	inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (inotify_fd < 0 || timer_fd < 0 || epoll_fd < 0)
		return -errno;
	if (inotify_add_watch(inotify_fd, path, WATCHED) < 0)
		return -errno;
	err = watch(inotify_fd);
	return err ? err : watch(timer_fd);
}

int store_open(const char *config_dir, uid_t uid, gid_t gid, store_changed_fn *changed)
{
	char *path = NULL;
	int err;

	if (asprintf(&path, "%s/" SUBDIRECTORY, config_dir) < 0)
		return -ENOMEM;
	if (mkdir(config_dir, 0755) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES) {
		err = -errno;
		free(path);
		return err;
	}
	err = open_directory(path, uid, gid);
	/* Watched before it is read, so that nothing falls in between. */
	if (!err)
		err = open_watch(path);
	free(path);
	if (err) {
		store_close();
		return err;
	}
	changed_fn = changed;
	return 0;
}

static bool is_listed(char (*names)[NSGATE_NAME_MAX], size_t count, const char *name)
{
	return count > 0 && bsearch(name, names, count, sizeof(*names), compare_names);
}

/*
 * Those that were in force come before others if there are too many now. What is kept of a policy
 * that was removed while no agent ran is not to come back.
 */
static void admit_kept(void)
{
	char(*kept)[NSGATE_NAME_MAX], (*files)[NSGATE_NAME_MAX];
	size_t kept_count, file_count;
	bool more;

	if (store_good_list(&kept, &kept_count) < 0)
		return;
	if (store_file_list(dir_fd, &files, &file_count, &more) < 0) {
		free(kept);
		return;
	}
	for (size_t i = 0; i < kept_count; i++) {
		if (is_listed(files, file_count, kept[i]))
			(void)admit(entry_link(&entries, kept[i]), kept[i]);
		else if (!more)
			store_good_remove(kept[i]);
	}
	free(files);
	free(kept);
}

void store_load(void)
{
	store_changed_fn *changed = changed_fn;

	changed_fn = NULL; /* nobody is bound yet */
	admit_kept();
	rescan();
	changed_fn = changed;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void store_close(void)
{
	while (entries)
		entry_remove(&entries);
	refused.count = refused.told = 0;
	close_fd(&epoll_fd);
	close_fd(&timer_fd);
	close_fd(&inotify_fd);
	close_fd(&dir_fd);
	changed_fn = NULL;
}

int store_dir_fd(void)
{
	return dir_fd;
}

int store_inotify_fd(void)
{
	return epoll_fd;
}

/* ---- changes over the API ---- */

int store_put(const char *name, const char *json, size_t length, struct policy_problems *problems)
{
	struct store_entry *entry = store_find(name);
	struct store_entry *created = NULL;
	struct policy *policy = NULL;
	int err;

	if (!name_valid(name) || dir_fd < 0)
		return -ENOENT;
	if (!entry && entry_count >= STORE_POLICIES_MAX)
		return -E2BIG;
	err = policy_compile(json, length, &policy, problems);
	if (err)
		return err;
	if (!entry)
		entry = created = entry_new(name);
	err = entry ? store_file_write(dir_fd, name, json, length) : -ENOMEM;
	if (err) {
		if (created)
			entry_free(created);
		policy_unref(policy);
		return err;
	}
	if (created)
		entry_insert(entry_link(&entries, name), created);
	entry_set_policy(entry, policy);
	keep(entry);
	/* Else a file that is put back to its former text would look as if it had not changed. */
	store_file_note(entry->file, json, length);
	note_other_name(entry);
	log_event(LOG_LEVEL_INFO, "policy.put", "policy", name, "revision",
		  log_number(entry->revision), NULL);
	return created ? 1 : 0;
}

int store_delete(const char *name)
{
	struct store_entry **link = entry_link(&entries, name);
	int err;

	if (!*link || strcmp((*link)->name, name) != 0)
		return -ENOENT;
	err = store_file_remove(dir_fd, name);
	if (err && err != -ENOENT)
		return err;
	entry_remove(link);
	store_good_remove(name);
	log_event(LOG_LEVEL_INFO, "policy.deleted", "policy", name, NULL);
	return 0;
}
