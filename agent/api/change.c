// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * A change has two holders: the namespaces, which call `done` once, and the request, which is
 * answered. Either may let go first: the broker may answer after the client's patience or the
 * time-out is over, or before the handler has returned. Whoever lets go last frees it.
 */
#include "agent/api/change.h"
#include "loop.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct api_change {
	struct api_change *next;
	struct ns_change change;     /* the namespaces write here until done */
	struct api_request *request; /* NULL: answered, or given up */
	api_change_answer *answer;
	int64_t deadline_ms;
	bool done; /* by the namespaces */
	bool suspended;
};

static struct api_change *changes;

static void unlink_change(const struct api_change *change)
{
	struct api_change **link = &changes;

	while (*link != change)
		link = &(*link)->next;
	*link = change->next;
}

static void release_if_over(struct api_change *change)
{
	if (!change->done || change->request)
		return;
	unlink_change(change);
	free(change);
}

static void resume(struct api_change *change)
{
	if (!change->suspended)
		return;
	change->suspended = false;
	api_resume(change->request->connection);
}

static void change_done(struct ns_change *ns_change, void *context)
{
	struct api_change *change = context;

	(void)ns_change;
	change->done = true;
	resume(change);
	release_if_over(change);
}

struct ns_change *api_change_begin(struct api_request *request, api_change_answer *answer)
{
	struct api_change *change = calloc(1, sizeof(*change));

	if (!change)
		return NULL;
	change->change.done = change_done;
	change->change.context = change;
	change->request = request;
	change->answer = answer;
	change->deadline_ms = loop_now_ms() + API_CHANGE_TIMEOUT_MS;
	change->next = changes;
	changes = change;
	request->change = change;
	return &change->change;
}

/* Answer, and let go of the change. */
static enum MHD_Result finish(struct api_request *request)
{
	struct api_change *change = request->change;
	enum MHD_Result result;

	if (change->done)
		result = change->answer(request, &change->change);
	else
		result = api_problem(request, MHD_HTTP_SERVICE_UNAVAILABLE, "change-timeout",
				     "stored, but not every namespace followed within %d s; it "
				     "is tried on, see the state of the namespaces",
				     API_CHANGE_TIMEOUT_MS / 1000);
	api_change_forget(request);
	return result;
}

enum MHD_Result api_change_wait(struct api_request *request)
{
	struct api_change *change = request->change;

	if (change->done)
		return finish(request);
	change->suspended = true;
	MHD_suspend_connection(request->connection);
	return MHD_YES;
}

enum MHD_Result api_change_resumed(struct api_request *request)
{
	return finish(request);
}

void api_change_forget(struct api_request *request)
{
	struct api_change *change = request->change;

	if (!change)
		return;
	request->change = NULL;
	change->request = NULL;
	change->suspended = false;
	release_if_over(change);
}

bool api_change_failed(struct api_request *request, const struct ns_change *change,
		       const char *what, enum MHD_Result *ret_result)
{
	const bool away = change->status == NSGATE_STATUS_UNREACHABLE;

	if (change->status == NSGATE_STATUS_OK)
		return false;
	*ret_result = api_problem(
		request, away ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_INTERNAL_SERVER_ERROR,
		away ? "broker-away" : "not-in-force", "%s, but not in force everywhere: %.*s",
		what, NSGATE_TEXT_MAX, change->text);
	return true;
}

int api_change_timeout_ms(void)
{
	int64_t first = INT64_MAX;

	for (const struct api_change *change = changes; change; change = change->next)
		if (change->suspended && change->deadline_ms < first)
			first = change->deadline_ms;
	if (first == INT64_MAX)
		return -1;
	return loop_left_ms(first);
}

void api_change_expire(void)
{
	const int64_t now = changes ? loop_now_ms() : 0;

	for (struct api_change *change = changes; change; change = change->next)
		if (change->suspended && change->deadline_ms <= now)
			resume(change);
}

void api_change_stop(void)
{
	for (struct api_change *change = changes; change; change = change->next)
		resume(change);
}
