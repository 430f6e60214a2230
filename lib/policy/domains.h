/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "names" of a policy document, and the matches "domain" and "dns" of its rules. */
#ifndef NSGATE_POLICY_DOMAINS_H
#define NSGATE_POLICY_DOMAINS_H

#include "policy/doc.h"

/* Before anything is read: what holds where the document says nothing. */
void policy_names_begin(struct policy_reader *reader);

void policy_names_read(struct policy_reader *reader, struct json_object *value);

/* The value of a rule's match. */
void policy_names_read_domain(struct policy_reader *reader, struct json_object *value);
void policy_names_read_dns(struct policy_reader *reader, struct json_object *value);

/* Once all is read: what only the whole document shows. */
void policy_names_check(struct policy_reader *reader);

#endif
