// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/consumer.h"

#include <errno.h>

#include "queue_kernel.h"

#define LOOK_NS 5000000U

#define ALONE UINT16_MAX /* a distance at which there is no second number */

bool consumer_is_there(struct consumer known[CONSUMERS_KNOWN], int proc_fd, uint16_t number,
		       uint64_t now_ns)
{
	struct consumer *consumer = &known[number % CONSUMERS_KNOWN];
	struct queue_kernel line;

	if (consumer->number == number && consumer->looked_at_ns &&
	    now_ns - consumer->looked_at_ns < LOOK_NS)
		return consumer->is_served;
	*consumer = (struct consumer){
		.number = number,
		.is_served = queue_kernel_read(proc_fd, number, ALONE, &line) != -ENOENT,
		.looked_at_ns = now_ns,
	};
	return consumer->is_served;
}
