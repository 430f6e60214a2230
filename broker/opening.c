// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/opening.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "ipc.h"
#include "loop.h"

/* A full handoff brings everything along, for brokers that may not enter the namespace. */
static void take_handed(struct opening *opening)
{
	struct netns_fds *netns = &opening->attachment->netns;

	netns->rules = opening->fds[1];
	netns->aux = opening->fds[2];
	netns->route = opening->fds[3];
	netns->proc = opening->fds[4];
	opening->fd_count = 0;
}

/*
 * What a handed queue socket's namespace offers is better opened by the broker itself; what came
 * along is used only where that may not be.
 */
static void sockets_opened(struct netns_opening *netns, int err)
{
	struct opening *opening = loop_owner(netns, struct opening, netns);

	if (opening->message.target_kind == NSGATE_TARGET_HANDOFF &&
	    opening->fd_count == NSGATE_HANDOFF_FDS && (err == -EPERM || err == -EACCES)) {
		take_handed(opening);
		err = 0;
	}
	opening->done(opening, err);
}

/* The message's first descriptor is the target itself, or a socket that leads there. */
static void find_target(struct opening *opening)
{
	struct netns_fds *netns = &opening->attachment->netns;

	opening->target = opening->fds[0];
	opening->fds[0] = -1;
	if (opening->message.target_kind != NSGATE_TARGET_HANDOFF)
		return;
	netns->queues[0] = opening->target;
	opening->target = netns_of_socket(netns->queues[0]);
}

static void not_found(struct enter_pending *pending, int err, struct enter_result *result)
{
	(void)result;
	sockets_opened(loop_owner(pending, struct netns_opening, pending), err);
}

int opening_start(struct attachment *attachment, const struct nsgate_msg_attach *message, int *fds,
		  unsigned int fd_count, void (*done)(struct opening *opening, int err))
{
	struct opening *opening = calloc(1, sizeof(*opening));

	if (!opening) {
		fds_close(fds, fd_count);
		return -ENOMEM;
	}
	attachment->opening = opening;
	attachment->netns.queue_count = message->queue_count;
	opening->attachment = attachment;
	opening->message = *message;
	opening->done = done;
	memcpy(opening->fds, fds, fd_count * sizeof(*fds));
	opening->fd_count = fd_count;
	find_target(opening);
	if (opening->target >= 0)
		netns_fds_ask(&opening->netns, opening->target, &attachment->netns, sockets_opened);
	else
		enter_answer(&opening->netns.pending, opening->target, not_found);
	return 0;
}

void opening_end(struct attachment *attachment)
{
	struct opening *opening = attachment->opening;

	if (!opening)
		return;
	netns_fds_forget(&opening->netns);
	fds_close(opening->fds, opening->fd_count);
	fd_close(&opening->target);
	free(opening);
	attachment->opening = NULL;
}
