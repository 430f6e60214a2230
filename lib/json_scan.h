/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is a text JSON, by RFC 8259 to the letter? json-c builds the trees, but what it takes differs:
 * its strict mode refuses every letter outside ASCII in 0.17 and 0.18 where char is signed, and
 * without that mode it takes comments, single quotes, numbers of any size. So texts are scanned
 * here first, and json-c is asked for no strictness: good and bad are the same with every version
 * of it.
 *
 * Where memory is short, json-c (0.16) leaves out a member, or the end of a string, without a word.
 * So texts and trees are weighed: each value counts, each character of a key and of a string (not
 * each byte: json-c takes some escaped pairs of surrogates for U+FFFD). A tree that weighs what its
 * text does is whole, if no key was given twice.
 *
 * A scan needs no memory. Each function reads one thing at `at`, moves past it, and returns true;
 * or false, with `problem` set and `at` where the mistake is.
 */
#ifndef NSGATE_JSON_SCAN_H
#define NSGATE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_SCAN_KEPT 256 /* bytes of a string that are kept: no honest key is longer */

/* A null weighs least: it is what json-c has where a value could not be made. */
enum { JSON_WEIGHT_NULL = 1, JSON_WEIGHT_VALUE = 2 };

struct json_object;
struct json_tokener;

struct json_scan {
	const unsigned char *start, *at, *end;
	const char *problem; /* a constant, or NULL */
	uint32_t weight;     /* json_scan_document() alone counts it */
};

struct json_scan_string {
	char bytes[JSON_SCAN_KEPT]; /* escapes resolved; no NUL behind them */
	size_t length; /* may be above JSON_SCAN_KEPT: then `bytes` holds the start of it */
	uint32_t characters;
	bool nul; /* an escaped one is in it */
};

struct json_scan json_scan_begin(const char *text, size_t length);

/* Always false, so that callers can return it. */
bool json_scan_fail(struct json_scan *scan, const char *problem);

/* Move past the character if it is there. No problem if it is not. */
bool json_scan_take(struct json_scan *scan, unsigned char c);
void json_scan_space(struct json_scan *scan);

/* UTF-8 in its shortest form, no surrogate without the other. */
bool json_scan_string(struct json_scan *scan, struct json_scan_string *ret);

/* A whole number fits into int64_t or uint64_t, so that json-c does not make another one of it. */
bool json_scan_number(struct json_scan *scan);

/* true, false, null: `word` is there. */
bool json_scan_word(struct json_scan *scan, const char *word);

/*
 * One document, nested at most `depth` levels deep, and nothing but space behind it.
 * @ret_weight: modulo 2^32
 */
bool json_scan_document(const char *text, size_t length, int depth, uint32_t *ret_weight);

/* Is it a character, or the first byte of one? */
static inline bool json_scan_begins_character(char c)
{
	return ((unsigned char)c & 0xc0) != 0x80;
}

/* What a tree weighs; NULL is a null. */
uint32_t json_weigh(struct json_object *value);

/*
 * Why a tokener has built no whole tree of a text that was scanned.
 * Return: -ENOMEM; -EINVAL where json-c has a word against the text.
 */
int json_scan_refused(struct json_tokener *tokener);

#endif
