/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel must have and what it has, found out before anything is changed. */
#ifndef NSGATE_PROBE_H
#define NSGATE_PROBE_H

/*
 * Fill in broker_features by trying the kernel in a namespace made for the purpose, and
 * broker_cookie. Where something is missing that nsgate cannot do without, the program ends with
 * one line that names it and the remedy.
 */
void probe_kernel(void);

#endif
