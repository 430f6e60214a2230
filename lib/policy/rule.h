/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NSGATE_POLICY_RULE_H
#define NSGATE_POLICY_RULE_H

#include "policy/doc.h"

/* Read one rule, the last of reader->doc->rules so far. `rule` is zeroed. */
void policy_rule_read(struct policy_reader *reader, struct policy_doc_rule *rule,
		      struct json_object *value);

/* Note that a key is none of `names`, with the nearest one. */
void policy_unknown_key(struct policy_reader *reader, const char *key, const char *const *names,
			size_t count);

#endif
