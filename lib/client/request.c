// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/request.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "name.h"
#include "queue_number.h"

#define QUEUE_NUMBER_MAX 65535
#define TIME_MAX_MS 86400000
#define LABEL_KEY_RULE "letters, digits, '_', '.', '-' and '/'"

enum nsgate_status request_number(const char *what, const char *text, unsigned long min,
				  unsigned long max, unsigned long *ret, struct failure *fail)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long number;

	/* Ten digits hold every limit there is, and no long overflows on them. */
	if (digits == 0 || text[digits] != '\0' || digits > 10)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "%s: \"%s\" is not a number; give one from %lu to %lu", what,
				   text, min, max);
	number = strtoul(text, NULL, 10);
	if (number < min || number > max)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "%s: %s is out of range; give one from %lu to %lu", what, text,
				   min, max);
	*ret = number;
	return NSGATE_STATUS_OK;
}

/* Milliseconds that one of the unit is; 0: no such unit. */
static double unit_ms(const char *unit)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(units[i].unit, unit) == 0)
			return units[i].ms;
	return 0;
}

enum nsgate_status request_time(const char *what, const char *text, int *ret_ms,
				struct failure *fail)
{
	const size_t length = strspn(text, "0123456789.");
	char *end = NULL;
	double ms = 0;

	if (length > 0 && length <= 10 && text[0] != '.')
		ms = strtod(text, &end) * unit_ms(text + length);
	if (end != text + length || ms < 1 || ms > TIME_MAX_MS)
		return failure_set(
			fail, NSGATE_STATUS_USAGE,
			"%s: \"%s\" is not a time from 1ms to 24h; give seconds, as 5 or "
			"0.5, or a unit, as 500ms, 2s, 1m, 1h",
			what, text);
	*ret_ms = (int)ms;
	return NSGATE_STATUS_OK;
}

enum nsgate_status request_name(const char *what, const char *text, struct failure *fail)
{
	if (name_valid(text))
		return NSGATE_STATUS_OK;
	return failure_set(fail, NSGATE_STATUS_USAGE,
			   "%s: \"%s\" is not a name; a name is " NAME_RULE, what, text);
}

enum nsgate_status request_take_name(const char *what, const char *text, char ret[NSGATE_NAME_MAX],
				     struct failure *fail)
{
	enum nsgate_status status = request_name(what, text, fail);

	if (status != NSGATE_STATUS_OK)
		return status;
	memset(ret, 0, NSGATE_NAME_MAX);
	snprintf(ret, NSGATE_NAME_MAX, "%s", text);
	return NSGATE_STATUS_OK;
}

static bool label_key_valid(const char *text, size_t length)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-/";

	return length > 0 && strspn(text, allowed) >= length;
}

static bool label_value_valid(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text < ' ' || *text > '~')
			return false;
	}
	return true;
}

enum nsgate_status request_add_label(char labels[NSGATE_LABELS_MAX], const char *text,
				     struct failure *fail)
{
	const char *equals = strchr(text, '=');
	size_t key_length, length = strlen(text), used = 0;

	if (equals == NULL)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "--label: \"%s\" has no '='; give it as KEY=VALUE", text);
	key_length = (size_t)(equals - text);
	if (!label_key_valid(text, key_length))
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "--label: \"%s\" has no good key; a key is of " LABEL_KEY_RULE,
				   text);
	if (!label_value_valid(equals + 1))
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "--label: \"%s\" has a value that is not printable ASCII; "
				   "choose another",
				   text);

	while (labels[used] != '\0') {
		if (strncmp(labels + used, text, key_length + 1) == 0)
			return failure_set(fail, NSGATE_STATUS_USAGE,
					   "--label: the key of \"%s\" is given twice; give it "
					   "once",
					   text);
		used += strlen(labels + used) + 1;
	}
	if (length >= NSGATE_LABELS_MAX || used + length + 2 > NSGATE_LABELS_MAX)
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "--label: the labels are more than %d bytes together; give "
				   "fewer or shorter ones",
				   NSGATE_LABELS_MAX - 1);
	memcpy(labels + used, text, length + 1);
	labels[used + length + 1] = '\0';
	return NSGATE_STATUS_OK;
}

enum nsgate_status request_take_queues(const char *first, const char *count,
				       struct nsgate_msg_attach *ret, struct failure *fail)
{
	unsigned long queue = 0, queues = 1;
	enum nsgate_status status;

	if (first != NULL) {
		status = request_number("--queue", first, 0, QUEUE_NUMBER_MAX, &queue, fail);
		if (status != NSGATE_STATUS_OK)
			return status;
	}
	if (count != NULL) {
		status = request_number("--queues", count, 1, NSGATE_QUEUES_MAX, &queues, fail);
		if (status != NSGATE_STATUS_OK)
			return status;
	}
	if (first == NULL)
		queue = queue_number_choose((unsigned int)queues, 0);
	if (queue + queue_number_width((unsigned int)queues) - 1 > QUEUE_NUMBER_MAX)
		return failure_set(
			fail, NSGATE_STATUS_USAGE,
			"--queues: %lu queues from %lu on go beyond %d, as each takes %u "
			"numbers; choose a lower --queue",
			queues, queue, QUEUE_NUMBER_MAX, queue_number_width(1));
	ret->queue_first = (uint16_t)queue;
	ret->queue_count = (uint16_t)queues;
	return NSGATE_STATUS_OK;
}
