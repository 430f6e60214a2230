/* SPDX-License-Identifier: GPL-2.0-or-later */
/* policy-v1.schema.json, the JSON Schema of a policy document. */
#ifndef NSGATE_POLICY_SCHEMA_H
#define NSGATE_POLICY_SCHEMA_H

#include <stdint.h>

extern const char policy_schema_json[]; /* ends in NUL */
extern const uint32_t policy_schema_json_length;

#endif
