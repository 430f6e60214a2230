/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A DNS query, and the answer that it is turned into where it is refused. RFC 1035, 4.1; RFC 6891
 * (EDNS); RFC 7873 (cookies).
 *
 * Promised: a query that is read has one question of class IN and, besides, at most one OPT record
 * of version 0 whose options fill it exactly; no byte is anywhere else. So what a name and a type
 * allow is all that leaves, but for id, flags, case of letters and EDNS options.
 * Not promised: that the options say nothing (a resolver hands on the client subnet, RFC 7871).
 */
#ifndef NSGATE_PROTO_DNS_QUERY_H
#define NSGATE_PROTO_DNS_QUERY_H

#include <stddef.h>
#include <stdint.h>

#include "proto/dns_name.h"
#include "proto/domain.h"

enum dns_type {
	DNS_TYPE_A = 1,
	DNS_TYPE_CNAME = 5,
	DNS_TYPE_AAAA = 28,
	DNS_TYPE_OPT = 41,
	DNS_TYPE_SVCB = 64,  /* RFC 9460 */
	DNS_TYPE_HTTPS = 65, /* RFC 9460 */
	DNS_TYPE_ANY = 255,
};

enum dns_rcode {
	DNS_RCODE_NXDOMAIN = 3,
	DNS_RCODE_REFUSED = 5,
};

#define DNS_FLAG_ANSWER 0x8000u
#define DNS_FLAG_TRUNCATED 0x0200u

struct dns_question {
	uint16_t id;
	uint16_t flags;	    /* the header's second word */
	uint16_t type;	    /* enum dns_type, or any other */
	uint16_t end;	    /* where the question ends, from the header on, bytes */
	struct domain name; /* of length 0: the root */
};

/*
 * Read the header of a message and its question, of which there is one, of class IN.
 * Return: 0; -EBADMSG.
 */
int dns_question_read(const struct dns_message *message, struct dns_question *ret_question);

/*
 * Read a whole query.
 * Return: 0; -EBADMSG it is none: a response, another opcode than QUERY, a flag that is for
 * responses, not one question of class IN, a name that no pattern can match, records other than
 * one OPT, or a byte too few or too many.
 */
int dns_query_read(const uint8_t *bytes, size_t length, struct dns_question *ret_question);

/*
 * Turn a query into the answer that refuses it, in place: id, question, and RD, CD stay; of EDNS a
 * plain OPT and a whole cookie, as clients drop answers that have lost it.
 * @bytes: a query that dns_query_read() took, with what it found
 * @rcode: DNS_RCODE_NXDOMAIN or DNS_RCODE_REFUSED
 * Return: the length of the answer, which is not more than that of the query.
 */
size_t dns_query_refuse(uint8_t *bytes, size_t length, const struct dns_question *question,
			enum dns_rcode rcode);

#endif
