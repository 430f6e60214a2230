/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: a byte that says how a stream is cut, then a message.
 *
 * Must hold, against a reading that decodes every name into text first: what is a query and what it
 * asks; which addresses an answer leads to. What a query is turned into is an answer to it,
 * refused, with no address, not longer. A stream of messages is cut in the same places however it
 * comes.
 */
#include <errno.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "proto/dns_answer.h"
#include "proto/dns_query.h"
#include "proto/dns_stream.h"

#define BAD UINT32_MAX

/* ---- the plain reading ---- */

struct plain {
	const uint8_t *bytes;
	uint32_t length;
};

struct plain_name {
	bool good;
	uint32_t length;
	uint8_t text[256]; /* labels as on the wire, lower case, with their lengths */
};

static uint32_t number(const struct plain *message, uint32_t at, uint32_t size)
{
	uint32_t value = 0;

	for (uint32_t i = 0; i < size; i++)
		value = value << 8 | message->bytes[at + i];
	return value;
}

/* Follows at most 200 pointers; what is `strict` has to end before the message does. */
static struct plain_name decode(const struct plain *message, uint32_t at)
{
	struct plain_name name = {.good = false};
	uint32_t begun = at;

	for (;;) {
		if (at >= message->length)
			return name;
		if (message->bytes[at] >= 192) {
			uint32_t target;

			if (at + 2 > message->length)
				return name;
			target = number(message, at, 2) & 0x3fff;
			if (target < 12 || target >= begun)
				return name;
			at = begun = target;
			continue;
		}
		if (message->bytes[at] > 63 || name.length + message->bytes[at] + 1 > 255)
			return name;
		if (message->bytes[at] == 0) {
			name.good = true;
			name.text[name.length++] = 0;
			return name;
		}
		if (at + 1 + message->bytes[at] > message->length)
			return name;
		name.text[name.length++] = message->bytes[at];
		for (uint32_t i = message->bytes[at++]; i > 0; i--, at++)
			name.text[name.length++] =
				(uint8_t)(message->bytes[at] >= 'A' && message->bytes[at] <= 'Z'
						  ? message->bytes[at] + 32
						  : message->bytes[at]);
	}
}

/* Where the name ends in the place where it begins; BAD too where its first pointer is. */
static uint32_t behind(const struct plain *message, uint32_t begin)
{
	uint32_t at = begin;

	while (at < message->length && message->bytes[at] && message->bytes[at] < 64)
		at += 1u + message->bytes[at];
	if (at >= message->length || (message->bytes[at] >= 64 && message->bytes[at] < 192))
		return BAD;
	if (!message->bytes[at])
		return at + 1;
	for (uint32_t run = begin, pointer = at;;) {
		uint32_t target;

		if (pointer + 2 > message->length)
			return BAD;
		target = number(message, pointer, 2) & 0x3fff;
		if (target < 12 || target >= run ||
		    (message->bytes[target] >= 64 && message->bytes[target] < 192))
			return BAD;
		if (message->bytes[target] < 64)
			return target + message->bytes[target] < message->length ? at + 2 : BAD;
		run = pointer = target;
	}
}

static bool same(const struct plain_name *a, const struct plain_name *b)
{
	return a->good && b->good && a->length == b->length &&
	       memcmp(a->text, b->text, a->length) == 0;
}

static bool is_text(const struct plain *message, const struct domain *domain)
{
	const struct plain_name name = decode(message, 12);
	uint32_t at = 0;

	MUST(name.good);
	if (!domain->length)
		return name.length == 1;
	for (uint32_t i = 0; name.text[i]; i += 1u + name.text[i]) {
		if (i)
			MUST(domain->text[at++] == '.');
		MUST(memcmp(domain->text + at, name.text + i + 1, name.text[i]) == 0);
		at += name.text[i];
	}
	return at == domain->length;
}

/* Where the question ends; BAD. */
static uint32_t question(const struct plain *message)
{
	uint32_t at = 12;

	if (message->length < 12 || message->length > 65535 || number(message, 4, 2) != 1)
		return BAD;
	while (at < message->length && message->bytes[at]) {
		if (message->bytes[at] > 63)
			return BAD;
		for (uint32_t i = 1; i <= message->bytes[at]; i++)
			if (at + i >= message->length || message->bytes[at + i] <= 32 ||
			    message->bytes[at + i] >= 127 || message->bytes[at + i] == '.')
				return BAD;
		at += 1u + message->bytes[at];
	}
	at++;
	if (at - 12 > 255 || at + 4 > message->length || number(message, at + 2, 2) != 1)
		return BAD;
	return at + 4;
}

static bool plain_is_query(const struct plain *message)
{
	const uint32_t end = question(message);
	uint32_t at = end + 11;

	if (end == BAD || number(message, 2, 2) & ~0x0130u || number(message, 6, 2) ||
	    number(message, 8, 2))
		return false;
	if (number(message, 10, 2) == 0)
		return end == message->length;
	if (number(message, 10, 2) != 1 || at > message->length || number(message, end, 3) != 41 ||
	    number(message, end + 5, 2) || at + number(message, end + 9, 2) != message->length)
		return false;
	while (at < message->length) {
		if (at + 4 > message->length)
			return false;
		at += 4 + number(message, at + 2, 2);
	}
	return at == message->length;
}

/* ---- the plain reading of answers ---- */

struct plain_record {
	struct plain_name owner, target;
	uint32_t type, class, ttl, data, length;
	bool used;
};

static struct plain_record records[DNS_RECORDS_MAX];
static uint32_t record_count;

struct plain_answer {
	bool good, cut; /* more than fits */
	uint32_t count;
	struct dns_address addresses[65536 / 4];
};

static struct plain_answer plain;

static bool wanted(uint32_t type, uint32_t asked)
{
	return type == 5 || ((type == 1 || type == 28 || type == 64 || type == 65) &&
			     (asked == type || asked == 255));
}

static bool collect(const struct plain *message, uint32_t at)
{
	const uint32_t asked = number(message, at - 4, 2);

	record_count = 0;
	for (uint32_t left = number(message, 6, 2); left > 0; left--) {
		struct plain_record record = {.owner = decode(message, at)};

		at = behind(message, at);
		if (at == BAD || at + 10 > message->length)
			return false;
		record.type = number(message, at, 2);
		record.class = number(message, at + 2, 2);
		record.ttl = number(message, at + 4, 4) >> 31 ? 0 : number(message, at + 4, 4);
		record.length = number(message, at + 8, 2);
		record.data = at += 10;
		at += record.length;
		if (at > message->length)
			return false;
		if (record.class != 1 || !wanted(record.type, asked))
			continue;
		if ((record.type == 1 && record.length != 4) ||
		    (record.type == 28 && record.length != 16) ||
		    (record.type == 5 && behind(message, record.data) != at))
			return false;
		if (record_count == DNS_RECORDS_MAX) {
			plain.cut = true;
			return true;
		}
		record.target = decode(message, record.data);
		records[record_count++] = record;
	}
	return true;
}

static void note(const struct plain *message, uint32_t at, uint32_t size, uint32_t ttl)
{
	struct dns_address *address = &plain.addresses[plain.count++];

	memset(address, 0, sizeof(*address));
	memcpy(address->address.bytes, message->bytes + at, size);
	address->family = size == 4 ? AF_INET : AF_INET6;
	address->ttl = ttl;
}

static bool note_service(const struct plain *message, const struct plain_record *record,
			 uint32_t ttl)
{
	const struct plain upto = {message->bytes, record->data + record->length};
	uint32_t at, key = BAD;

	if (record->length < 3)
		return false;
	at = behind(&upto, record->data + 2);
	if (at == BAD)
		return false;
	if (number(message, record->data, 2) == 0)
		return true;
	while (at < upto.length) {
		uint32_t size, length;

		if (at + 4 > upto.length || (key != BAD && number(message, at, 2) <= key))
			return false;
		key = number(message, at, 2);
		length = number(message, at + 2, 2);
		at += 4;
		if (at + length > upto.length)
			return false;
		size = key == 4 ? 4 : key == 6 ? 16 : 0;
		if (size && (!length || length % size))
			return false;
		for (uint32_t i = 0; size && i < length; i += size)
			note(message, at + i, size, ttl);
		at += length;
	}
	return true;
}

static void read_plainly(const struct plain *message)
{
	const uint32_t end = question(message);
	struct plain_name name;
	uint32_t ttl = INT32_MAX;
	int links = 0;

	memset(&plain, 0, offsetof(struct plain_answer, addresses));
	if (end == BAD || (number(message, 2, 2) & 0xf800) != 0x8000)
		return;
	plain.good = true;
	if (number(message, 2, 2) & 0x020f)
		return;
	plain.good = collect(message, end);
	name = decode(message, 12);
	for (bool on = plain.good; on;) {
		on = false;
		for (uint32_t i = 0; i < record_count && plain.good; i++) {
			if (records[i].type != 5 || records[i].used ||
			    !same(&records[i].owner, &name))
				continue;
			plain.good = records[i].target.good && ++links <= 16;
			records[i].used = on = true;
			name = records[i].target;
			ttl = records[i].ttl < ttl ? records[i].ttl : ttl;
		}
	}
	for (uint32_t i = 0; i < record_count && plain.good; i++) {
		const struct plain_record *record = &records[i];
		const uint32_t least = record->ttl < ttl ? record->ttl : ttl;

		if (record->type == 5 || !same(&record->owner, &name))
			continue;
		if (record->type == 1 || record->type == 28)
			note(message, record->data, record->length, least);
		else
			plain.good = note_service(message, record, least);
	}
	if (plain.count > DNS_ADDRESSES_MAX)
		plain.cut = true;
}

/* ---- both ---- */

static void check_answer(const uint8_t *bytes, size_t length)
{
	const struct plain message = {bytes, (uint32_t)length};
	struct dns_answer answer;
	const int err = dns_answer_read(bytes, length, &answer);

	read_plainly(&message);
	MUST(err == 0 || err == -EBADMSG || err == -ELOOP);
	MUST((err == 0) == plain.good);
	MUST(!err || answer.count == 0);
	if (err)
		return;
	MUST(answer.left_out == plain.cut && answer.links <= DNS_LINKS_MAX);
	MUST(is_text(&message, &answer.question.name));
	MUST(answer.count == (plain.count < DNS_ADDRESSES_MAX ? plain.count : DNS_ADDRESSES_MAX));
	for (uint32_t i = 0; i < answer.count; i++) {
		MUST(answer.addresses[i].family == plain.addresses[i].family);
		MUST(answer.addresses[i].ttl == plain.addresses[i].ttl);
		MUST(memcmp(&answer.addresses[i].address, &plain.addresses[i].address, 16) == 0);
	}
}

static void check_query(const uint8_t *bytes, size_t length)
{
	const struct plain message = {bytes, (uint32_t)length};
	struct dns_question asked;
	const int err = dns_query_read(bytes, length, &asked);
	struct dns_answer answer;
	uint8_t *turned;
	size_t left;

	MUST(err == 0 || err == -EBADMSG);
	MUST((err == 0) == plain_is_query(&message));
	if (err)
		return;
	MUST(is_text(&message, &asked.name) && asked.type == number(&message, asked.end - 4u, 2));
	turned = malloc(length);
	MUST(turned);
	memcpy(turned, bytes, length);
	left = dns_query_refuse(turned, length, &asked, DNS_RCODE_NXDOMAIN);
	MUST(left <= length && left >= asked.end);
	MUST(memcmp(turned, bytes, 2) == 0);
	MUST(memcmp(turned + 4, bytes + 4, asked.end - 4u) == 0);
	MUST(dns_answer_read(turned, left, &answer) == 0);
	MUST(answer.rcode == DNS_RCODE_NXDOMAIN && !answer.truncated && answer.count == 0);
	MUST((turned[2] & 0xfe) == 0x80 && turned[2] == (bytes[2] | 0x80));
	turned[2] = bytes[2]; /* as a query it is one again: its records are in order */
	turned[3] = bytes[3];
	MUST(dns_query_read(turned, left, &asked) == 0);
	free(turned);
}

/* The stream in one piece and in pieces; `cut` chooses them. */
static void check_stream(const uint8_t *bytes, size_t length, uint8_t cut)
{
	static struct dns_stream whole, pieces;
	size_t at = 0, fed = 0, begin = 0;

	whole.have = pieces.have = 0;
	while (at < length) {
		size_t used, taken, size = 0;
		const enum dns_stream_result result =
			dns_stream_feed(&whole, bytes + at, length - at, &used);
		enum dns_stream_result other = DNS_STREAM_MORE;
		const uint8_t *message;

		at += used;
		while (fed < at && other == DNS_STREAM_MORE) {
			const size_t piece = 1 + (fed * 31 + cut) % (cut + 1u);

			other = dns_stream_feed(&pieces, bytes + fed,
						piece < at - fed ? piece : at - fed, &taken);
			fed += taken;
		}
		MUST(fed == at && other == result);
		if (result == DNS_STREAM_BAD)
			return;
		if (result == DNS_STREAM_MORE) {
			MUST(at == length);
			return;
		}
		size = dns_stream_message(&whole, &message);
		MUST(size == (size_t)(bytes[begin] << 8 | bytes[begin + 1]));
		MUST(memcmp(message, bytes + begin + 2, size) == 0);
		MUST(dns_stream_message(&pieces, &message) == size);
		MUST(memcmp(message, bytes + begin + 2, size) == 0);
		begin += 2 + size;
		MUST(begin == at);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *exact = malloc(size ? size : 1);

	MUST(exact);
	if (size > 0) {
		memcpy(exact, data + 1, size - 1);
		check_query(exact, size - 1);
		check_answer(exact, size - 1);
		check_stream(exact, size - 1, data[0]);
	}
	free(exact);
	return 0;
}
