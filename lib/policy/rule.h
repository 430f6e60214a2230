/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_POLICY_RULE_H
#define NSGATE_POLICY_RULE_H

#include "policy/doc.h"

/* Read one rule, the last of reader->doc->rules so far. `rule` is zeroed. */
void policy_rule_read(struct policy_reader *reader, struct policy_doc_rule *rule,
		      struct json_object *value);

#endif
