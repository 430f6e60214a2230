/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What in a namespace only its owner may open, for those of ordinary users. */
#ifndef NSGATE_KIT_OWNED_H
#define NSGATE_KIT_OWNED_H

/*
 * Open `path` from within the network namespace of `target` (as kit_open()) with the rights of the
 * user namespace that owns it. Return: the descriptor, or -errno (-ETIMEDOUT: somebody in there
 * stopped the child).
 */
int kit_owned_open(int target, const char *path);

#endif
