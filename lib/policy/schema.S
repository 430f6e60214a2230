/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The schema as it is published, inside of the programs. */
	.section .rodata
	.global policy_schema_json
	.global policy_schema_json_length
	.type policy_schema_json, %object
policy_schema_json:
	.incbin "policy/policy-v1.schema.json"
policy_schema_json_end:
	.byte 0
	.size policy_schema_json, . - policy_schema_json
	.balign 4
	.type policy_schema_json_length, %object
policy_schema_json_length:
	.long policy_schema_json_end - policy_schema_json
	.size policy_schema_json_length, . - policy_schema_json_length
	.section .note.GNU-stack, "", %progbits
