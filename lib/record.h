/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record of a namespace, as both daemons check it before they believe it. */
#ifndef NSGATE_RECORD_H
#define NSGATE_RECORD_H

#include <stdbool.h>

#include "nsgate/proto.h"

/* Are its texts terminated, printable and valid names, and its numbers within their bounds? */
bool record_valid(const struct nsgate_ns_record *record);

/* How many descriptors come with it (enum nsgate_nsfd). */
unsigned int record_fd_count(const struct nsgate_ns_record *record);

#endif
