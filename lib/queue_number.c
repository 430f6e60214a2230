// SPDX-License-Identifier: GPL-2.0-or-later
#include "queue_number.h"

#include "nsgate/flow.h"

unsigned int queue_number_width(unsigned int queues)
{
	return NSGATE_FLOW_MAX * queues;
}

uint16_t queue_number_choose(unsigned int queues, uint32_t choice)
{
	const unsigned int blocks =
		UINT16_MAX + 1U - QUEUE_NUMBER_LOWEST - queue_number_width(queues) + 1U;

	return (uint16_t)(QUEUE_NUMBER_LOWEST + choice % blocks);
}
