// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Theory of Operation
 *
 * One walk over the answer section notes the records that may matter: CNAMEs, and addresses of the
 * type that was asked for. Then the chain is followed from the question's name, whatever order the
 * links are in, and the addresses whose owner is its end are taken. Names stay where they are in
 * the message; they are told apart by their place first, as honest answers point at one place.
 */
#include "proto/dns_answer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/bytes.h"

#define OPCODE 0x7800u
#define RCODE 0x000fu
#define CLASS_IN 1
#define RECORD_FIXED 10 /* behind the owner: type, class, TTL, length */

enum { PARAM_IPV4HINT = 4, PARAM_IPV6HINT = 6 }; /* RFC 9460, 14.3.2 */

struct record {
	uint16_t owner, data, length; /* offsets of the first two */
	uint16_t type;
	uint32_t ttl;
};

struct records {
	struct record list[DNS_RECORDS_MAX];
	size_t count, links;
};

/* ---- the walk ---- */

/* A TTL with the highest bit is zero: RFC 2181, 8. */
static uint32_t read_ttl(const uint8_t *at)
{
	const uint32_t ttl = bytes_32(at);

	return ttl > INT32_MAX ? 0 : ttl;
}

static bool is_address(uint16_t type)
{
	return type == DNS_TYPE_A || type == DNS_TYPE_AAAA || type == DNS_TYPE_HTTPS ||
	       type == DNS_TYPE_SVCB;
}

static bool may_matter(uint16_t type, uint16_t class, uint16_t asked)
{
	return class == CLASS_IN &&
	       (type == DNS_TYPE_CNAME ||
		(is_address(type) && (type == asked || asked == DNS_TYPE_ANY)));
}

static int check_data(const struct dns_message *message, const struct record *record)
{
	size_t end;

	switch (record->type) {
	case DNS_TYPE_A:
		return record->length == 4 ? 0 : -EBADMSG;
	case DNS_TYPE_AAAA:
		return record->length == 16 ? 0 : -EBADMSG;
	case DNS_TYPE_CNAME:
		return dns_name_skip(message, record->data, &end) == 0 &&
				       end == (size_t)record->data + record->length
			       ? 0
			       : -EBADMSG;
	default:
		return 0;
	}
}

static int read_records(const struct dns_message *message, const struct dns_question *question,
			struct records *records, bool *left_out)
{
	size_t at = question->end;

	for (unsigned int left = bytes_16(message->bytes + 6); left > 0; left--) {
		struct record record = {.owner = (uint16_t)at};
		const uint8_t *fixed;

		if (dns_name_skip(message, at, &at) < 0 || message->length - at < RECORD_FIXED)
			return -EBADMSG;
		fixed = message->bytes + at;
		record.type = bytes_16(fixed);
		record.ttl = read_ttl(fixed + 4);
		record.length = bytes_16(fixed + 8);
		at += RECORD_FIXED;
		if (message->length - at < record.length)
			return -EBADMSG;
		record.data = (uint16_t)at;
		at += record.length;
		if (!may_matter(record.type, bytes_16(fixed + 2), question->type))
			continue;
		if (check_data(message, &record) < 0)
			return -EBADMSG;
		if (records->count == DNS_RECORDS_MAX) {
			*left_out = true;
			return 0;
		}
		records->links += record.type == DNS_TYPE_CNAME;
		records->list[records->count++] = record;
	}
	return 0;
}

/* ---- the chain ---- */

struct chain {
	size_t name; /* the offset of its end's */
	uint32_t ttl;
	uint8_t links;
};

/* Follow what leads on, once through the records. Return: 0 or an error. */
static int follow_once(const struct dns_message *message, struct records *records,
		       struct chain *chain)
{
	for (size_t i = 0; i < records->count; i++) {
		struct record *record = &records->list[i];

		if (record->type != DNS_TYPE_CNAME ||
		    !dns_name_equal(message, record->owner, chain->name))
			continue;
		if (!dns_name_valid(message, record->data))
			return -EBADMSG;
		if (chain->links == DNS_LINKS_MAX)
			return -ELOOP;
		chain->links++;
		chain->name = record->data;
		if (chain->ttl > record->ttl)
			chain->ttl = record->ttl;
		record->type = 0; /* no link leads on twice */
		records->links--;
	}
	return 0;
}

static int follow(const struct dns_message *message, struct records *records, struct chain *chain)
{
	size_t left;
	int err;

	do {
		left = records->links;
		err = left ? follow_once(message, records, chain) : 0;
	} while (!err && records->links < left);
	return err;
}

/* ---- its end ---- */

static void take(struct dns_answer *answer, const uint8_t *bytes, size_t size, uint32_t ttl)
{
	struct dns_address *address = &answer->addresses[answer->count];

	if (answer->count == DNS_ADDRESSES_MAX) {
		answer->left_out = true;
		return;
	}
	*address = (struct dns_address){.family = size == 4 ? AF_INET : AF_INET6, .ttl = ttl};
	memcpy(address->address.bytes, bytes, size);
	answer->count++;
}

static int take_hints(struct dns_answer *answer, const uint8_t *value, size_t length, size_t size,
		      uint32_t ttl)
{
	if (!length || length % size)
		return -EBADMSG;
	for (size_t i = 0; i < length; i += size)
		take(answer, value + i, size, ttl);
	return 0;
}

/* Priority, target, then parameters in the order of their keys; of priority 0 there are none. */
static int take_service(struct dns_answer *answer, const struct dns_message *message,
			const struct record *record, uint32_t ttl)
{
	const size_t end = (size_t)record->data + record->length;
	const struct dns_message upto = {message->bytes, end};
	int last_key = -1, err = 0;
	size_t at;

	if (record->length < 3 || dns_name_skip(&upto, (size_t)record->data + 2, &at) < 0)
		return -EBADMSG;
	if (bytes_16(message->bytes + record->data) == 0)
		return 0;
	while (at < end && !err) {
		const uint8_t *param = message->bytes + at;
		size_t length;

		if (end - at < 4 || bytes_16(param) <= last_key)
			return -EBADMSG;
		last_key = bytes_16(param);
		length = bytes_16(param + 2);
		if (end - at - 4 < length)
			return -EBADMSG;
		if (last_key == PARAM_IPV4HINT)
			err = take_hints(answer, param + 4, length, 4, ttl);
		else if (last_key == PARAM_IPV6HINT)
			err = take_hints(answer, param + 4, length, 16, ttl);
		at += 4 + length;
	}
	return err;
}

static int take_addresses(struct dns_answer *answer, const struct dns_message *message,
			  const struct records *records, const struct chain *chain)
{
	int err = 0;

	for (size_t i = 0; i < records->count && !err; i++) {
		const struct record *record = &records->list[i];
		const uint32_t ttl = record->ttl < chain->ttl ? record->ttl : chain->ttl;

		if (!is_address(record->type) ||
		    !dns_name_equal(message, record->owner, chain->name))
			continue;
		if (record->type == DNS_TYPE_A || record->type == DNS_TYPE_AAAA)
			take(answer, message->bytes + record->data, record->length, ttl);
		else
			err = take_service(answer, message, record, ttl);
	}
	answer->links = chain->links;
	return err;
}

int dns_answer_read(const uint8_t *bytes, size_t length, struct dns_answer *ret_answer)
{
	const struct dns_message message = {bytes, length};
	struct chain chain = {.name = DNS_HEADER, .ttl = INT32_MAX};
	struct records records;
	int err;

	ret_answer->links = ret_answer->count = 0;
	ret_answer->left_out = false;
	if (dns_question_read(&message, &ret_answer->question) < 0 ||
	    !(ret_answer->question.flags & DNS_FLAG_ANSWER) || ret_answer->question.flags & OPCODE)
		return -EBADMSG;
	ret_answer->rcode = ret_answer->question.flags & RCODE;
	ret_answer->truncated = ret_answer->question.flags & DNS_FLAG_TRUNCATED;
	if (ret_answer->rcode || ret_answer->truncated)
		return 0;
	records.count = records.links = 0;
	err = read_records(&message, &ret_answer->question, &records, &ret_answer->left_out);
	if (!err)
		err = follow(&message, &records, &chain);
	if (!err)
		err = take_addresses(ret_answer, &message, &records, &chain);
	if (err)
		ret_answer->count = 0;
	return err;
}
