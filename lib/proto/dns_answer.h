/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a DNS answer says of the name that was asked for: the addresses at the end of its chain of
 * CNAMEs. RFC 1035, 4.1; RFC 2181 (TTL); RFC 3596 (AAAA); RFC 9460 (HTTPS and SVCB).
 *
 * Promised: an address is told only if records of the answer section lead from the question to it,
 * by the type that was asked for. No other section is read.
 * Not promised: that the answer is one to anything; whether it was asked for, by this id, name and
 * type, and who sent it is the caller's to check.
 */
#ifndef NSGATE_PROTO_DNS_ANSWER_H
#define NSGATE_PROTO_DNS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pkt.h"
#include "proto/dns_query.h"

#define DNS_LINKS_MAX 16
#define DNS_ADDRESSES_MAX 64
#define DNS_RECORDS_MAX 128 /* CNAMEs and addresses that are looked at; the rest is left out */

struct dns_address {
	struct pkt_addr address;
	uint8_t family; /* AF_INET or AF_INET6 */
	uint32_t ttl;	/* seconds: the least of the address and the links before it */
};

struct dns_answer {
	struct dns_question question;
	uint8_t rcode;	/* the header's four bits */
	bool truncated; /* there is more by TCP; nothing of this answer was read */
	bool left_out;	/* there are more addresses or records than the limits */
	uint8_t links;	/* CNAMEs that were followed */
	uint8_t count;	/* addresses; 0 also where rcode is not 0 */
	struct dns_address addresses[DNS_ADDRESSES_MAX];
};

/*
 * Read an answer.
 * Return: 0; -EBADMSG it is no response to a query, has not one question of class IN, or a record
 * of the answer section is malformed; -ELOOP the chain has more than DNS_LINKS_MAX links.
 */
int dns_answer_read(const uint8_t *bytes, size_t length, struct dns_answer *ret_answer);

#endif
