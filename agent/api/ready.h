/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GET /readyz: a broker that hangs is connected all the same. So it is asked for a sign of life,
 * and the connection is suspended until it comes, or API_READY_MS are over.
 */
#ifndef NSGATE_API_READY_H
#define NSGATE_API_READY_H

#include "agent/api/request.h"

/* The handler is called again after the connection was resumed. */
enum MHD_Result api_ready_resumed(struct api_request *request);

/* The request is over. */
void api_ready_forget(struct api_request *request);

int api_ready_timeout_ms(void); /* until api_ready_expire() has something to do; -1: never */
void api_ready_expire(void);
void api_ready_stop(void); /* resume every connection that waits */

#endif
