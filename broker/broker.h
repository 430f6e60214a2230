/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the broker's modules share. One thread, one process. */
#ifndef NSGATE_BROKER_H
#define NSGATE_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon.h"
#include "nsgate/proto.h"
#include "broker/nft/rules.h"

struct broker_config {
	const char *runtime_dir;
	const char *netns_dir;	     /* names of `ip netns`: watched for their removal */
	uint32_t queue_length;	     /* packets */
	bool plain_tables;	     /* make no owned tables even where the kernel has them */
	bool no_guard;		     /* behave as if this kernel could not guard links */
	struct daemon_admins admins; /* may attach and detach, beside uid 0 */
};

extern struct broker_config broker_config;
extern struct rules_features broker_features; /* probed at start */
extern bool broker_agent_here;		      /* connected, and done with telling what it holds */
extern uint64_t broker_cookie;		      /* of the broker's own namespace; 0: unknown */

#endif
