/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fed: lines. "=N TEXT" puts a pattern into list N % 64, any other line is a name to look up.
 *
 * Must hold: a host is what a plain reading of RFC 1123 says, whatever stands behind it; a set
 * finds exactly the lists of the patterns that match when they are tried one by one, and those
 * match what fnmatch(3) finds for the text of an ASCII pattern.
 */
#include <errno.h>
#include <fnmatch.h>

#include "fuzz.h"
#include "proto/domain.h"
#include "proto/domain_set.h"

#define PATTERNS_MAX 200
#define LINE_MAX_LENGTH 600

static struct {
	struct domain_pattern pattern;
	unsigned int list;
	char text[LINE_MAX_LENGTH];
} patterns[PATTERNS_MAX];
static size_t pattern_count;

static bool plain_is_host(const char *text, size_t length)
{
	char copy[LINE_MAX_LENGTH], *rest = copy, *label;
	const char *last = "";

	if (memchr(text, '\0', length) || length >= sizeof(copy))
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (length && copy[length - 1] == '.')
		copy[--length] = '\0';
	if (length < 1 || length > 253)
		return false;
	while ((label = strsep(&rest, "."))) {
		if (strlen(label) < 1 || strlen(label) > 63 ||
		    label[strspn(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					"0123456789-_")])
			return false;
		last = label;
	}
	if (last[0] == '0' && (last[1] == 'x' || last[1] == 'X'))
		return last[2 + strspn(last + 2, "0123456789abcdefABCDEF")];
	return last[strspn(last, "0123456789")];
}

static bool is_ascii(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text >= 0x80)
			return false;
	return true;
}

/* By glob(7): a star of ours that is a label is one of theirs, another one does not pass dots. */
static bool plain_matches(const char *text, const struct domain *domain)
{
	char glob[LINE_MAX_LENGTH + 2], path[sizeof(domain->text)];

	snprintf(glob, sizeof(glob), "%s", text);
	if (glob[1] && glob[strlen(glob) - 1] == '.')
		glob[strlen(glob) - 1] = '\0';
	if (glob[0] == '.')
		return strcasecmp(glob + 1, domain->text) == 0 ||
		       (snprintf(glob, sizeof(glob), "*%s", text),
			glob[strlen(glob) - 1] == '.' ? glob[strlen(glob) - 1] = '\0' : '\0',
			fnmatch(glob, domain->text, FNM_CASEFOLD) == 0 && domain->text[0] != '.');
	if (strcmp(glob, "*") == 0 || strncmp(glob, "*.", 2) == 0)
		return fnmatch(glob, domain->text, FNM_CASEFOLD) == 0;
	memcpy(path, domain->text, sizeof(path));
	for (char *dot = path; (dot = strchr(dot, '.'));)
		*dot = '/';
	for (char *dot = glob; (dot = strchr(dot, '.'));)
		*dot = '/';
	return fnmatch(glob, path, FNM_CASEFOLD | FNM_PATHNAME) == 0;
}

static void add_pattern(struct domain_set *set, const char *line, size_t length)
{
	const char *why = NULL;
	struct domain_pattern pattern;
	char text[LINE_MAX_LENGTH];
	unsigned int list;
	int err;

	if (length < 2 || pattern_count == PATTERNS_MAX)
		return;
	list = (unsigned char)line[1] % 64;
	memcpy(text, line + 2, length - 2);
	text[length - 2] = '\0';
	err = domain_pattern_parse(&pattern, text, &why);
	MUST(err == 0 || (err == -EINVAL && why && *why) || err == -ENOMEM);
	if (err < 0)
		return;
	MUST(pattern.kind < DOMAIN_PATTERN_MAX);
	MUST(pattern.domain.text[pattern.domain.length] == '\0');
	err = domain_set_add(set, list, &pattern);
	MUST(err == 0 || err == -ENOSPC);
	if (err < 0)
		return;
	patterns[pattern_count].pattern = pattern;
	patterns[pattern_count].list = list;
	memcpy(patterns[pattern_count++].text, text, length - 1);
}

static void look_up(const struct domain_set *set, const char *line, size_t length)
{
	char *exact = malloc(length ? length : 1);
	struct domain domain, again;
	uint64_t lists = 0;
	int err;

	MUST(exact);
	memcpy(exact, line, length);
	err = domain_from_host(&domain, exact, length);
	MUST(err == 0 || err == -EBADMSG);
	MUST((err == 0) == plain_is_host(exact, length));
	free(exact);
	if (err < 0)
		return;
	MUST(strlen(domain.text) == domain.length);
	MUST(strncasecmp(domain.text, line, domain.length) == 0);
	MUST(domain_from_host(&again, domain.text, domain.length) == 0);
	MUST(domain_equal(&domain, &again));
	for (size_t i = 0; i < pattern_count; i++) {
		const bool matches = domain_pattern_match(&patterns[i].pattern, &domain);

		if (is_ascii(patterns[i].text))
			MUST(matches == plain_matches(patterns[i].text, &domain));
		if (matches)
			lists |= UINT64_C(1) << patterns[i].list;
	}
	MUST(domain_set_match(set, &domain) == lists);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct domain_set *set = domain_set_new();
	const char *line = (const char *)data;

	MUST(set);
	pattern_count = 0;
	while (size > 0) {
		const char *end = memchr(line, '\n', size);
		const size_t length = end ? (size_t)(end - line) : size;

		if (length < LINE_MAX_LENGTH) {
			if (length && line[0] == '=')
				add_pattern(set, line, length);
			else
				look_up(set, line, length);
		}
		line += length + (end ? 1 : 0);
		size -= length + (end ? 1 : 0);
	}
	domain_set_free(set);
	return 0;
}
