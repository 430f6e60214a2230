// SPDX-License-Identifier: GPL-2.0-or-later
#include "client/annotations.h"

#include <json-c/json.h>
#include <string.h>

#include "client/request.h"

#define PREFIX "io.nsgate."

static enum nsgate_status take(const char *key, struct json_object *value, const char **ret,
			       struct failure *fail)
{
	enum nsgate_status status;

	if (!json_object_is_type(value, json_type_string))
		return failure_set(fail, NSGATE_STATUS_USAGE,
				   "annotation %s: not a string; give a name", key);
	status = request_name(key, json_object_get_string(value), fail);
	if (status == NSGATE_STATUS_OK)
		*ret = json_object_get_string(value);
	return status;
}

enum nsgate_status annotations_read(struct json_object *object, struct annotations *ret,
				    struct failure *fail)
{
	enum nsgate_status status = NSGATE_STATUS_OK;
	const char *ours = NULL;

	*ret = (struct annotations){0};
	if (!json_object_is_type(object, json_type_object))
		return status;
	json_object_object_foreach (object, key, value) {
		if (strncmp(key, PREFIX, strlen(PREFIX)) != 0)
			continue;
		ours = key;
		if (strcmp(key, ANNOTATION_POLICY) == 0)
			status = take(key, value, &ret->policy, fail);
		else if (strcmp(key, ANNOTATION_NAME) == 0)
			status = take(key, value, &ret->name, fail);
		else
			status =
				failure_set(fail, NSGATE_STATUS_USAGE,
					    "annotation %s: not known; there are " ANNOTATION_POLICY
					    " and " ANNOTATION_NAME,
					    key);
		if (status != NSGATE_STATUS_OK)
			return status;
	}
	if (ours != NULL && ret->policy == NULL)
		return failure_set(
			fail, NSGATE_STATUS_USAGE,
			"annotation %s: alone it asks for nothing; add " ANNOTATION_POLICY
			"=POLICY",
			ours);
	return status;
}
