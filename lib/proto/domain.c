// SPDX-License-Identifier: GPL-2.0-or-later
#include "proto/domain.h"

#include <errno.h>
#include <idn2.h>
#include <stdlib.h>
#include <string.h>

/* What a byte of a host's name becomes; 0: it is no part of one. The dot is not in a label. */
#define LOWER(c) [(c) - 'a' + 'A'] = (c), [c] = (c)
static const uint8_t host_bytes[256] = {
	LOWER('a'),  LOWER('b'),  LOWER('c'),  LOWER('d'),  LOWER('e'),	 LOWER('f'),  LOWER('g'),
	LOWER('h'),  LOWER('i'),  LOWER('j'),  LOWER('k'),  LOWER('l'),	 LOWER('m'),  LOWER('n'),
	LOWER('o'),  LOWER('p'),  LOWER('q'),  LOWER('r'),  LOWER('s'),	 LOWER('t'),  LOWER('u'),
	LOWER('v'),  LOWER('w'),  LOWER('x'),  LOWER('y'),  LOWER('z'),	 ['0'] = '0', ['1'] = '1',
	['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8',
	['9'] = '9', ['-'] = '-', ['_'] = '_'};

uint8_t domain_fold(uint8_t byte)
{
	if (byte >= 'A' && byte <= 'Z')
		return (uint8_t)(byte - 'A' + 'a');
	return byte > ' ' && byte < 0x7f && byte != '.' ? byte : 0;
}

/* Decimal, octal or hexadecimal: inet_aton(3) and browsers take a name that ends so for an address.
 */
static bool is_number(const char *label, size_t length)
{
	const bool hex = length >= 2 && label[0] == '0' && label[1] == 'x';

	for (size_t i = hex ? 2 : 0; i < length; i++)
		if (!(label[i] >= '0' && label[i] <= '9') &&
		    !(hex && label[i] >= 'a' && label[i] <= 'f'))
			return false;
	return true;
}

int domain_from_host(struct domain *ret_domain, const char *text, size_t length)
{
	struct domain domain;
	size_t label = 0;

	if (length && text[length - 1] == '.')
		length--;
	if (!length || length > DOMAIN_TEXT_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < length; i++) {
		const uint8_t byte = host_bytes[(uint8_t)text[i]];

		domain.text[i] = (char)byte;
		if (byte)
			continue;
		if (text[i] != '.' || i == label || i - label > DOMAIN_LABEL_MAX)
			return -EBADMSG;
		domain.text[i] = '.';
		label = i + 1;
	}
	if (label == length || length - label > DOMAIN_LABEL_MAX ||
	    is_number(domain.text + label, length - label))
		return -EBADMSG;
	domain.text[length] = '\0';
	ret_domain->length = (uint8_t)length;
	memcpy(ret_domain->text, domain.text, length + 1);
	return 0;
}

bool domain_equal(const struct domain *a, const struct domain *b)
{
	return a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
}

/* ---- patterns ---- */

static bool is_ascii(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] >= 0x80)
			return false;
	return true;
}

static int wrong(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EINVAL;
}

/* A name or the end of one, in the letters of its users. */
static int read_name(struct domain *ret_domain, const char *text, const char **ret_why)
{
	char *ascii = NULL;
	int err;

	if (is_ascii(text, strlen(text))) {
		err = domain_from_host(ret_domain, text, strlen(text));
	} else {
		err = idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
		if (err == IDN2_MALLOC)
			return -ENOMEM;
		if (err != IDN2_OK)
			return wrong(ret_why, idn2_strerror(err));
		err = domain_from_host(ret_domain, ascii, strlen(ascii));
		idn2_free(ascii);
	}
	if (!err)
		return 0;
	return wrong(ret_why,
		     "not a name of labels of 1 to 63 letters, digits, '-' and '_', 253 bytes "
		     "in all, that ends in no number (an address belongs in \"dst\")");
}

/* x*y.a.b: the first label is ASCII, as half a U-label has no A-label. */
static int read_star(struct domain_pattern *pattern, const char *text, const char *star,
		     const char **ret_why)
{
	const char *dot = strchr(text, '.');
	const size_t label = dot ? (size_t)(dot - text) : strlen(text);
	const size_t before = (size_t)(star - text);
	char whole[DOMAIN_TEXT_MAX + 2];
	struct domain above = {.length = 0};
	size_t length = label - 1;
	int err;

	if (before > label || memchr(star + 1, '*', label - before - 1) ||
	    (dot && strchr(dot, '*')))
		return wrong(ret_why, "'*' may stand once, in the first label");
	if (!is_ascii(text, label))
		return wrong(ret_why, "beside '*' a label is ASCII: write its A-label (xn--...)");
	if (dot && dot[1]) {
		err = read_name(&above, dot + 1, ret_why);
		if (err < 0)
			return err;
	}
	if (label - 1 > DOMAIN_LABEL_MAX)
		return wrong(ret_why, "a label is longer than 63 bytes");
	memcpy(whole, text, before);
	memcpy(whole + before, star + 1, label - before - 1);
	if (above.length) {
		if (length + 1 + above.length > DOMAIN_TEXT_MAX)
			return wrong(ret_why, "longer than 253 bytes");
		whole[length++] = '.';
		memcpy(whole + length, above.text, above.length);
		length += above.length;
	}
	whole[length] = '\0';
	pattern->kind = DOMAIN_PATTERN_STAR;
	pattern->star = (uint8_t)before;
	return read_name(&pattern->domain, whole, ret_why);
}

static int read_pattern(struct domain_pattern *pattern, const char *text, const char **ret_why)
{
	const char *star = strchr(text, '*');

	if (!*text)
		return wrong(ret_why, "an empty name");
	if (strcmp(text, "*") == 0) {
		pattern->kind = DOMAIN_PATTERN_BELOW;
		return 0;
	}
	if (strncmp(text, "*.", 2) == 0) {
		pattern->kind = DOMAIN_PATTERN_BELOW;
		text += 2;
		star = strchr(text, '*');
	} else if (*text == '.') {
		pattern->kind = DOMAIN_PATTERN_BOTH;
		text++;
	} else if (star) {
		return read_star(pattern, text, star, ret_why);
	}
	return star ? wrong(ret_why, "'*' may stand once, in the first label")
		    : read_name(&pattern->domain, text, ret_why);
}

int domain_pattern_parse(struct domain_pattern *ret_pattern, const char *text, const char **ret_why)
{
	struct domain_pattern pattern = {.kind = DOMAIN_PATTERN_EXACT};
	const int err = read_pattern(&pattern, text, ret_why);

	if (!err)
		*ret_pattern = pattern;
	return err;
}

static bool ends_in(const struct domain *domain, const char *end, size_t length)
{
	return domain->length >= length &&
	       memcmp(domain->text + domain->length - length, end, length) == 0;
}

static bool is_below(const struct domain *domain, const struct domain *above)
{
	if (!above->length)
		return domain->length > 0;
	return domain->length > above->length && ends_in(domain, above->text, above->length) &&
	       domain->text[domain->length - above->length - 1] == '.';
}

static bool star_matches(const struct domain_pattern *pattern, const struct domain *domain)
{
	const char *end = pattern->domain.text + pattern->star;
	const char *dot = memchr(domain->text, '.', domain->length);
	const size_t label = dot ? (size_t)(dot - domain->text) : domain->length;
	const size_t labels_end =
		strcspn(end, "."); /* of the pattern's label, what follows the star */

	return label >= pattern->star + labels_end &&
	       memcmp(domain->text, pattern->domain.text, pattern->star) == 0 &&
	       domain->length - label == strlen(end) - labels_end &&
	       ends_in(domain, end, strlen(end));
}

bool domain_pattern_match(const struct domain_pattern *pattern, const struct domain *domain)
{
	switch (pattern->kind) {
	case DOMAIN_PATTERN_EXACT:
		return domain_equal(&pattern->domain, domain);
	case DOMAIN_PATTERN_BELOW:
		return is_below(domain, &pattern->domain);
	case DOMAIN_PATTERN_BOTH:
		return domain_equal(&pattern->domain, domain) || is_below(domain, &pattern->domain);
	case DOMAIN_PATTERN_STAR:
		return star_matches(pattern, domain);
	case DOMAIN_PATTERN_MAX:
	default:
		return false;
	}
}
