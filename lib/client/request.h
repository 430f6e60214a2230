/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Building an ATTACH from what was typed. nsgatectl and nsgate-handoff both do. */
#ifndef NSGATE_CTL_REQUEST_H
#define NSGATE_CTL_REQUEST_H

#include "client/failure.h"

/* A decimal number and nothing else, in [min, max]. `what` names it in the error. */
enum nsgate_status request_number(const char *what, const char *text, unsigned long min,
				  unsigned long max, unsigned long *ret, struct failure *fail);

/* A time in seconds, "0.5", or with a unit, "500ms", "2s", "1m", "1h", into milliseconds, above 0.
 */
enum nsgate_status request_time(const char *what, const char *text, int *ret_ms,
				struct failure *fail);

/* Is it a name for a namespace or a policy? `what` names it in the error. */
enum nsgate_status request_name(const char *what, const char *text, struct failure *fail);

/* Copy a valid name into a field of a message. */
enum nsgate_status request_take_name(const char *what, const char *text, char ret[NSGATE_NAME_MAX],
				     struct failure *fail);

/*
 * Append "K=V" to the labels: each ends in NUL, the list ends in an empty one. Keys are letters,
 * digits and "_.-/", values printable ASCII; no key may come twice.
 */
enum nsgate_status request_add_label(char labels[NSGATE_LABELS_MAX], const char *text,
				     struct failure *fail);

/*
 * --queue and --queues into a message. NULL: the default, one of them, with the number that
 * queue_number_choose() has for it.
 */
enum nsgate_status request_take_queues(const char *first, const char *count,
				       struct nsgate_msg_attach *ret, struct failure *fail);

#endif
