/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names in DNS messages: RFC 1035, 3.1 and 4.1.4. A pointer leads to before the labels that it ends
 * and behind the header, so no name goes in a circle.
 */
#ifndef NSGATE_PROTO_DNS_NAME_H
#define NSGATE_PROTO_DNS_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/domain.h"

#define DNS_HEADER 12

struct dns_message {
	const uint8_t *bytes;
	size_t length;
};

/*
 * Where does what follows the name begin? Its labels are looked at as far as the first pointer.
 * Return: 0; -EBADMSG.
 */
int dns_name_skip(const struct dns_message *message, size_t at, size_t *ret_end);

/* Is there a name of at most 255 bytes, whatever is in its labels? */
bool dns_name_valid(const struct dns_message *message, size_t at);

/* Are both names the same? `b` is valid. */
bool dns_name_equal(const struct dns_message *message, size_t a, size_t b);

/*
 * Read a name without pointers, as a question has it.
 * @ret_end: behind it
 * Return: 0; -EBADMSG also where a label holds what domain_fold() has nothing for.
 */
int dns_name_read(const struct dns_message *message, size_t at, struct domain *ret_domain,
		  size_t *ret_end);

#endif
