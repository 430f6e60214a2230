// SPDX-License-Identifier: GPL-2.0-or-later
#include "queue_number.h"

uint16_t queue_number_choose(unsigned int width, uint32_t choice)
{
	const unsigned int blocks = UINT16_MAX + 1U - QUEUE_NUMBER_LOWEST - width + 1U;

	return (uint16_t)(QUEUE_NUMBER_LOWEST + choice % blocks);
}
