// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/document.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "ctl/ctl.h"
#include "json_scan.h"

#define DEPTH_MAX 64 /* policies go to 16, and the API's documents hold them */

int document_parse(const char *text, size_t length, struct json_object **ret)
{
	struct json_tokener *tokener;
	struct json_object *object;
	uint32_t weight;
	int err = 0;

	*ret = NULL;
	if (text == NULL || length > INT_MAX ||
	    !json_scan_document(text, length, DEPTH_MAX, &weight))
		return -EINVAL;
	tokener = json_tokener_new_ex(DEPTH_MAX + 2);
	if (tokener == NULL)
		return -ENOMEM;
	object = json_tokener_parse_ex(tokener, text, (int)length);
	if (json_tokener_get_error(tokener) == json_tokener_continue)
		object = json_tokener_parse_ex(tokener, "", 1); /* the end ends a number */
	if (json_tokener_get_error(tokener) != json_tokener_success)
		err = json_scan_refused(tokener);
	else if (json_weigh(object) != weight)
		err = -EBADMSG;
	json_tokener_free(tokener);
	if (err != 0)
		json_object_put(object);
	else
		*ret = object;
	return err;
}

const char *document_problem(int err)
{
	switch (err) {
	case 0:
		return NULL;
	case -ENOMEM:
		return "out of memory; try again";
	case -EBADMSG:
		return "out of memory, or a key is given twice";
	default:
		return "not JSON";
	}
}

struct json_object *document_find(struct json_object *object, const char *path)
{
	char key[64];

	while (object != NULL && *path != '\0') {
		size_t length = strcspn(path, ".");

		if (length >= sizeof(key) || !json_object_is_type(object, json_type_object))
			return NULL;
		memcpy(key, path, length);
		key[length] = '\0';
		if (!json_object_object_get_ex(object, key, &object))
			return NULL;
		path += length + (path[length] == '.');
	}
	return object;
}

const char *document_text(struct json_object *object, const char *path, const char *otherwise)
{
	struct json_object *found = document_find(object, path);

	return json_object_is_type(found, json_type_string) ? json_object_get_string(found)
							    : otherwise;
}

uint64_t document_count(struct json_object *object, const char *path)
{
	return json_object_get_uint64(document_find(object, path));
}

pid_t document_pid(struct json_object *object, const char *path)
{
	struct json_object *found = document_find(object, path);
	int64_t pid = json_object_is_type(found, json_type_int) ? json_object_get_int64(found) : 0;

	return pid > 0 && pid <= INT_MAX ? (pid_t)pid : 0;
}

size_t document_length(struct json_object *object, const char *path)
{
	struct json_object *found = document_find(object, path);

	if (json_object_is_type(found, json_type_array))
		return json_object_array_length(found);
	if (json_object_is_type(found, json_type_object))
		return (size_t)json_object_object_length(found);
	return 0;
}

void document_print(const struct ctl *ctl, struct json_object *object)
{
	int style = JSON_C_TO_STRING_NOSLASHESCAPE;

	if (ctl->terminal)
		style |= JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED;
	printf("%s\n", json_object_to_json_string_ext(object, style));
}
