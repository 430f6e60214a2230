/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A domain name as it is compared, and the patterns that policies write for names.
 *
 * Promised: two names that a server or a resolver takes for the same one are the same text here, as
 * case is folded and the final dot is gone. What is no name of a host (an address, a NUL, a zone, a
 * byte beyond ASCII) never becomes one.
 * Not promised: that hyphens stand where RFC 952 wants them, or that an A-label decodes.
 */
#ifndef NSGATE_PROTO_DOMAIN_H
#define NSGATE_PROTO_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOMAIN_LABEL_MAX 63 /* RFC 1035, 2.3.4 */
#define DOMAIN_TEXT_MAX 253 /* 255 bytes on the wire, less the first length and the root */

struct domain {
	uint8_t length;			/* of `text`, bytes; 0 is the root, or no name */
	char text[DOMAIN_TEXT_MAX + 1]; /* lower case, no final dot, ends in NUL */
};

/*
 * Read the name of a host, as a ClientHello or a Host line has it: letters, digits, '-' and '_' in
 * labels of 1 to 63 bytes (RFC 1123, 2.1; RFC 5890, 2.3.1). One final dot is dropped.
 * @text: `length` bytes, no NUL needed
 * Return: 0; -EBADMSG it is no such name, or one whose last label is a number, as those are
 * addresses.
 */
int domain_from_host(struct domain *ret_domain, const char *text, size_t length);

/*
 * The byte of a label as it is compared: a letter in lower case; other visible ASCII but the dot as
 * it is; 0 for what no name here may hold. What a name on the DNS' wire may be made of.
 */
uint8_t domain_fold(uint8_t byte);

bool domain_equal(const struct domain *a, const struct domain *b);

enum domain_pattern_kind {
	DOMAIN_PATTERN_EXACT, /* a.b */
	DOMAIN_PATTERN_BELOW, /* *.a.b: any depth below a.b, not a.b; of no name: every name */
	DOMAIN_PATTERN_BOTH,  /* .a.b: a.b and any depth below */
	DOMAIN_PATTERN_STAR,  /* x*y.a.b: one label that begins with x and ends in y, then a.b */
	DOMAIN_PATTERN_MAX
};

struct domain_pattern {
	enum domain_pattern_kind kind;
	struct domain domain; /* without what makes it a pattern: xy.a.b for the last kind */
	uint8_t star; /* DOMAIN_PATTERN_STAR: so many bytes of `domain` are before the star */
};

/*
 * Read a pattern. U-labels become A-labels (IDNA 2008 with the mapping of UTS 46, by libidn2, which
 * allocates: this is for when policies are compiled). The star stands for any number of bytes, none
 * too, and there is one at most.
 * @ret_why: where it is wrong, a sentence that says what and what to do; static
 * Return: 0; -EINVAL not a pattern; -ENOMEM.
 */
int domain_pattern_parse(struct domain_pattern *ret_pattern, const char *text,
			 const char **ret_why);

/* Does the pattern match? The plain form, in which patterns are tried one by one. */
bool domain_pattern_match(const struct domain_pattern *pattern, const struct domain *domain);

#endif
