/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Single values of a policy document. Each reader returns true with its result, or false with a
 * problem noted at the reader's path.
 */
#ifndef NSGATE_POLICY_VALUE_H
#define NSGATE_POLICY_VALUE_H

#include "policy/doc.h"

#define POLICY_MARK_MASK UINT32_MAX /* all of a packet's mark */

struct policy_name {
	const char *name;
	uint16_t number;
};

extern const struct policy_name policy_protocols[], policy_dscps[], policy_icmp_types[];
extern const struct policy_name policy_tcp_flags[];

#define POLICY_ICMPV6 0x100 /* set in the ICMP types of IPv6, to tell the families apart */

/* The number of a name in a list that ends in a NULL name, or -1. */
int policy_name_lookup(const struct policy_name *names, const char *name);

/* Note that `name` is none of them, with the nearest one. `what` is as in "protocol". Always
 * false. */
bool policy_name_unknown(struct policy_reader *reader, const struct policy_name *names,
			 const char *what, const char *name);

bool policy_value_bool(struct policy_reader *reader, struct json_object *value, bool *ret);

/* A text without NUL bytes. */
bool policy_value_text(struct policy_reader *reader, struct json_object *value, const char **ret);

/* One word of a list that ends in NULL. */
bool policy_value_word(struct policy_reader *reader, struct json_object *value,
		       const char *const *words, int *ret);

/* A rule's or a policy's name. */
bool policy_value_name(struct policy_reader *reader, struct json_object *value,
		       char ret[NSGATE_NAME_MAX]);

/* An integer in low..high; `what` is as in "port". */
bool policy_value_number(struct policy_reader *reader, struct json_object *value, const char *what,
			 uint64_t low, uint64_t high, uint64_t *ret);

/* An integer or "a-b", in 0..max. */
bool policy_value_range(struct policy_reader *reader, struct json_object *value, const char *what,
			uint64_t max, union policy_value *ret);

/* An integer or "0x..", within the 32 bits of a mark. */
bool policy_value_mark(struct policy_reader *reader, struct json_object *value, uint32_t *ret);

/* An integer, "value" or "value/mask". */
bool policy_value_mark_match(struct policy_reader *reader, struct json_object *value,
			     union policy_value *ret);

/* An address, a prefix or a range "a-b" of either family. */
bool policy_value_address(struct policy_reader *reader, struct json_object *value,
			  union policy_value *ret);

/* "aa:bb:cc:dd:ee:ff" as a number, first byte highest. */
bool policy_value_mac(struct policy_reader *reader, struct json_object *value, uint64_t *ret);

/* "syn", "syn,ack", "syn/syn,ack,fin,rst" */
bool policy_value_tcp_flags(struct policy_reader *reader, struct json_object *value,
			    union policy_value *ret);

/* "50/s" */
bool policy_value_rate(struct policy_reader *reader, struct json_object *value,
		       struct policy_doc_limit *ret);

/* The pattern of a link's name: its index among the policy's patterns. */
bool policy_value_link(struct policy_reader *reader, struct json_object *value, unsigned int *ret);

/* Note that a key is none of `names`, with the nearest one. */
void policy_unknown_key(struct policy_reader *reader, const char *key, const char *const *names,
			size_t count);

#endif
