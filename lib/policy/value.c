/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "policy/value.h"

bool policy_value_bool(struct policy_reader *reader, struct json_object *value, bool *ret)
{
	if (!json_object_is_type(value, json_type_boolean)) {
		policy_complain(reader, "must be true or false, without quotes");
		return false;
	}
	*ret = json_object_get_boolean(value);
	return true;
}

bool policy_value_text(struct policy_reader *reader, struct json_object *value, const char **ret)
{
	if (!json_object_is_type(value, json_type_string)) {
		policy_complain(reader, "must be a string");
		return false;
	}
	*ret = json_object_get_string(value);
	return true;
}

bool policy_value_word(struct policy_reader *reader, struct json_object *value,
		       const char *const *words, int *ret)
{
	const char *text, *nearest;
	char list[160] = "";
	size_t count = 0;

	if (!policy_value_text(reader, value, &text))
		return false;
	for (; words[count]; count++) {
		if (strcmp(words[count], text) == 0) {
			*ret = (int)count;
			return true;
		}
	}
	for (size_t i = 0; i < count; i++) {
		size_t used = strlen(list);

		snprintf(list + used, sizeof(list) - used, "%s\"%s\"",
			 i == 0		  ? ""
			 : i + 1 == count ? " or "
					  : ", ",
			 words[i]);
	}
	nearest = policy_nearest(text, words, count);
	if (nearest)
		policy_complain(reader, "\"%.40s\" is not %s; did you mean \"%s\"?", text, list,
				nearest);
	else
		policy_complain(reader, "\"%.40s\" is not %s", text, list);
	return false;
}

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool policy_value_name(struct policy_reader *reader, struct json_object *value,
		       char ret[NSGATE_NAME_MAX])
{
	const char *text;
	size_t length;

	if (!policy_value_text(reader, value, &text))
		return false;
	length = strlen(text);
	if (length >= NSGATE_NAME_MAX) {
		policy_complain(reader, "a name has at most %d characters, this one %zu",
				NSGATE_NAME_MAX - 1, length);
		return false;
	}
	for (size_t i = 0; i < length || i == 0; i++) {
		if (is_alnum(text[i]) || (i > 0 && strchr("_.-", text[i])))
			continue;
		policy_complain(reader, "a name starts with a letter or a digit, and goes on with "
					"letters, digits, \"_\", \".\" and \"-\"");
		return false;
	}
	memcpy(ret, text, length + 1);
	return true;
}

/* ---- numbers ---- */

/* The decimal digits at *at, or "0x" and hexadecimal ones; *at is moved past them. */
static bool read_digits(const char **at, bool hex_allowed, uint64_t *ret)
{
	const char *from = *at;
	unsigned int base = 10, digit;
	uint64_t number = 0;

	if (hex_allowed && from[0] == '0' && (from[1] == 'x' || from[1] == 'X')) {
		base = 16;
		from += 2;
	}
	for (*at = from;; ++*at) {
		if (**at >= '0' && **at <= '9')
			digit = (unsigned int)(**at - '0');
		else if (base == 16 && (**at | 0x20) >= 'a' && (**at | 0x20) <= 'f')
			digit = (unsigned int)((**at | 0x20) - 'a') + 10;
		else
			break;
		/* Stops growing far above anything that is allowed: the range check refuses it. */
		if (number < UINT64_C(1) << 56)
			number = number * base + digit;
	}
	*ret = number;
	return *at != from;
}

static bool check_range(struct policy_reader *reader, const char *what, uint64_t number,
			uint64_t low, uint64_t high)
{
	if (number >= low && number <= high)
		return true;
	policy_complain(reader, "%s %" PRIu64 " is not in %" PRIu64 "..%" PRIu64, what, number, low,
			high);
	return false;
}

bool policy_value_number(struct policy_reader *reader, struct json_object *value, const char *what,
			 uint64_t low, uint64_t high, uint64_t *ret)
{
	const char *text;
	uint64_t number;

	if (json_object_is_type(value, json_type_string)) {
		text = json_object_get_string(value);
		if (read_digits(&text, false, &number) && *text == '\0')
			policy_complain(reader,
					"%s must be a number: write %" PRIu64 " without quotes",
					what, number);
		else
			policy_complain(reader,
					"%s must be a whole number in %" PRIu64 "..%" PRIu64, what,
					low, high);
		return false;
	}
	if (!json_object_is_type(value, json_type_int)) {
		policy_complain(reader, "%s must be a whole number in %" PRIu64 "..%" PRIu64, what,
				low, high);
		return false;
	}
	if (json_object_get_int64(value) < 0) {
		policy_complain(reader, "%s %" PRId64 " is not in %" PRIu64 "..%" PRIu64, what,
				json_object_get_int64(value), low, high);
		return false;
	}
	number = json_object_get_uint64(value);
	if (!check_range(reader, what, number, low, high))
		return false;
	*ret = number;
	return true;
}

bool policy_value_range(struct policy_reader *reader, struct json_object *value, const char *what,
			uint64_t max, union policy_value *ret)
{
	uint64_t low, high;
	const char *text;

	if (!json_object_is_type(value, json_type_string)) {
		if (!policy_value_number(reader, value, what, 0, max, &low))
			return false;
		ret->range.low = low;
		ret->range.high = low;
		return true;
	}
	text = json_object_get_string(value);
	if (!read_digits(&text, false, &low) || *text++ != '-')
		return policy_value_number(reader, value, what, 0, max, &low);
	if (!read_digits(&text, false, &high) || *text != '\0') {
		policy_complain(reader, "\"%.40s\" is not a range; write it like \"10-20\"",
				json_object_get_string(value));
		return false;
	}
	if (!check_range(reader, what, low, 0, max) || !check_range(reader, what, high, 0, max))
		return false;
	if (low > high) {
		policy_complain(reader, "the range is reversed; write \"%" PRIu64 "-%" PRIu64 "\"",
				high, low);
		return false;
	}
	ret->range.low = low;
	ret->range.high = high;
	return true;
}

/* ---- marks ---- */

static bool check_mark(struct policy_reader *reader, uint64_t number)
{
	if (number <= POLICY_MARK_MASK)
		return true;
	policy_complain(reader, "0x%" PRIx64 " is above 0xffffffff; a mark has 32 bits", number);
	return false;
}

static bool mark_malformed(struct policy_reader *reader)
{
	policy_complain(reader, "a mark is a number, or a string like \"0x10\"");
	return false;
}

bool policy_value_mark(struct policy_reader *reader, struct json_object *value, uint32_t *ret)
{
	const char *text;
	uint64_t number;

	if (json_object_is_type(value, json_type_int)) {
		if (!policy_value_number(reader, value, "mark", 0, UINT64_MAX, &number))
			return false;
	} else if (json_object_is_type(value, json_type_string)) {
		text = json_object_get_string(value);
		if (!read_digits(&text, true, &number) || *text != '\0')
			return mark_malformed(reader);
	} else {
		return mark_malformed(reader);
	}
	if (!check_mark(reader, number))
		return false;
	*ret = (uint32_t)number;
	return true;
}

bool policy_value_mark_match(struct policy_reader *reader, struct json_object *value,
			     union policy_value *ret)
{
	uint64_t number, mask = POLICY_MARK_MASK;
	const char *text;
	uint32_t mark;

	if (!json_object_is_type(value, json_type_string)) {
		if (!policy_value_mark(reader, value, &mark))
			return false;
		number = mark;
	} else {
		text = json_object_get_string(value);
		if (!read_digits(&text, true, &number))
			return mark_malformed(reader);
		if (*text == '/') {
			text++;
			if (!read_digits(&text, true, &mask))
				return mark_malformed(reader);
		}
		if (*text != '\0')
			return mark_malformed(reader);
		if (!check_mark(reader, number) || !check_mark(reader, mask))
			return false;
	}
	if (number & ~mask) {
		policy_complain(reader,
				"bits of 0x%" PRIx64 " are outside of its mask 0x%" PRIx64
				", so it could never match",
				number, mask);
		return false;
	}
	ret->masked.value = number;
	ret->masked.mask = mask;
	return true;
}

/* ---- the rest ---- */

bool policy_value_mac(struct policy_reader *reader, struct json_object *value, uint64_t *ret)
{
	const char *text;
	uint64_t mac = 0;

	if (!policy_value_text(reader, value, &text))
		return false;
	for (size_t i = 0; i < 17; i++) {
		const bool upper = text[i] >= 'A' && text[i] <= 'F';
		const int c = upper ? text[i] - 'A' + 'a' : text[i];

		if (i % 3 == 2 && c == ':')
			continue;
		if (i % 3 != 2 && c >= '0' && c <= '9') {
			mac = mac << 4 | (uint64_t)(c - '0');
		} else if (i % 3 != 2 && c >= 'a' && c <= 'f') {
			mac = mac << 4 | (uint64_t)(c - 'a' + 10);
		} else {
			policy_complain(reader,
					"\"%.40s\" is not a link-layer address like "
					"\"02:00:00:12:34:56\"",
					text);
			return false;
		}
	}
	if (text[17] != '\0') {
		policy_complain(reader, "\"%.40s\" is longer than six bytes", text);
		return false;
	}
	*ret = mac;
	return true;
}

/* The flags named in `text`, which has commas between them. */
static bool read_flags(struct policy_reader *reader, char *text, uint64_t *ret)
{
	char *rest = text, *name;
	int flag;

	*ret = 0;
	while ((name = strsep(&rest, ","))) {
		flag = policy_name_lookup(policy_tcp_flags, name);
		if (flag < 0)
			return policy_name_unknown(reader, policy_tcp_flags, "TCP flag", name);
		*ret |= (uint64_t)flag;
	}
	return true;
}

bool policy_value_tcp_flags(struct policy_reader *reader, struct json_object *value,
			    union policy_value *ret)
{
	uint64_t flags = 0, mask;
	char copy[80], *rest = copy;
	const char *text;
	size_t length;

	if (!policy_value_text(reader, value, &text))
		return false;
	length = strlen(text);
	if (length >= sizeof(copy)) {
		policy_complain(reader, "there are only eight TCP flags; name each once");
		return false;
	}
	memcpy(copy, text, length + 1);
	strsep(&rest, "/");
	if (!rest && strcmp(copy, "none") == 0) {
		policy_complain(reader, "\"none\" needs a mask, like \"none/syn,ack,fin,rst\"");
		return false;
	}
	if (strcmp(copy, "none") != 0 && !read_flags(reader, copy, &flags))
		return false;
	mask = flags;
	if (rest && !read_flags(reader, rest, &mask))
		return false;
	if (flags & ~mask) {
		policy_complain(reader,
				"\"%s\" asks for a flag that is not in its mask, so it "
				"could never match",
				text);
		return false;
	}
	ret->masked.value = flags;
	ret->masked.mask = mask;
	return true;
}

bool policy_value_rate(struct policy_reader *reader, struct json_object *value,
		       struct policy_doc_limit *ret)
{
	static const struct {
		char letter;
		uint32_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	const char *text;
	uint64_t rate;

	if (!policy_value_text(reader, value, &text))
		return false;
	if (read_digits(&text, false, &rate) && text[0] == '/' && text[1] && !text[2]) {
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
			if (units[i].letter != text[1])
				continue;
			if (!check_range(reader, "rate", rate, 1, 1000000000))
				return false;
			ret->rate = rate;
			ret->period_s = units[i].seconds;
			return true;
		}
	}
	policy_complain(reader,
			"\"%.40s\" is not a rate like \"50/s\", \"10/m\", \"5/h\" or \"1/d\"",
			json_object_get_string(value));
	return false;
}

bool policy_value_link(struct policy_reader *reader, struct json_object *value, unsigned int *ret)
{
	struct policy_doc *doc = reader->doc;
	const char *text;
	size_t length;

	if (!policy_value_text(reader, value, &text))
		return false;
	length = strlen(text);
	if (length > 0 && text[length - 1] == '*')
		length--;
	if (text[0] == '\0' || length > 15 || strcspn(text, "*/ \t\n\v\f\r") < length ||
	    strcmp(text, ".") == 0 || strcmp(text, "..") == 0) {
		policy_complain(reader,
				"\"%.40s\" is not a link's name: 1 to 15 characters, no "
				"space or slash, a \"*\" only at the end",
				text);
		return false;
	}
	for (size_t i = 0; i < doc->ifpattern_count; i++) {
		if (strcmp(doc->ifpatterns[i], text) == 0) {
			*ret = (unsigned int)i;
			return true;
		}
	}
	if (doc->ifpattern_count == NSGATE_IFPATTERNS_MAX) {
		policy_complain(reader,
				"more than %d different link patterns in one policy; use \"*\"",
				NSGATE_IFPATTERNS_MAX);
		return false;
	}
	*ret = (unsigned int)doc->ifpattern_count;
	memcpy(doc->ifpatterns[doc->ifpattern_count++], text, strlen(text) + 1);
	return true;
}

void policy_unknown_key(struct policy_reader *reader, const char *key, const char *const *names,
			size_t count)
{
	const char *nearest = policy_nearest(key, names, count);

	if (nearest)
		policy_complain(reader, "unknown key \"%.40s\"; did you mean \"%s\"?", key,
				nearest);
	else
		policy_complain(reader, "unknown key \"%.40s\"", key);
}
