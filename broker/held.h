/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an agent says that it holds (NS_HELD). It is less trusted than the broker: of what it says
 * nothing counts but the descriptors, and these must be what the broker's own record says.
 */
#ifndef NSGATE_HELD_H
#define NSGATE_HELD_H

#include "broker/attachment.h"

/*
 * Have the attachment be what is on record of it, with the descriptors of an NS_HELD: the queues'
 * sockets are its, and its pidfd where the broker can open none. All others are closed. `fds` are
 * taken over. Return: 0 or -errno.
 */
int held_take(struct attachment *attachment, int *fds, unsigned int fd_count);

#endif
