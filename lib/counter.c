/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nsgate/counter.h"

#include <assert.h>

#include "nsgate/shm.h"

const char *const nsgate_counter_names[NSGATE_COUNTER_MAX] = {
	[NSGATE_COUNTER_OFFLOADED_IN] = "offloaded_in",
	[NSGATE_COUNTER_OFFLOADED_OUT] = "offloaded_out",
	[NSGATE_COUNTER_OFFLOADED_FORWARD] = "offloaded_forward",
	[NSGATE_COUNTER_DENIED_IN] = "denied_in",
	[NSGATE_COUNTER_DENIED_OUT] = "denied_out",
	[NSGATE_COUNTER_DENIED_FORWARD] = "denied_forward",
	[NSGATE_COUNTER_DENIED_TCP] = "denied_tcp",
	[NSGATE_COUNTER_DENIED_UDP] = "denied_udp",
	[NSGATE_COUNTER_DENIED_OTHER] = "denied_other",
	[NSGATE_COUNTER_AGENT_DOWN] = "passed_agent_down",
	[NSGATE_COUNTER_NOTICES] = "notices",
	[NSGATE_COUNTER_ASKED] = "asked",
};

static_assert(NSGATE_COUNTER_OFFLOADED_OUT - NSGATE_COUNTER_OFFLOADED_IN == SHM_DIRECTION_OUT &&
		      NSGATE_COUNTER_OFFLOADED_FORWARD - NSGATE_COUNTER_OFFLOADED_IN ==
			      SHM_DIRECTION_FORWARD &&
		      NSGATE_COUNTER_DENIED_OUT - NSGATE_COUNTER_DENIED_IN == SHM_DIRECTION_OUT &&
		      NSGATE_COUNTER_DENIED_FORWARD - NSGATE_COUNTER_DENIED_IN ==
			      SHM_DIRECTION_FORWARD,
	      "the agent counts on from the first by direction");
