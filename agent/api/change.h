/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that change what the kernel enforces: the connection is suspended until every
 * namespace concerned has followed, or API_CHANGE_TIMEOUT_MS is over.
 */
#ifndef NSGATE_API_CHANGE_H
#define NSGATE_API_CHANGE_H

#include "agent/api/request.h"
#include "agent/ns/ns.h"

/* How a request is answered once its change is over. */
typedef enum MHD_Result api_change_answer(struct api_request *request,
					  const struct ns_change *change);

/*
 * Begin: the returned change is for ns_policy_changed() or ns_rebind(). NULL: no memory.
 * Then the handler returns api_change_wait(), which answers at once where the change is over.
 */
struct ns_change *api_change_begin(struct api_request *request, api_change_answer *answer);
enum MHD_Result api_change_wait(struct api_request *request);

/* The handler is called again after the connection was resumed. */
enum MHD_Result api_change_resumed(struct api_request *request);

/* The request is over, its change perhaps not. */
void api_change_forget(struct api_request *request);

/*
 * Answer a change that went wrong: `what` was done, the kernel did not follow.
 * Return: whether it went wrong, with *ret_result set.
 */
bool api_change_failed(struct api_request *request, const struct ns_change *change,
		       const char *what, enum MHD_Result *ret_result);

int api_change_timeout_ms(void); /* until api_change_expire() has something to do; -1: never */
void api_change_expire(void);
void api_change_stop(void); /* resume every connection that waits */

#endif
