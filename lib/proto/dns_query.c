// SPDX-License-Identifier: GPL-2.0-or-later
#include "proto/dns_query.h"

#include <errno.h>
#include <string.h>

#include "proto/bytes.h"

#define FLAG_RD 0x0100u
#define FLAG_RA 0x0080u
#define FLAG_CD 0x0010u
/* QR, opcode, AA, TC, RA, Z and the response code: none of them is for a query. */
#define FLAGS_OF_ANSWERS 0xfecfu

#define CLASS_IN 1
#define OPT_FIXED 11 /* root, type, size, extended code and flags, length */
#define OPT_DO 0x8000u
#define OPT_SIZE 1232 /* as resolvers agreed on for 2020's DNS flag day */
#define OPTION_COOKIE 10
/* With the server's half, which the client has from an earlier answer. */
#define COOKIE_LEAST 16
#define COOKIE_MAX 40

int dns_question_read(const struct dns_message *message, struct dns_question *ret_question)
{
	const uint8_t *bytes = message->bytes;
	struct domain name;
	size_t end;

	if (message->length < DNS_HEADER || message->length > UINT16_MAX ||
	    bytes_16(bytes + 4) != 1)
		return -EBADMSG;
	if (dns_name_read(message, DNS_HEADER, &name, &end) < 0 || end + 4 > message->length ||
	    bytes_16(bytes + end + 2) != CLASS_IN)
		return -EBADMSG;
	ret_question->id = bytes_16(bytes);
	ret_question->flags = bytes_16(bytes + 2);
	ret_question->type = bytes_16(bytes + end);
	ret_question->end = (uint16_t)(end + 4);
	ret_question->name.length = name.length;
	memcpy(ret_question->name.text, name.text, (size_t)name.length + 1);
	return 0;
}

/* The next EDNS option from `*at` on. Return: its length; -EBADMSG there is no whole one. */
static int next_option(const uint8_t *options, size_t length, size_t *at, uint16_t *ret_code)
{
	size_t option;

	if (length - *at < 4)
		return -EBADMSG;
	option = bytes_16(options + *at + 2);
	if (length - *at - 4 < option)
		return -EBADMSG;
	*ret_code = bytes_16(options + *at);
	*at += 4 + option;
	return (int)option;
}

/* All that is left of the message is one OPT record. */
static int check_opt(const uint8_t *opt, size_t length)
{
	const uint8_t *options = opt + OPT_FIXED;
	uint16_t code;
	size_t at = 0;

	if (length < OPT_FIXED || opt[0] != 0 || bytes_16(opt + 1) != DNS_TYPE_OPT || opt[5] != 0 ||
	    opt[6] != 0 || bytes_16(opt + 9) != length - OPT_FIXED)
		return -EBADMSG;
	while (at < length - OPT_FIXED)
		if (next_option(options, length - OPT_FIXED, &at, &code) < 0)
			return -EBADMSG;
	return 0;
}

int dns_query_read(const uint8_t *bytes, size_t length, struct dns_question *ret_question)
{
	const struct dns_message message = {bytes, length};
	struct dns_question question;

	if (dns_question_read(&message, &question) < 0 || question.flags & FLAGS_OF_ANSWERS ||
	    bytes_32(bytes + 6) != 0 || bytes_16(bytes + 10) > 1)
		return -EBADMSG;
	if (bytes_16(bytes + 10) ? check_opt(bytes + question.end, length - question.end) < 0
				 : question.end != length)
		return -EBADMSG;
	*ret_question = question;
	return 0;
}

/* ---- refusing ---- */

/* What stays of the options, moved to their front. Return: its length. */
static size_t keep_cookie(uint8_t *options, size_t length)
{
	uint16_t code;
	size_t at = 0;

	while (at < length) {
		const size_t from = at;
		const int option = next_option(options, length, &at, &code);

		if (option < 0)
			return 0;
		if (code != OPTION_COOKIE || option < COOKIE_LEAST || option > COOKIE_MAX)
			continue;
		memmove(options, options + from, at - from);
		return at - from;
	}
	return 0;
}

static size_t answer_opt(uint8_t *opt, size_t length)
{
	const uint16_t flags = bytes_16(opt + 7) & OPT_DO;
	const size_t kept = keep_cookie(opt + OPT_FIXED, length - OPT_FIXED);

	bytes_put_16(opt + 3, OPT_SIZE);
	bytes_put_16(opt + 7, flags);
	bytes_put_16(opt + 9, (uint16_t)kept);
	return OPT_FIXED + kept;
}

size_t dns_query_refuse(uint8_t *bytes, size_t length, const struct dns_question *question,
			enum dns_rcode rcode)
{
	const uint16_t kept = question->flags & (FLAG_RD | FLAG_CD);

	bytes_put_16(bytes + 2, (uint16_t)(DNS_FLAG_ANSWER | FLAG_RA | kept | rcode));
	if (length == question->end)
		return length;
	return question->end + answer_opt(bytes + question->end, length - question->end);
}
