// SPDX-License-Identifier: GPL-2.0-or-later
#include "proto/dns_name.h"

#include <errno.h>

#define WIRE_MAX 255 /* RFC 1035, 2.3.4 */
#define POINTER 0xc0

/* A walk over the labels of a name, through its pointers. */
struct walk {
	const struct dns_message *message;
	size_t at;
	size_t run; /* where the labels since the last pointer began */
};

/* To the next label, through pointers. Return: its length, 0 at the end; -EBADMSG. */
static int next_label(struct walk *walk)
{
	const struct dns_message *message = walk->message;

	while (walk->at < message->length) {
		const uint8_t length = message->bytes[walk->at];
		size_t target;

		if (length <= DOMAIN_LABEL_MAX)
			return walk->at + length < message->length ? length : -EBADMSG;
		if (length < POINTER || walk->at + 1 >= message->length)
			return -EBADMSG;
		target = (size_t)(length & ~POINTER) << 8 | message->bytes[walk->at + 1];
		if (target < DNS_HEADER || target >= walk->run)
			return -EBADMSG;
		walk->at = walk->run = target;
	}
	return -EBADMSG;
}

int dns_name_skip(const struct dns_message *message, size_t at, size_t *ret_end)
{
	size_t run = at;

	while (at < message->length) {
		const uint8_t length = message->bytes[at];
		struct walk walk = {message, at, run};

		if (length >= POINTER) {
			if (next_label(&walk) < 0)
				return -EBADMSG;
			*ret_end = at + 2;
			return 0;
		}
		if (length > DOMAIN_LABEL_MAX)
			return -EBADMSG;
		at += 1 + (size_t)length;
		if (!length) {
			*ret_end = at;
			return 0;
		}
	}
	return -EBADMSG;
}

bool dns_name_valid(const struct dns_message *message, size_t at)
{
	struct walk walk = {message, at, at};
	size_t total = 1;
	int length;

	while ((length = next_label(&walk)) > 0) {
		total += 1 + (size_t)length;
		if (total > WIRE_MAX)
			return false;
		walk.at += 1 + (size_t)length;
	}
	return length == 0;
}

static uint8_t lower(uint8_t byte)
{
	return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte - 'A' + 'a') : byte;
}

static bool same_label(const uint8_t *a, const uint8_t *b, int length)
{
	for (int i = 0; i < length; i++)
		if (lower(a[i]) != lower(b[i]))
			return false;
	return true;
}

bool dns_name_equal(const struct dns_message *message, size_t a, size_t b)
{
	struct walk one = {message, a, a}, other = {message, b, b};

	for (;;) {
		const int length = next_label(&one);

		if (length < 0 || length != next_label(&other))
			return false;
		if (!length || one.at == other.at)
			return true;
		one.at++;
		other.at++;
		if (!same_label(message->bytes + one.at, message->bytes + other.at, length))
			return false;
		one.at += (size_t)length;
		other.at += (size_t)length;
	}
}

int dns_name_read(const struct dns_message *message, size_t at, struct domain *ret_domain,
		  size_t *ret_end)
{
	struct domain domain;
	size_t length = 0;

	for (;;) {
		const uint8_t label = at < message->length ? message->bytes[at] : UINT8_MAX;

		at++;
		if (!label)
			break;
		if (label > DOMAIN_LABEL_MAX || at + label > message->length ||
		    length + label > DOMAIN_TEXT_MAX)
			return -EBADMSG;
		for (size_t i = 0; i < label; i++) {
			const uint8_t byte = domain_fold(message->bytes[at + i]);

			if (!byte)
				return -EBADMSG;
			domain.text[length++] = (char)byte;
		}
		domain.text[length++] = '.';
		at += label;
	}
	domain.length = (uint8_t)(length ? length - 1 : 0);
	domain.text[domain.length] = '\0';
	ret_domain->length = domain.length;
	for (size_t i = 0; i <= domain.length; i++)
		ret_domain->text[i] = domain.text[i];
	*ret_end = at;
	return 0;
}
