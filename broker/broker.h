/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the broker's modules share. One thread, one process. */
#ifndef NSGATE_BROKER_H
#define NSGATE_BROKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "nsgate/proto.h"
#include "rules.h"

#define BROKER_ADMINS_MAX 16

struct broker_config {
	const char *runtime_dir;
	const char *netns_dir;		 /* names of `ip netns`: watched for their removal */
	uint32_t queue_length;		 /* packets */
	bool plain_tables;		 /* make no owned tables even where the kernel has them */
	bool no_guard;			 /* behave as if this kernel could not guard links */
	uid_t admins[BROKER_ADMINS_MAX]; /* may attach and detach, beside uid 0 */
	unsigned int admin_count;
};

extern struct broker_config broker_config;
extern struct rules_features broker_features; /* probed at start */
extern uint64_t broker_cookie;		      /* of the broker's own namespace; 0: unknown */

#endif
