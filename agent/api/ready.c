// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/api/ready.h"

#include "agent/agent.h"
#include "agent/broker_link.h"
#include "loop.h"

static struct api_request *waiting;

static enum MHD_Result ready(struct api_request *request)
{
	static const char text[] = "{\"schema\":1,\"status\":\"ready\"}";

	return api_answer_copy(request, MHD_HTTP_OK, text, sizeof(text) - 1, NULL);
}

static enum MHD_Result broker_away(struct api_request *request)
{
	return api_problem(request, MHD_HTTP_SERVICE_UNAVAILABLE, "broker-away",
			   "nsgate-broker is not connected; is it running?");
}

static void resume(struct api_request *request)
{
	if (!request->ready.suspended)
		return;
	request->ready.suspended = false;
	api_resume(request->connection);
}

static void heard(bool alive)
{
	for (struct api_request *request = waiting; request; request = request->ready.next) {
		request->ready.alive = alive;
		resume(request);
	}
}

enum MHD_Result api_get_ready(struct api_request *request)
{
	if (!agent_status.broker_connected)
		return broker_away(request);
	if (agent_status.taking_over)
		return api_problem(request, MHD_HTTP_SERVICE_UNAVAILABLE, "taking-over",
				   "namespaces are still being taken over: ask again in a moment");
	if (!broker_link_ping(heard))
		return ready(request);
	request->ready.waits = true;
	request->ready.suspended = true;
	request->ready.deadline_ms = loop_now_ms() + API_READY_MS;
	request->ready.next = waiting;
	waiting = request;
	MHD_suspend_connection(request->connection);
	return MHD_YES;
}

enum MHD_Result api_ready_resumed(struct api_request *request)
{
	const bool alive = request->ready.alive;

	api_ready_forget(request);
	if (!agent_status.broker_connected)
		return broker_away(request);
	if (alive)
		return ready(request);
	return api_problem(request, MHD_HTTP_SERVICE_UNAVAILABLE, "broker-silent",
			   "nsgate-broker is connected and does not answer: look at its log, or "
			   "restart it");
}

void api_ready_forget(struct api_request *request)
{
	struct api_request **at = &waiting;

	if (!request->ready.waits)
		return;
	request->ready.waits = false;
	while (*at != request)
		at = &(*at)->ready.next;
	*at = request->ready.next;
}

int api_ready_timeout_ms(void)
{
	int64_t first = INT64_MAX;

	for (const struct api_request *request = waiting; request; request = request->ready.next)
		if (request->ready.suspended && request->ready.deadline_ms < first)
			first = request->ready.deadline_ms;
	if (first == INT64_MAX)
		return -1;
	return loop_left_ms(first);
}

void api_ready_expire(void)
{
	const int64_t now = waiting ? loop_now_ms() : 0;

	for (struct api_request *request = waiting; request; request = request->ready.next)
		if (request->ready.deadline_ms <= now)
			resume(request);
}

void api_ready_stop(void)
{
	for (struct api_request *request = waiting; request; request = request->ready.next)
		resume(request);
}
