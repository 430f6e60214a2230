/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The policy that uses every match and action, and a NUL after it. */
	.section .rodata
	.global every_match_json, every_match_json_end
every_match_json:
	.incbin "tests/fuzz/every_match.json"
every_match_json_end:
	.byte 0
	.section .note.GNU-stack, "", @progbits
