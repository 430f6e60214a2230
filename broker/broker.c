// SPDX-License-Identifier: GPL-2.0-or-later
#include "broker/broker.h"

#include "options.h"
#include "broker/queue_setup.h"

struct broker_config broker_config = {
	.runtime_dir = NSGATE_RUNTIME_DIR,
	.netns_dir = "/run/netns",
	.queue_length = QUEUE_LENGTH_DEFAULT,
};
struct rules_features broker_features;
uint64_t broker_cookie;
bool broker_agent_here;
