/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Letting go of what an attachment has, and of the attachment. */
#ifndef NSGATE_RELEASE_H
#define NSGATE_RELEASE_H

#include "broker/attachment.h"

/* Close everything, and wait for nothing of it any more. The record and the state stay. */
void release_descriptors(struct attachment *attachment);

/*
 * The same, and it leaves the list. What the kernel has of it (rules) must be gone or be meant to
 * stay. Takes NULL.
 */
void release(struct attachment *attachment);

/* All that is left of it is that the agent must hear so: NS_REMOVE is said, unless it was. */
void release_to_gone(struct attachment *attachment, bool said);

#endif
