/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel must have and what it has, found out before anything is changed. */
#ifndef NSGATE_PROBE_H
#define NSGATE_PROBE_H

/* Fill in broker_cookie, that of the host's network namespace: to be called while there. */
void probe_cookie(void);

/* End the program, as it may not enter namespaces. */
void probe_no_rights(void) __attribute__((noreturn));

/*
 * Fill in broker_features by trying the kernel in a namespace made for the purpose. Where something
 * is missing that nsgate cannot do without, the program ends with one line that names it and the
 * remedy.
 */
void probe_kernel(void);

#endif
