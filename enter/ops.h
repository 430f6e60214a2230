/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a child of nsgate-enter does: one request, then it ends. */
#ifndef NSGATE_OPS_H
#define NSGATE_OPS_H

#include "nsgate/enter.h"

struct ops_result {
	struct nsgate_enter_answer answer;
	int fds[NSGATE_ENTER_FDS_MAX];
	unsigned int fd_count;
};

/*
 * Serve a request with its descriptor (-1: none came). The caller must be a child made for it:
 * it is left in another namespace.
 */
void ops_serve(const struct nsgate_enter_request *request, int fd, struct ops_result *ret);

#endif
